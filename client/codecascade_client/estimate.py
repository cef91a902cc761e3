"""Means with their intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

_Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over tasks with its 95 % interval."""

    mean: float
    low: float
    high: float

    def overlaps(self, other: Estimate) -> bool:
        return self.low <= other.high and other.low <= self.high


def wilson(right: int, of: int) -> Estimate:
    """A share with its 95 % Wilson score interval."""
    share, scale = right / of, 1 + _Z95**2 / of
    middle = (share + _Z95**2 / (2 * of)) / scale
    half = _Z95 / scale * math.sqrt(share * (1 - share) / of + _Z95**2 / (4 * of**2))
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half))
