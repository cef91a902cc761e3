"""Inputs against tensors as the Python backend hands them over: objects with name() and as_numpy()."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from codecascade.errors import InvalidRequest
from codecascade.triton.tensors import Inputs


class Tensor:
    def __init__(self, name: str, values: list[Any], dtype: Any) -> None:
        self._name, self._array = name, np.array(values, dtype=dtype)

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray[Any, Any]:
        return self._array


class Request:
    def __init__(self, *tensors: Tensor) -> None:
        self._tensors = tensors

    def inputs(self) -> tuple[Tensor, ...]:
        return self._tensors


def inputs(name: str, values: list[Any], dtype: Any) -> Inputs:
    return Inputs(Request(Tensor(name, values, dtype)))


NOTHING = Inputs(Request())


def test_reads_every_kind_of_scalar() -> None:
    assert inputs("prompt", ["é\n".encode()], object).text("prompt") == "é\n"
    assert inputs("n", [2**64 - 1], np.uint64).integer("n", 0, 2**64 - 1, 0) == 2**64 - 1
    assert inputs("x", [0.5], np.float32).real("x", 0, 1, 0.0) == 0.5
    assert inputs("trace", [True], np.bool_).flag("trace", False) is True
    assert inputs("stop", [b"a", b"\n"], object).texts("stop") == ("a", "\n")
    assert inputs("ranges", [[0, 7]], np.int32).integers("ranges") == (0, 7)


def test_an_absent_tensor_reads_as_its_default() -> None:
    assert NOTHING.optional_text("plan") is None
    assert NOTHING.integer("n", 1, 9, None) is None
    assert NOTHING.real("x", 0, 1, 0.25) == 0.25
    assert NOTHING.flag("trace", False) is False
    assert NOTHING.texts("stop") == ()
    assert NOTHING.integers("ranges") == ()


def test_an_absent_text_that_is_needed_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="prompt is missing"):
        NOTHING.text("prompt")


@pytest.mark.parametrize("value", [-1, 0, 10, 2**31 - 1])
def test_an_integer_out_of_range_is_refused_with_field_value_and_range(value: int) -> None:
    with pytest.raises(InvalidRequest, match=rf"^n is {value}, must be 1 to 9$"):
        inputs("n", [value], np.int32).integer("n", 1, 9, 5)


@pytest.mark.parametrize("value", [-0.1, 1.5, float("inf"), float("nan")])
def test_a_real_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(InvalidRequest, match=r"^x is \S+, must be 0 to 1$"):
        inputs("x", [value], np.float32).real("x", 0, 1, 0.0)


def test_bytes_that_are_not_utf8_are_refused_with_their_place() -> None:
    with pytest.raises(InvalidRequest, match=re.escape("prompt is not UTF-8 (byte 2 of 4)")):
        inputs("prompt", [b"ab\xff."], object).text("prompt")
    with pytest.raises(InvalidRequest, match=re.escape("stop[1] is not UTF-8")):
        inputs("stop", [b"a", b"\xc3"], object).texts("stop")


def test_empty_text_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="prompt is empty"):
        inputs("prompt", [b""], object).text("prompt")
    with pytest.raises(InvalidRequest, match=re.escape("stop[0] is empty")):
        inputs("stop", [b""], object).texts("stop")


@pytest.mark.parametrize("values", [[], [1, 2]])
def test_a_scalar_of_another_shape_is_refused(values: list[int]) -> None:
    with pytest.raises(InvalidRequest, match=rf"^n has shape \[{len(values)}\], must be \[1\]$"):
        inputs("n", values, np.int32).integer("n", 1, 9, 5)
