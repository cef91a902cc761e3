"""The exact Pareto frontier of (cost, accuracy) over a whole grid of plans.

A step's threshold only decides which cells go on to the next step. A cell that goes on at one threshold goes on at every stricter
one. So what all combinations of two thresholds cost and get right are two-dimensional cumulative sums of one histogram: a few
additions per plan, however many cells there are. Thresholds that pass the same cells are one plan. Everything is counted in whole
numbers, costs in picodollars, so the frontier is exactly that of an enumeration.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from codecascade.types import Plan, PlanStep
from numpy.typing import NDArray

from codecascade_client.recording.recording import StepOption
from codecascade_client.replay.table import Table


@dataclass(frozen=True, slots=True)
class Grid:
    """The plans to search."""

    thresholds: tuple[float, ...]  # ascending
    shared: bool = False  # all steps of a plan have the same threshold
    ks: tuple[int, ...] | None = None  # None for all that were recorded
    lines_per_sample: tuple[int, ...] | None = None  # None for all that were recorded
    log_probs: tuple[float, ...] = ()  # ascending; limits to accept an answer, or to leave a tier, by its log-probability

    def options(self, table: Table, tier: str) -> list[StepOption]:
        return [
            option
            for option in table.options
            if option.tier == tier
            and (self.ks is None or option.k in self.ks)
            and (self.lines_per_sample is None or option.k == 0 or option.lines_per_sample in self.lines_per_sample)
        ]

    def ladders(self, table: Table, tier: str, thresholds: Sequence[float]) -> list[list[PlanStep]]:
        """The steps of a tier that is not the last one. A step of a ladder accepts no answer that the step before it does not."""
        by_tests = [option for option in self.options(table, tier) if option.k]
        ladders = [_by_threshold(_step(option), thresholds) for option in by_tests]
        greedy = StepOption(tier, 0, 0)
        if not self.log_probs or greedy not in table.options or np.isnan(table.log_prob[table.of(greedy)]).all():
            return ladders
        ladders.append([replace(_step(greedy), accept_log_prob=limit) for limit in self.log_probs])
        for option in by_tests:
            if option.k == 1:
                steps = (replace(_step(option), accept_log_prob=high, leave_log_prob=low) for low, high in self._zones())
                ladders += [_by_threshold(step, thresholds) for step in steps]
        return ladders

    def _zones(self) -> list[tuple[float | None, float]]:
        """Every (leave_log_prob, accept_log_prob)."""
        return [(low, high) for high in self.log_probs for low in (None, *self.log_probs) if low is None or low < high]

    def plans(self, table: Table) -> int:
        """How many plans the grid has. Plans with the same outcome count one by one."""
        levels = [(threshold,) for threshold in self.thresholds] if self.shared else [self.thresholds]
        alone = sum(len(_last(self.options(table, tier))) for tier in table.tiers)
        longer = [tiers for tiers in _subsets(table.tiers) if len(tiers) > 1]
        return alone + sum(self._plans_of(table, tiers, level) for level in levels for tiers in longer)

    def _plans_of(self, table: Table, tiers: Sequence[str], thresholds: Sequence[float]) -> int:
        steps = [sum(map(len, self.ladders(table, tier, thresholds))) for tier in tiers[:-1]]
        return math.prod(steps) * len(_last(self.options(table, tiers[-1])))


# A step with k = 1 is never last: it would pay for tests and answer as k = 0 does. (At each threshold, 4 of the 641 plans in the
# published tables end so. They cost more than the same plans with k = 0 and are right as often.)
PAPER = Grid((0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0), shared=True, ks=(0, 1, 3, 5, 10), lines_per_sample=(2, 4))
LOG_PROBS = (-20.0, -12.0, -8.0, -5.0, -3.0, -1.5)
WHOLE = Grid(tuple(step / 20 for step in range(1, 21)), log_probs=LOG_PROBS)


@dataclass(frozen=True, slots=True)
class Point:
    """A plan of the frontier."""

    plan: Plan
    cost: int  # picodollars of all cells
    correct: int  # cells that it gets right


def pareto_frontier(table: Table, grid: Grid) -> list[Point]:
    """The plans that no other plan of the grid beats in cost or accuracy without losing in the other. Cheapest first.

    If plans have the same cost and accuracy, the one with the fewest steps is taken.
    """
    front = _Front(table.correct[0].size)
    for thresholds in [(threshold,) for threshold in grid.thresholds] if grid.shared else [grid.thresholds]:
        _Search(table, grid, thresholds, front).run()
    return front.points()


class _Front:
    """The best plans so far."""

    def __init__(self, cells: int) -> None:
        self.cheapest = np.full(cells + 1, np.inf)  # [c]: the least cost at which c cells or more are right
        self._points: dict[int, Point] = {}  # by the cells that are right

    def offer(self, correct: NDArray[np.int64], cost: NDArray[np.float64], steps: _Steps) -> None:
        """correct, cost: of every combination of thresholds; `steps.plan` takes their indices."""
        better = np.flatnonzero(cost.ravel() < self.cheapest[correct.ravel()])
        if not better.size:
            return
        costs, counts = cost.ravel()[better], correct.ravel()[better]
        order = np.lexsort((-counts, costs))
        most = np.maximum.accumulate(counts[order])
        gains = np.concatenate(([True], most[1:] > most[:-1]))
        for place in order[gains]:
            count = int(counts[place])
            if costs[place] < self.cheapest[count]:
                self.cheapest[: count + 1] = np.minimum(self.cheapest[: count + 1], costs[place])
                indices = np.unravel_index(better[place], correct.shape)
                self._points[count] = Point(steps.plan([int(index) for index in indices]), int(costs[place]), count)

    def points(self) -> list[Point]:
        next_better = np.append(self.cheapest[1:], np.inf)
        points = [p for p in self._points.values() if p.cost == self.cheapest[p.correct] and p.cost < next_better[p.correct]]
        return sorted(points, key=lambda point: point.cost)


@dataclass(frozen=True, slots=True)
class _Option:
    """A ladder of steps, which cost the same and differ in what they accept. Arrays: (cells,)."""

    steps: tuple[PlanStep | None, ...]  # None: no step at all
    classes: NDArray[np.int64]  # a cell goes on after steps[t] if its class is ≤ t
    cost: NDArray[np.float64]
    correct: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Steps:
    """The steps of the plans that are offered, in order."""

    fixed: tuple[PlanStep, ...]  # with their thresholds
    open: tuple[_Option, ...]  # at every combination of thresholds
    last: _Option  # always accepts

    def plan(self, indices: Sequence[int]) -> Plan:
        steps = [option.steps[index] for option, index in zip(self.open, indices, strict=True)]
        return Plan("frontier", tuple(step for step in (*self.fixed, *steps, *self.last.steps) if step))


@dataclass(frozen=True, slots=True)
class _Prefix:
    """The first steps of a plan, with their thresholds."""

    steps: tuple[PlanStep, ...]
    cells: NDArray[np.int64]  # indices of the cells that go on
    correct: float  # cells that these steps answered right
    paid: float  # picodollars, for all cells


class _Search:
    def __init__(self, table: Table, grid: Grid, thresholds: tuple[float, ...], front: _Front) -> None:
        self._front = front
        self._cells = table.correct[0].size
        self._tiers = table.tiers
        ladders = {tier: grid.ladders(table, tier, thresholds) for tier in table.tiers}
        self._not_last = {tier: [_option(table, ladder) for ladder in ladders[tier]] for tier in table.tiers}
        self._last = {tier: [_last_option(table, o) for o in _last(grid.options(table, tier))] for tier in table.tiers}
        zeros = np.zeros(self._cells)
        self._no_step = _Option((None,), zeros.astype(np.int64), zeros, zeros)

    def run(self) -> None:
        everything = _Prefix((), np.arange(self._cells), 0.0, 0.0)
        for tiers in _subsets(self._tiers):
            for prefix in self._prefixes(everything, tiers[:-3], tiers):
                self._tail(prefix, tiers[-3:])

    def _prefixes(self, prefix: _Prefix, fixed: Sequence[str], tiers: Sequence[str]) -> Iterator[_Prefix]:
        """Every way to fix the steps of the tiers `fixed` that may still lead to a better plan."""
        if not fixed:
            yield prefix
            return
        for option in self._not_last[fixed[0]]:
            classes = option.classes[prefix.cells]
            paid = prefix.paid + option.cost[prefix.cells].sum()
            for index, step in enumerate(option.steps):
                assert step is not None
                stays = classes <= index
                correct = prefix.correct + option.correct[prefix.cells[~stays]].sum()
                longer = _Prefix((*prefix.steps, step), prefix.cells[stays], float(correct), float(paid))
                if self._can_gain(longer, tiers[len(longer.steps) :]):
                    yield from self._prefixes(longer, fixed[1:], tiers)

    def _can_gain(self, prefix: _Prefix, later: Sequence[str]) -> bool:
        """Whether the prefix may lead to a better plan.

        At best, a plan is right wherever any later step is, and pays for the cheapest next step only.
        """
        options = [option for tier in later for option in (*self._not_last[tier], *self._last[tier])]
        right = np.any([option.correct[prefix.cells] for option in options], axis=0).sum()
        paid = min((option.cost[prefix.cells].sum() for option in self._not_last[later[0]]), default=np.inf)
        return bool(prefix.paid + paid < self._front.cheapest[int(prefix.correct + right)])

    def _tail(self, prefix: _Prefix, tiers: Sequence[str]) -> None:
        """Offer all plans that follow the prefix with one to three more steps."""
        missing = [[self._no_step]] * (3 - len(tiers))
        first, second = [*missing, *(self._not_last[tier] for tier in tiers[:-1])]
        for a in first:
            tail_a = _Reach(a.classes[prefix.cells], len(a.steps))
            paid_a = prefix.paid + a.cost[prefix.cells].sum()
            right_a = prefix.correct + a.correct[prefix.cells].sum() - tail_a.sums(a.correct[prefix.cells])
            for b in second:
                both = tail_a.and_then(b.classes[prefix.cells], len(b.steps))
                paid_b = paid_a + tail_a.sums(b.cost[prefix.cells])
                right_b = (right_a + tail_a.sums(b.correct[prefix.cells]))[:, None] - both.sums(b.correct[prefix.cells])
                for z in self._last[tiers[-1]]:
                    paid = paid_b[:, None] + both.sums(z.cost[prefix.cells])
                    right = right_b + both.sums(z.correct[prefix.cells])
                    self._front.offer(right.astype(np.int64), paid, _Steps(prefix.steps, (a, b), z))


class _Reach:
    """Which cells go on, at each threshold of a step or at each pair of thresholds of two steps."""

    def __init__(self, classes: NDArray[np.int64], *thresholds: int) -> None:
        self._classes = classes
        self._thresholds = thresholds

    def and_then(self, classes: NDArray[np.int64], thresholds: int) -> _Reach:
        """The cells that go on after a second step too."""
        return _Reach(self._classes * (thresholds + 1) + classes, *self._thresholds, thresholds)

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(thresholds, …): the sum of the values over the cells that go on. Exact: values and sums are whole numbers."""
        shape = [count + 1 for count in self._thresholds]
        counted = np.bincount(self._classes, values, minlength=int(np.prod(shape)))
        sums = np.asarray(counted, np.float64).reshape(shape)
        for axis in range(len(shape)):
            np.cumsum(sums, axis=axis, out=sums)
        return sums[tuple(slice(count) for count in self._thresholds)]


