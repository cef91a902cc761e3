from codecascade.triton.cascade import TritonPythonModel  # noqa: F401
