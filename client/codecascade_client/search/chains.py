"""Every plan for requests that come with tests: how many answers each tier may draw. Exact: each is computed.

Tiers are asked from the smallest up, and none is skipped: what the smaller one accepts pays for asking it. A larger, dearer
tier draws no more often than the smaller one before it. Of few tasks few plans are chosen more safely than many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from codecascade.types import GivenStep
from numpy.typing import NDArray

from codecascade_client.replay.drawn import Answered
from codecascade_client.replay.table import Table

DRAWS = (*range(1, 13), 16, 24, 32, 48, 64, 96)  # numbers of draws that are tried, where so many were recorded


@dataclass(frozen=True, slots=True)
class Chain:
    """A plan on the tasks that come with tests."""

    steps: tuple[GivenStep, ...]
    cost: NDArray[np.int64]  # (tasks,) picodollars of all runs
    correct: NDArray[np.int64]  # (tasks,) runs in which the answer is right


def every_chain(table: Table, *, patient: bool = False) -> list[Chain]:
    """None if no task comes with tests.

    patient: a plan goes on to the next tier only where the smaller one draws for as much as one answer of the next costs.
    """
    if not table.given.any():
        return []
    given = table.only(tasks=np.array(table.tasks)[table.given])
    start = Answered.nothing((len(given.runs), len(given.tasks)))
    least = [_enough(given, place) if patient else 1 for place in range(len(given.tiers))]
    longer = _longer(given, least, (), start)
    return [Chain(steps, after.cost.sum(axis=0), after.correct.sum(axis=0)) for steps, after in longer]


def _longer(
    table: Table, least: Sequence[int], steps: tuple[GivenStep, ...], before: Answered
) -> Iterator[tuple[tuple[GivenStep, ...], Answered]]:
    """All plans that begin with these steps and go on with the next tier. least: draws of each tier before the next is asked."""
    place = len(steps)
    if place == len(table.tiers):
        return
    for step in _steps(table, table.tiers[place], at_most=steps[-1].draws if steps else DRAWS[-1]):
        after = before.then(table.until(step), place)
        yield (*steps, step), after
        if step.draws >= least[place]:
            yield from _longer(table, least, (*steps, step), after)


def _enough(table: Table, place: int) -> int:
    """Draws of a tier that cost no more than one of the next, as far as they were recorded; 1 for the last tier."""
    this, *later = (table.draws[tier].cost for tier in table.tiers[place:])
    return min(len(this), max(1, int(later[0][0].sum() // max(1, this[0].sum())))) if later else 1


def _steps(table: Table, tier: str, at_most: int) -> list[GivenStep]:
    recorded = len(table.draws[tier].cost)
    return [GivenStep(tier, draws) for draws in DRAWS if draws <= min(recorded, at_most)]
