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
    """The steps that are worth most, correct answers times their value less the cost, at every value of a correct answer."""

    values: tuple[Fraction, ...]  # picodollars; ascending, the first is 0
    steps: tuple[Steps, ...]  # worth most from that value to the next

    def at(self, value: Fraction) -> Steps:
        return self.steps[bisect_right(self.values, value) - 1]


def hull(candidates: Iterable[tuple[int, int, Steps]]) -> Hull[Steps]:
    """candidates: picodollars, correct answers, steps. Exact: all of it is whole numbers."""
    kept: list[tuple[Fraction, int, int, Steps]] = []
    for cost, correct, steps in sorted(candidates, key=lambda candidate: (candidate[0], -candidate[1])):
        if kept and correct <= kept[-1][2]:
            continue
        while kept and (value := Fraction(cost - kept[-1][1], correct - kept[-1][2])) <= kept[-1][0]:
            kept.pop()
        kept.append((value if kept else Fraction(0), cost, correct, steps))
    return Hull(tuple(value for value, *_ in kept), tuple(steps for *_, steps in kept))


@dataclass(frozen=True, slots=True)
class Dial:
    """The best plan at every value of a correct answer."""

    given: Hull[tuple[GivenStep, ...]]  # for requests that come with tests; no steps if no task does
    rest: Hull[tuple[PlanStep, ...]]

    def at(self, value: Fraction) -> Plan:
        """The best plan. value: picodollars for a correct answer."""
        return Plan("dial", self.rest.at(value), self.given.at(value))


def dial(table: Table, grid: Grid, *, patient: bool = False) -> Dial:
    """Both kinds of steps, each searched exactly. patient: of the plans for requests that come with tests (see every_chain)."""
    every = every_chain(table, patient=patient)
    chains = [(int(chain.cost.sum()), int(chain.correct.sum()), chain.steps) for chain in every]
    return Dial(hull(chains or [(0, 0, ())]), rest_of(table, grid))


def rest_of(table: Table, grid: Grid) -> Hull[tuple[PlanStep, ...]]:
    """Steps for requests without tests, searched on tasks without; on all tasks where each comes with tests."""
    without = [task for task, given in zip(table.tasks, table.given, strict=True) if not given]
    points = pareto_frontier(table.only(tasks=without or None), grid)
    return hull((point.cost, point.correct, point.plan.steps) for point in points)
