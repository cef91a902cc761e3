"""The fast path of replay: score every step once, then compute any plan with array arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from codecascade.prices import Prices, usd
from codecascade.scoring import accepts, score_candidates
from codecascade.types import Plan
from numpy.typing import NDArray

from codecascade_client.errors import RecordingError
from codecascade_client.recording.recording import GREEDY, PublishedRecording, Recording, StepOption, Unit, option_of

_Cell: TypeAlias = tuple[int, int, int, bool, bool]
EXACT = 2**53  # the search adds in float64, which holds whole numbers exactly up to here


@dataclass(frozen=True)
class Table:
    """What every step option gives in every cell. A cell is one task in one run. Arrays: (options, runs, tasks)."""

    tiers: tuple[str, ...]  # small to large
    runs: tuple[int, ...]
    tasks: tuple[str, ...]
    options: tuple[StepOption, ...]
    agreement: NDArray[np.int64]
    pairs: NDArray[np.int64]
    cost: NDArray[np.int64]  # picodollars
    correct: NDArray[np.bool_]
    cut: NDArray[np.bool_]  # whether the token limit ended the answer

    def of(self, option: StepOption) -> int:
        """The option's index. Raises RecordingError if it was not recorded."""
        if option not in self.options:
            raise RecordingError(f"k = {option.k}, l = {option.lines_per_sample} of tier {option.tier!r} was not recorded")
        return self.options.index(option)

    def accepts(self, option: int, threshold: float) -> NDArray[np.bool_]:
        """(runs, tasks): the decision in every cell."""
        accepted: NDArray[np.bool_] = accepts(self.agreement[option], self.pairs[option], threshold, self.cut[option])
        return accepted

    def only(self, *, tasks: Iterable[str] | None = None, tiers: Iterable[str] | None = None) -> Table:
        """The table of some tasks and tiers. Raises RecordingError if none is left."""
        kept_tasks = set(self.tasks if tasks is None else tasks)
        kept_tiers = set(self.tiers if tiers is None else tiers)
        columns = [index for index, task in enumerate(self.tasks) if task in kept_tasks]
        rows = [index for index, option in enumerate(self.options) if option.tier in kept_tiers]
        if not columns or not rows:
            raise RecordingError("none of these tasks and tiers is in the recording")
        cells = np.ix_(rows, range(len(self.runs)), columns)
        return replace(
            self,
            tiers=tuple(tier for tier in self.tiers if tier in kept_tiers),
            tasks=tuple(self.tasks[index] for index in columns),
            options=tuple(self.options[index] for index in rows),
            agreement=self.agreement[cells],
            pairs=self.pairs[cells],
            cost=self.cost[cells],
            correct=self.correct[cells],
            cut=self.cut[cells],
        )


@dataclass(frozen=True)
class Outcome:
    """What a plan gives in every cell. Arrays: (runs, tasks)."""

    correct: NDArray[np.bool_]
    cost: NDArray[np.int64]  # picodollars
    answered_by: NDArray[np.int64]  # index of the tier

    @property
    def accuracy(self) -> float:
        return int(self.correct.sum()) / self.correct.size

    @property
    def cost_usd(self) -> float:
        """Dollars per request."""
        return usd(int(self.cost.sum())) / self.correct.size


def outcome(table: Table, plan: Plan) -> Outcome:
    """The plan on every cell, as replay would give it. Raises RecordingError if a step was not recorded."""
    shape = len(table.runs), len(table.tasks)
    waiting = np.ones(shape, np.bool_)
    correct = np.zeros(shape, np.bool_)
    answered_by = np.zeros(shape, np.int64)
    cost = np.zeros(shape, np.int64)
    for step in plan.steps:
        option = table.of(option_of(step))
        cost += waiting * table.cost[option]
        accepted = waiting if step == plan.steps[-1] else waiting & table.accepts(option, step.threshold)
        correct[accepted] = table.correct[option][accepted]
        answered_by[accepted] = table.tiers.index(step.tier)
        waiting = waiting & ~accepted
    return Outcome(correct, cost, answered_by)


