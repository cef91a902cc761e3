"""Reading a request's input tensors with checks. Every failure is an InvalidRequest: the field, its value, what is allowed."""

from __future__ import annotations

import math
from typing import Any, TypeVar

from codecascade.types import InvalidRequest

Default = TypeVar("Default")


class Inputs:
    """The input tensors of one request. Scalars have shape (1,); an absent optional tensor reads as its default."""

    def __init__(self, request: Any) -> None:
        self._arrays = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}

    def text(self, name: str) -> str:
        """A BYTES scalar that must be there: UTF-8, not empty."""
        value = self.optional_text(name)
        if value is None:
            raise InvalidRequest(f"{name} is missing, it must be one UTF-8 text")
        return value

    def optional_text(self, name: str) -> str | None:
        """A BYTES scalar, UTF-8, not empty; None: absent."""
        value = self._scalar(name)
        return None if value is None else _utf8(name, value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A BYTES vector of any length, each element UTF-8 and not empty; absent: no elements."""
        if name not in self._arrays:
            return ()
        return tuple(_utf8(f"{name}[{i}]", value) for i, value in enumerate(self._arrays[name].reshape(-1)))

    def integer(self, name: str, low: int, high: int, default: Default) -> int | Default:
        """An integer scalar in low…high."""
        value = self._scalar(name)
        return default if value is None else int(_within(name, int(value), low, high))

    def real(self, name: str, low: float, high: float, default: Default) -> float | Default:
        """A floating-point scalar in low…high; NaN is in no range."""
        value = self._scalar(name)
        return default if value is None else _within(name, float(value), low, high)

    def flag(self, name: str, default: Default) -> bool | Default:
        """A BOOL scalar."""
        value = self._scalar(name)
        return default if value is None else bool(value)

    def _scalar(self, name: str) -> Any:
        """The one element; None: absent."""
        if name not in self._arrays:
            return None
        array = self._arrays[name]
        if array.size != 1:
            raise InvalidRequest(f"{name} has shape {list(array.shape)}, allowed is [1]")
        return array.reshape(-1)[0]


def _utf8(name: str, value: Any) -> str:
    try:
        text = value.decode("utf-8") if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{name} is not UTF-8 (byte {error.start} of {len(value)}), allowed is UTF-8 text") from None
    if not text:
        raise InvalidRequest(f"{name} is empty, allowed is any UTF-8 text of at least one character")
    return text


def _within(name: str, value: float, low: float, high: float) -> float:
    if math.isnan(value) or not low <= value <= high:
        raise InvalidRequest(f"{name} is {value}, allowed are {low} to {high}")
    return value
