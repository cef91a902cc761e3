from codecascade.triton.models.cascade import TritonPythonModel  # noqa: F401
