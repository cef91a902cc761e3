"""The `sandbox` model's tensors: candidates and test lines in, a verdict matrix out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codecascade.errors import SandboxUnavailable
from codecascade.sandbox.limits import Limits
from codecascade.types import Candidate, TestLine, Verdict, VerdictMatrix

MODEL = "sandbox"
OUTPUTS = ("verdicts", "cpu_s")
TIMEOUT_S = 300.0
"""Seconds that a matrix may take, waiting for a worker included. Then the sandbox counts as failed, here or on another server."""
_MOST_CPU_S = 1e6

CANDIDATE_CPU_S = Limits().cpu_s + 2.0
"""CPU seconds that one candidate costs at most, with all its lines: its limit, and what the kernel lets pass beyond it."""


def program_arrays(candidates: Sequence[str], test_lines: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The input tensors, by name."""
    return {"candidates": _texts(candidates), "test_lines": _texts(test_lines)}


def sources(candidates: Sequence[Candidate], test_lines: Sequence[TestLine]) -> dict[str, NDArray[Any]]:
    """The input tensors of a matrix, by name."""
    return program_arrays([candidate.source for candidate in candidates], [line.source for line in test_lines])


def matrix_arrays(matrix: VerdictMatrix) -> dict[str, NDArray[Any]]:
    """The output tensors, by name."""
    return {"verdicts": matrix.verdicts.astype(np.int8), "cpu_s": matrix.cpu_s.astype(np.float64)}


def read_matrix(arrays: Mapping[str, NDArray[Any]], shape: tuple[int, int]) -> VerdictMatrix:
    """shape: (candidates, lines) that were sent. Raises SandboxUnavailable for output that is none of the contract's."""
    verdicts = _output(arrays, "verdicts", np.dtype(np.int8), shape, len(Verdict) - 1)
    return VerdictMatrix(verdicts, _output(arrays, "cpu_s", np.dtype(np.float64), shape[:1], _MOST_CPU_S))


def _output(
    arrays: Mapping[str, NDArray[Any]], name: str, dtype: np.dtype[Any], shape: tuple[int, ...], high: float
) -> NDArray[Any]:
    array = arrays.get(name)
    if array is None:
        raise SandboxUnavailable(f"it gave no {name}")
    if array.dtype != dtype:
        raise SandboxUnavailable(f"it gave {name} of type {array.dtype}, must be {dtype}")
    if array.shape != shape:
        raise SandboxUnavailable(f"it gave {name} of shape {array.shape} instead of {shape}")
    if not ((array >= 0) & (array <= high)).all():
        raise SandboxUnavailable(f"it gave {name} with values that are not 0 to {high:g}")
    return array


def _texts(values: Sequence[str]) -> NDArray[Any]:
    return np.array([value.encode("utf-8", "replace") for value in values], np.object_)
