"""The plans to choose from, and what to expect of them.

Where tests come with tasks, these are the plans at some places of the dial. The best of many plans looks better than it is on the
tasks that it was found on. So what a task costs, and how often it is right, is told mostly by a search that did not see the task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeAlias

import numpy as np
from codecascade.prices import PICODOLLARS, usd
from codecascade.types import Plan
from numpy.typing import NDArray

from codecascade_client.recording.recording import StepOption
from codecascade_client.replay.table import Table, outcome
from codecascade_client.search.chains import every_chain
from codecascade_client.search.dial import dial, hull, rest_of
from codecascade_client.search.frontier import Grid, pareto_frontier

WORTHS = (1, 2, 3.5, 5, 10, 20, 50, 100)  # values of a correct answer, in greedy answers of the largest tier
UNSEEN = 0.632
"""Weight of what a search without the task gives, beside what was seen on it. The first alone promises too little: a task that is
left out pulls the choice away from what is right for it. Source: Efron, Estimating the error rate of a prediction rule, 1983.
"""
FOLDS = 7  # parts of the tasks without tests, each judged by a search on all other tasks

Figures: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Offer:
    """A plan to choose from. Arrays: (tasks,)."""

    plan: Plan
    cost_usd: Figures  # expected per request
    right: Figures  # expected share of the runs
    value_usd: float | None = None  # of a correct answer, at which it is worth most; None for a plan of the frontier
    worth: float | None = None  # the same in greedy answers of the largest tier, where it is one of WORTHS

    @property
    def looks(self) -> bool:
        """Whether it looks at given tests. One answer of one tier does not: that tier alone is such a plan."""
        return bool(self.plan.given_steps) and [step.draws for step in self.plan.given_steps] != [1]


def offers(table: Table, grid: Grid) -> list[Offer]:
    """Cheapest first. Where no test comes with a task, the plans of the frontier, as they are on these tasks."""
    if not table.given.any():
        measured = [(point.plan, outcome(table, point.plan)) for point in pareto_frontier(table, grid)]
        return [Offer(plan, result.usd_per_task, result.right_per_task) for plan, result in measured]
    offered = at_values(table, grid, [Fraction(worth) * greedy_answer(table) for worth in WORTHS])
    return [
        replace(offer, plan=replace(offer.plan, name=f"worth-{worth}"), worth=worth)
        for worth, offer in zip(WORTHS, offered, strict=True)
    ]


def at_values(table: Table, grid: Grid, values: Sequence[Fraction]) -> list[Offer]:
    """The best plan at each value. values: picodollars for a correct answer."""
    patient, grid = patience_pays(table), evidence_that_pays(table, grid)
    found = dial(table, grid, patient=patient)
    unseen = zip(*cross_fitted(table, grid, values, patient=patient), strict=True)
    return [_promised(table, found.at(value), value, *figures) for value, figures in zip(values, unseen, strict=True)]


def _promised(table: Table, plan: Plan, value: Fraction, cost: Figures, right: Figures) -> Offer:
    """A plan that was chosen on these tasks. cost, right: what a search that did not see a task would have got of it."""
    seen = outcome(table, plan)
    return Offer(
        plan,
        UNSEEN * cost + (1 - UNSEEN) * seen.usd_per_task,
        UNSEEN * right + (1 - UNSEEN) * seen.right_per_task,
        usd(float(value)),
    )


def greedy_answer(table: Table) -> Fraction:
    """Picodollars that a greedy answer of the largest tier costs."""
    cost = table.cost[table.of(StepOption(table.tiers[-1], 0, 0))]
    return Fraction(int(cost.sum()), cost.size)


def patience_pays(table: Table) -> bool:
    """Whether the patient plans, of which there are fewer, do as well at WORTHS on tasks that the search did not see."""
    greedy = greedy_answer(table)
    if not greedy or not table.given.any():
        return False
    given = table.only(tasks=np.array(table.tasks)[table.given])
    values = [Fraction(worth) * greedy for worth in WORTHS]
    worth = [_worth_unseen(_given_apart(given, values, patient), values) for patient in (False, True)]
    return worth[1] >= worth[0]


def evidence_that_pays(table: Table, grid: Grid) -> Grid:
    """The grid for requests without tests: of the kinds of evidence that do best at WORTHS on tasks that the search did not see.

    The more plans there are, the luckier is the best of them. Of kinds that do equally well, the fewest.
    """
    greedy, log_probs, own_tests = replace(grid, ks=(0,), log_probs=()), replace(grid, ks=(0,)), replace(grid, log_probs=())
    if table.given.all() or not greedy_answer(table):
        return grid
    values = [Fraction(worth) * greedy_answer(table) for worth in WORTHS]
    kinds = dict.fromkeys((greedy, log_probs, own_tests, grid))
    return max(kinds, key=lambda kind: _worth_unseen(_rest_apart(table, kind, values), values))


def _worth_unseen(parts: Sequence[_Part], values: Sequence[Fraction]) -> float:
    """Correct answers less the cost in correct answers, the sum over all values and tasks."""
    prices = np.array([usd(float(value)) for value in values])[:, None]
    return float(sum((part.right - part.cost_usd / prices).sum() for part in parts))


def cross_fitted(table: Table, grid: Grid, values: Sequence[Fraction], *, patient: bool = False) -> tuple[Figures, Figures]:
    """(values, tasks) dollars and shares of the runs: of each task with the plan that is best at the value on the other tasks."""
    cost, right = np.empty((2, len(values), len(table.tasks)))
    for part in [*_given_apart(table, values, patient), *_rest_apart(table, grid, values)]:
        cost[:, part.columns], right[:, part.columns] = part.cost_usd, part.right
    return cost, right


@dataclass(frozen=True, slots=True)
class _Part:
    """Some tasks with plans that were found without them. Arrays: (values, columns)."""

    columns: list[int]  # of the tasks in the table
    cost_usd: Figures
    right: Figures


def _given_apart(table: Table, values: Sequence[Fraction], patient: bool) -> list[_Part]:
    """Every task that comes with tests."""
    chains = every_chain(table, patient=patient)
    sums = [(int(chain.cost.sum()), int(chain.correct.sum())) for chain in chains]
    parts = []
    for place, column in enumerate(np.flatnonzero(table.given).tolist()):
        own = [(int(chain.cost[place]), int(chain.correct[place])) for chain in chains]
        best = hull((cost - own_[0], correct - own_[1], own_) for (cost, correct), own_ in zip(sums, own, strict=True))
        cost, right = np.array([best.at(value) for value in values]).T[:, :, None] / len(table.runs)
        parts.append(_Part([column], cost / PICODOLLARS, right))
    return parts


def _rest_apart(table: Table, grid: Grid, values: Sequence[Fraction]) -> list[_Part]:
    """The tasks without tests in parts."""
    columns = np.flatnonzero(~table.given)
    return [_rest_part(table, grid, values, columns[fold::FOLDS].tolist()) for fold in range(min(FOLDS, len(columns)))]


def _rest_part(table: Table, grid: Grid, values: Sequence[Fraction], columns: list[int]) -> _Part:
    own = table.only(tasks=[table.tasks[column] for column in columns])
    others = table.only(tasks=[task for column, task in enumerate(table.tasks) if column not in columns])
    best = rest_of(others, grid)
    measured = [outcome(own, Plan("rest", best.at(value))) for value in values]
    return _Part(
        columns, np.array([result.usd_per_task for result in measured]), np.array([result.right_per_task for result in measured])
    )
