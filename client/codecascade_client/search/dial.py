"""The dial between cost and accuracy: for every value of a correct answer, the plan that is worth most.

A request comes with tests or not, which is known before anything is generated. So its steps are chosen for each kind apart.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

from codecascade.types import GivenStep, Plan, PlanStep

from codecascade_client.replay.table import Table
from codecascade_client.search.chains import every_chain
from codecascade_client.search.frontier import Grid, pareto_frontier

Steps = TypeVar("Steps")


@dataclass(frozen=True, slots=True)
class Hull(Generic[Steps]):
    """The steps that are worth most, value · correct answers − cost, at every value of a correct answer."""

    values: tuple[Fraction, ...]  # picodollars; ascending, the first is 0
    steps: tuple[Steps, ...]  # worth most from that value to the next

    def at(self, value: float | Fraction) -> Steps:
        return self.steps[bisect_right(self.values, value) - 1]


def hull(candidates: Iterable[tuple[int, int, Steps]]) -> Hull[Steps]:
    """candidates: picodollars, correct answers, steps. Exact: all of it is whole numbers."""
    kept: list[tuple[Fraction, int, int, Steps]] = []
    for cost, correct, steps in sorted(candidates, key=lambda candidate: (candidate[0], -candidate[1])):
        if kept and correct <= kept[-1][2]:
            continue
        value = Fraction(0)
        while kept and (value := Fraction(cost - kept[-1][1], correct - kept[-1][2])) <= kept[-1][0] and kept[-1][0]:
            kept.pop()
        kept.append((value if kept else Fraction(0), cost, correct, steps))
    return Hull(tuple(entry[0] for entry in kept), tuple(entry[3] for entry in kept))


@dataclass(frozen=True, slots=True)
class Dial:
    """The best plan at every value of a correct answer."""

    given: Hull[tuple[GivenStep, ...]] | None  # for requests that come with tests; None if no recorded task does
    rest: Hull[tuple[PlanStep, ...]]

    @property
    def values(self) -> list[Fraction]:
        """From which on another plan is best, ascending. Picodollars."""
        return sorted({*self.rest.values, *(self.given.values if self.given else ())})

    def at(self, value: float | Fraction) -> Plan:
        """The best plan, value in picodollars for a correct answer."""
        return Plan("frontier", self.rest.at(value), self.given.at(value) if self.given else ())


def dial(table: Table, grid: Grid) -> Dial:
    """Search both kinds of steps, each exactly.

    Steps for requests without tests are searched on all tasks, as if none came with tests: their kind alone is rare in HumanEval.
    """
    points = pareto_frontier(table, grid)
    chains = every_chain(table)
    sums = zip(chains.cost.sum(axis=1).tolist(), chains.correct.sum(axis=1).tolist(), chains.steps, strict=True)
    given = hull(sums) if chains.steps else None
    return Dial(given, hull((point.cost, point.correct, point.plan.steps) for point in points))
