"""The `sandbox` model's tensors: candidates and test lines in, a verdict matrix out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codecascade.errors import SandboxUnavailable
from codecascade.sandbox.limits import Limits
from codecascade.types import Candidate, TestLine, VerdictMatrix

MODEL = "sandbox"
OUTPUTS = ("verdicts", "cpu_s")
TIMEOUT_S = 300.0
"""Seconds that a matrix may take, waiting included. Then the sandbox counts as failed, here or on another server."""

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
    """shape: (candidates, lines) that were sent. Raises SandboxUnavailable for another one."""
    if arrays["verdicts"].shape != shape:
        raise SandboxUnavailable(f"verdicts of shape {arrays['verdicts'].shape} instead of {shape}")
    return VerdictMatrix(arrays["verdicts"], arrays["cpu_s"])


def _texts(values: Sequence[str]) -> NDArray[Any]:
    return np.array([value.encode("utf-8", "replace") for value in values], np.object_)
