from codecascade.triton.sandbox import TritonPythonModel  # noqa: F401
