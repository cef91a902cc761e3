"""Adapters to Triton: tensors in and out. The only place that imports `triton_python_backend_utils`."""
