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


def wilson(right: int, total: int) -> Estimate:
    """A share with its 95 % Wilson score interval."""
    share, scale = right / total, 1 + _Z95**2 / total
    middle = (share + _Z95**2 / (2 * total)) / scale
    half = _Z95 / scale * math.sqrt(share * (1 - share) / total + _Z95**2 / (4 * total**2))
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half))
