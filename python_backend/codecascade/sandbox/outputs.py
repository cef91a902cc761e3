"""Compares what a program printed with what it should have printed, as APPS's own harness does (eval/testing_util.py).

Line by line without blanks at their ends, else without empty lines, else one number a line that is close to the one wanted
(numpy.allclose), else the sets of words of all lines, else these as numbers to three places.
"""

import math
from collections.abc import Callable
from typing import Any

SAME_OUTPUT = "__same_output__"
"""What a test line calls to compare: with what the program printed, and a text. The sandbox's parent does it."""


def same_output(printed: object, wanted: str) -> bool:
    if not isinstance(printed, str):
        return False
    lines = printed.splitlines()
    goal = wanted.strip()
    if "\n".join(lines).strip() == goal or "\n".join(line.strip() for line in lines).strip() == goal:
        return True
    right = [line.strip() for line in wanted.split("\n") if line]
    found = [line for line in lines if line]
    if lines == right or found == right or _all_close(found, right):
        return True
    words, right_words = [line.split() for line in found if line.strip()], [line.split() for line in right]
    return _same_sets(words, right_words, frozenset) or _same_sets(words, right_words, _numbers)


def _same_sets(found: list[list[str]], right: list[list[str]], of: Callable[[list[str]], frozenset[Any]]) -> bool:
    """Whether both have the same lines in any order. It stops at the first line that is not wanted."""
    try:
        wanted = set(map(of, right))
        return all(of(words) in wanted for words in found) and len(set(map(of, found))) == len(wanted)
    except (ValueError, OverflowError):
        return False


def _all_close(found: list[str], right: list[str]) -> bool:
    try:
        return len(found) == len(right) and all(_close(float(a), float(b)) for a, b in zip(found, right, strict=True))
    except (ValueError, OverflowError):
        return False


def _close(a: float, b: float) -> bool:
    return a == b or (math.isfinite(a) and math.isfinite(b) and abs(a - b) <= 1e-8 + 1e-5 * abs(b))


def _numbers(words: list[str]) -> frozenset[float]:
    return frozenset(round(float(word), 3) for word in words)