def _option(table: Table, ladder: Sequence[PlanStep]) -> _Option:
    """The steps of a ladder that matter. Steps that accept the same cells are one; keep the strictest."""
    stepped = [table.stepped(step) for step in ladder]
    accepted = np.sum([accepts for accepts, _, _ in stepped], axis=0).ravel()
    kept = [place for place in range(len(ladder)) if place == len(ladder) - 1 or np.any(accepted == place + 1)]
    _, cost, correct = stepped[0]
    return _Option(
        steps=tuple(ladder[place] for place in kept),
        classes=np.searchsorted(kept, accepted).astype(np.int64),
        cost=cost.ravel().astype(np.float64),
        correct=correct.ravel().astype(np.float64),
    )


def _last_option(table: Table, option: StepOption) -> _Option:
    cost, correct = table.cost[table.of(option)].ravel(), table.correct[table.of(option)].ravel()
    return _Option((_step(option),), np.zeros(cost.size, np.int64), cost.astype(np.float64), correct.astype(np.float64))


def _step(option: StepOption) -> PlanStep:
    return PlanStep(option.tier, option.k, option.lines_per_sample)


def _by_threshold(step: PlanStep, thresholds: Sequence[float]) -> list[PlanStep]:
    return [replace(step, threshold=threshold) for threshold in thresholds]


def _last(options: Sequence[StepOption]) -> list[StepOption]:
    return [option for option in options if option.k != 1]


def _subsets(tiers: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for size in range(1, len(tiers) + 1):
        yield from itertools.combinations(tiers, size)
