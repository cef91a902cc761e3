from codecascade.triton.models.cascade_stream import TritonPythonModel  # noqa: F401
