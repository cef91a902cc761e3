from codecascade.triton.models.plans import TritonPythonModel  # noqa: F401