def tabulate(recording: Recording) -> Table:
    """Score every step option of every tier once.

    The tasks are those that every tier answered, greedily and in its first sampled run. The runs are those in which every tier
    answered all these tasks. Raises RecordingError if no task is left.
    """
    tiers = tuple(recording.manifest.tiers)
    units = set(recording.units())
    absent = [tier for tier in tiers if not any(unit.tier == tier for unit in units)]
    if absent:
        raise RecordingError(f"the recording holds nothing judged of tier {absent[0]!r}")
    tasks = _tasks(recording.manifest.dataset["task_ids"], tiers, units)
    if not tasks:
        raise RecordingError("the recording holds no task that every tier answered and that was judged")
    runs = _runs(tasks, tiers, units)
    options = [option for tier in tiers for option in recording.options(tier) if option.greedy or runs != (GREEDY,)]
    prices = recording.manifest.prices
    if prices.sandbox_price_per_cpu_s and isinstance(recording, PublishedRecording):
        raise RecordingError("the recording holds no CPU seconds, sandbox_price_per_cpu_s must be 0")
    cells = [[[_score(recording, prices, option, task, run) for task in tasks] for run in runs] for option in options]
    _check_exact(options, cells)
    agreement, pairs, cost, correct, cut = np.moveaxis(np.array(cells, np.int64), -1, 0)
    return Table(tiers, runs, tasks, tuple(options), agreement, pairs, cost, correct.astype(np.bool_), cut.astype(np.bool_))


def _score(recording: Recording, prices: Prices, option: StepOption, task: str, run: int) -> _Cell:
    """Agreement, pairs, picodollars, whether the solution that it would return is right, and whether it was cut."""
    step = recording.step(Unit(option.tier, task, GREEDY if option.greedy else run), option)
    if prices.tiers[option.tier].prompt_price_per_mtok and not step.prompt_tokens:
        raise RecordingError(f"the recording holds no prompt tokens of tier {option.tier!r}, prompt_price_per_mtok must be 0")
    cost = prices.step(option.tier, step.prompt_tokens, step.completion_tokens, float(step.matrix.cpu_s.sum()))
    score = score_candidates(step.matrix, step.cut)
    return score.agreement, score.pairs, cost, bool(step.correct[score.best]), score.cut


def _check_exact(options: Sequence[StepOption], cells: Sequence[Sequence[Sequence[_Cell]]]) -> None:
    """Raises RecordingError if the cost of the dearest plan cannot be added up exactly."""
    dearest: dict[str, int] = {}
    for option, runs in zip(options, cells, strict=True):
        cost = sum(cell[2] for tasks in runs for cell in tasks)
        dearest[option.tier] = max(cost, dearest.get(option.tier, 0))
    if sum(dearest.values()) > EXACT:
        raise RecordingError(
            f"a plan can cost {usd(sum(dearest.values())):,.0f} dollars on the recorded tasks, "
            f"it is counted exactly up to {usd(EXACT):,.0f}: give lower prices"
        )


def _tasks(ids: Sequence[str], tiers: Sequence[str], units: set[Unit]) -> tuple[str, ...]:
    needed = [(tier, run) for tier in tiers for run in (GREEDY, min(_sampled(tier, units), default=GREEDY))]
    return tuple(task for task in ids if all(Unit(tier, task, run) in units for tier, run in needed))


def _runs(tasks: Sequence[str], tiers: Sequence[str], units: set[Unit]) -> tuple[int, ...]:
    """The runs in which every sampled tier answered every task. The greedy run if there is none."""
    sampled = {tier: runs for tier in tiers if (runs := _sampled(tier, units))}
    common = set.intersection(*sampled.values()) if sampled else set()
    whole = [run for run in sorted(common) if all(Unit(tier, task, run) in units for tier in sampled for task in tasks)]
    return tuple(whole) or (GREEDY,)


def _sampled(tier: str, units: set[Unit]) -> set[int]:
    return {unit.run for unit in units if unit.tier == tier and unit.run != GREEDY}
