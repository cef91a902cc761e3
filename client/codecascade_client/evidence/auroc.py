"""How well a figure tells right answers from wrong ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codecascade_client.estimate import Z95, Estimate, wilson


def auroc(ranks: NDArray[Any], right: NDArray[np.bool_], tasks: NDArray[np.int64]) -> Estimate:
    """How probable it is that a right answer ranks above a wrong one; equal ranks count half. There must be both.

    The interval is DeLong's, with the answers to one task taken together (Obuchowski, Biometrics 1997), on the logit scale. Where
    that has no width, it is Wilson's for as many tasks as have right or wrong answers, whichever are fewer: no area varies more.
    ranks, right, tasks: (answers,); tasks: numbers from 0.
    """
    above = _shares_below(ranks[right], ranks[~right])
    below = 1 - _shares_below(ranks[~right], ranks[right])
    area = float(above.mean())
    fewest = min(_different(tasks[right]), _different(tasks[~right]))
    variance = _variance(above - area, tasks[right], below - area, tasks[~right]) if fewest > 1 else 0.0
    return _logit_interval(area, variance) if 0 < area < 1 and variance > 0 else wilson(area * fewest, fewest)


def _shares_below(ranks: NDArray[Any], others: NDArray[Any]) -> NDArray[np.float64]:
    """For each rank, the share of the others that are below it; equal ones count half."""
    ordered = np.sort(others)
    lower = np.searchsorted(ordered, ranks, "left") + np.searchsorted(ordered, ranks, "right")
    return np.asarray(lower / (2 * len(others)), np.float64)


def _variance(
    right: NDArray[np.float64], right_tasks: NDArray[np.int64], wrong: NDArray[np.float64], wrong_tasks: NDArray[np.int64]
) -> float:
    """right, wrong: how far each answer's share is from the area."""
    tasks = 1 + max(int(right_tasks.max()), int(wrong_tasks.max()))
    by_right = np.bincount(right_tasks, right, tasks) / len(right)
    by_wrong = np.bincount(wrong_tasks, wrong, tasks) / len(wrong)
    return (
        _unbiased(right_tasks) * float(by_right @ by_right)
        + _unbiased(wrong_tasks) * float(by_wrong @ by_wrong)
        + _unbiased(np.concatenate([right_tasks, wrong_tasks])) * 2 * float(by_right @ by_wrong)
    )


def _unbiased(tasks: NDArray[np.int64]) -> float:
    return _different(tasks) / (_different(tasks) - 1)


def _different(tasks: NDArray[np.int64]) -> int:
    return len(np.unique(tasks))


def _logit_interval(area: float, variance: float) -> Estimate:
    middle, half = math.log(area / (1 - area)), Z95 * math.sqrt(variance) / (area * (1 - area))
    return Estimate(area, _from_logit(middle - half), _from_logit(middle + half))


def _from_logit(value: float) -> float:
    return 0.5 * (1 + math.tanh(value / 2))
