"""Compares what a program printed with what it should have printed, as APPS's own harness does (eval/testing_util.py).

Line by line without blanks at their ends, else without empty lines, else one number a line that is close to the one wanted
(numpy.allclose), else the sets of words of all lines, else these as numbers to three places.
"""

import math

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
    words, right_words = ([line.split() for line in text if line.strip()] for text in (found, right))
    if set(map(frozenset, words)) == set(map(frozenset, right_words)):
        return True
    try:
        return set(map(_numbers, words)) == set(map(_numbers, right_words))
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
