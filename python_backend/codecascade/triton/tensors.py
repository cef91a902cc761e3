"""Reads input tensors, with checks, and makes output tensors. Every failed check is an InvalidRequest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from codecascade.errors import InvalidRequest
from codecascade.tiers.contract import Tensor

Default = TypeVar("Default")


class Inputs:
    """The input tensors of one request. Scalars have shape (1,); an absent optional tensor reads as its default."""

    def __init__(self, request: Any) -> None:
        self._arrays = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}

    def check_size(self, max_bytes: int) -> None:
        """Of all tensors together. Raises InvalidRequest."""
        size = sum(map(_size, self._arrays.values()))
        if size > max_bytes:
            raise InvalidRequest(f"the request has {size} bytes, must have {max_bytes} or fewer")

    def value(self, expected: Tensor) -> Any:
        """What a tensor of a contract holds, or its default."""
        if expected.datatype == "BYTES":
            if expected.length == 1:
                return self.text(expected.name) if expected.required else self.optional_text(expected.name)
            return self.texts(expected.name)
        if expected.length != 1:
            return self.integers(expected.name)
        read = self.real if expected.datatype == "FP32" else self.integer
        return read(expected.name, expected.low, expected.high, default=expected.default)

    def has(self, name: str) -> bool:
        return name in self._arrays

    def text(self, name: str, max_bytes: int | None = None, *, empty: bool = False) -> str:
        """A BYTES scalar that must be there: UTF-8. max_bytes: None for any length. empty: whether it may be."""
        value = self.optional_text(name, max_bytes, empty=empty)
        if value is None:
            raise InvalidRequest(f"{name} is missing, it must be one UTF-8 text")
        return value

    def optional_text(self, name: str, max_bytes: int | None = None, *, empty: bool = False) -> str | None:
        """A BYTES scalar, UTF-8; None: absent. empty: whether it may be."""
        value = self._scalar(name)
        if max_bytes is not None and isinstance(value, bytes) and len(value) > max_bytes:
            raise InvalidRequest(f"{name} has {len(value)} bytes, must have {max_bytes} or fewer")
        return "" if empty and value == b"" else None if value is None else _utf8(name, value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A BYTES vector of any length, each element UTF-8 and not empty; absent: no elements."""
        if name not in self._arrays:
            return ()
        return tuple(_utf8(f"{name}[{i}]", value) for i, value in enumerate(self._arrays[name].reshape(-1)))

    def integers(self, name: str) -> tuple[int, ...]:
        """A vector of integers, of any length; absent: no elements."""
        return tuple(self._arrays[name].reshape(-1).tolist()) if name in self._arrays else ()

    def reals(self, name: str) -> tuple[float, ...]:
        """A vector of floating-point numbers, of any length; absent: no elements."""
        return tuple(self._arrays[name].reshape(-1).tolist()) if name in self._arrays else ()

    def integer(self, name: str, low: float, high: float, default: Default) -> int | Default:
        """An integer scalar in low…high."""
        value = self._scalar(name)
        if value is None:
            return default
        if not low <= int(value) <= high:
            raise InvalidRequest(f"{name} is {value}, must be {low} to {high}")
        return int(value)

    def real(self, name: str, low: float, high: float, default: Default) -> float | Default:
        """A floating-point scalar in low…high; NaN is in no range."""
        value = self._scalar(name)
        if value is None:
            return default
        if not low <= float(value) <= high:
            raise InvalidRequest(f"{name} is {value:g}, must be {low:g} to {high:g}")
        return float(value)

    def flag(self, name: str, default: Default) -> bool | Default:
        """A BOOL scalar."""
        value = self._scalar(name)
        return default if value is None else bool(value)

    def array(self, name: str) -> NDArray[Any]:
        """A tensor that must be there, as it came."""
        if name not in self._arrays:
            raise InvalidRequest(f"{name} is missing")
        array: NDArray[Any] = self._arrays[name]
        return array

    def _scalar(self, name: str) -> Any:
        """The one element; None: absent."""
        if name not in self._arrays:
            return None
        array = self._arrays[name]
        if array.size != 1:
            raise InvalidRequest(f"{name} has shape {list(array.shape)}, must be [1]")
        return array.reshape(-1)[0]


def texts(name: str, values: Sequence[str]) -> Any:
    """A BYTES vector: one element per text."""
    return tensor(name, np.array([value.encode() for value in values], np.object_))


def numbers(name: str, values: ArrayLike, dtype: DTypeLike) -> Any:
    """A tensor of `values`, in their shape."""
    return tensor(name, np.asarray(values, dtype))


def tensor(name: str, array: NDArray[Any]) -> Any:
    """An output of a model, or an input of a nested call."""
    import triton_python_backend_utils as pb_utils  # here, so that Inputs can be tested where no Triton is

    return pb_utils.Tensor(name, array)


def _size(array: NDArray[Any]) -> int:
    return sum(map(len, array.flat)) if array.dtype == np.object_ else array.nbytes


def _utf8(name: str, value: Any) -> str:
    try:
        text = value.decode("utf-8") if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{name} is not UTF-8 (byte {error.start} of {len(value)}), must be UTF-8 text") from None
    if not text:
        raise InvalidRequest(f"{name} is empty, must be UTF-8 text of at least one character")
    return text
