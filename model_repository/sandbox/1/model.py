from codecascade.triton.models.sandbox import TritonPythonModel  # noqa: F401
