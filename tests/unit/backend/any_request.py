"""Requests of `cascade` as hypothesis makes them up: any inputs, of the right types, with any contents."""

from __future__ import annotations

from typing import Any

import numpy as np
from codecascade_build.paths import WRITTEN_MODELS
from google.protobuf import text_format
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import triton_to_np_dtype

CONFIG = text_format.Parse((WRITTEN_MODELS / "cascade" / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
TYPES = {
    tensor.name: model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_").replace("STRING", "BYTES")
    for tensor in CONFIG.input
}


class Tensor:
    def __init__(self, name: str, array: np.ndarray[Any, Any]) -> None:
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray[Any, Any]:
        return self._array


class Request:
    """As the Python backend hands it over."""

    def __init__(self, arrays: dict[str, np.ndarray[Any, Any]], parameters: str, request_id: str) -> None:
        self._arrays, self._parameters, self._id = arrays, parameters, request_id

    def inputs(self) -> list[Tensor]:
        return [Tensor(*item) for item in self._arrays.items()]

    def parameters(self) -> str:
        return self._parameters

    def request_id(self) -> str:
        return self._id


TEXTS = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from([b"def f():\n", b"assert f() == 1", b'{"input": "1", "output": "1"}', b"cheap", b"f"]),
)


def arrays_of(datatype: str) -> st.SearchStrategy[np.ndarray[Any, Any]]:
    if datatype == "BYTES":
        return st.lists(TEXTS, max_size=3).map(lambda values: np.array(values, np.object_))
    dtype = np.dtype(triton_to_np_dtype(datatype))
    return st.lists(st.binary(min_size=dtype.itemsize, max_size=dtype.itemsize), max_size=2).map(
        lambda values: np.frombuffer(b"".join(values), dtype)
    )


REQUESTS = st.builds(
    Request,
    st.fixed_dictionaries({}, optional={name: arrays_of(datatype) for name, datatype in TYPES.items()}),
    st.sampled_from(["", "{}", '{"id": "a"}', '{"deadlin_ms": 5}', '{"": null}']),
    st.text(max_size=5),
)
