"""Means with their intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z95 = 1.959964  # standard deviations to either side that hold 95 %


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over tasks with its 95 % interval."""

    mean: float
    low: float
    high: float

    def overlaps(self, other: Estimate) -> bool:
        return self.low <= other.high and other.low <= self.high


def wilson(right: float, total: int) -> Estimate:
    """A share with its 95 % Wilson score interval. right: a mean count where several answers are taken for one."""
    share, scale = right / total, 1 + Z95**2 / total
    middle = (share + Z95**2 / (2 * total)) / scale
    half = Z95 / scale * math.sqrt(share * (1 - share) / total + Z95**2 / (4 * total**2))
    return Estimate(share, max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half)))
