"""The fast path of replay: every step scored once, then any plan is array arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from codecascade.recordings import GREEDY, Recording, RecordingError, StepOption, Unit
from codecascade.scoring import score_candidates
from codecascade.types import Plan
from numpy.typing import NDArray

from codecascade_client.replay import option_of


@dataclass(frozen=True)
class Table:
    """What each step option gives in each cell, a cell being one task in one run.

    tiers: small to large. agreement, pairs, tokens, correct: (options, runs, tasks).
    """

    tiers: tuple[str, ...]
    runs: tuple[int, ...]
    tasks: tuple[str, ...]
    options: tuple[StepOption, ...]
    agreement: NDArray[np.int64]
    pairs: NDArray[np.int64]
    tokens: NDArray[np.int64]
    correct: NDArray[np.bool_]

    def of(self, option: StepOption) -> int:
        """Its place. Raises RecordingError if it was not recorded."""
        if option not in self.options:
            raise RecordingError(f"k = {option.k}, l = {option.test_lines} of tier {option.tier!r} was not recorded")
        return self.options.index(option)

    def accepts(self, option: int, threshold: float) -> NDArray[np.bool_]:
        """(runs, tasks): `codecascade.scoring.decide` for all cells at once."""
        accepted: NDArray[np.bool_] = self.agreement[option] >= threshold * self.pairs[option]
        accepted &= self.pairs[option] > 0
        return accepted

    def only(self, *, tasks: Iterable[str] | None = None, tiers: Iterable[str] | None = None) -> Table:
        """The same for some of the tasks and tiers. Raises RecordingError if no task is left."""
        kept_tasks = set(self.tasks if tasks is None else tasks)
        kept_tiers = set(self.tiers if tiers is None else tiers)
        columns = [index for index, task in enumerate(self.tasks) if task in kept_tasks]
        rows = [index for index, option in enumerate(self.options) if option.tier in kept_tiers]
        if not columns or not rows:
            raise RecordingError("none of these tasks and tiers is in the recording")
        cut = np.ix_(rows, range(len(self.runs)), columns)
        return replace(
            self,
            tiers=tuple(tier for tier in self.tiers if tier in kept_tiers),
            tasks=tuple(self.tasks[index] for index in columns),
            options=tuple(self.options[index] for index in rows),
            agreement=self.agreement[cut],
            pairs=self.pairs[cut],
            tokens=self.tokens[cut],
            correct=self.correct[cut],
        )


@dataclass(frozen=True)
class Outcome:
    """What a plan gives in every cell. correct: (runs, tasks) bool. tokens: (tiers, runs, tasks) generated tokens.

    answered_by: (runs, tasks), index of the tier.
    """

    correct: NDArray[np.bool_]
    tokens: NDArray[np.int64]
    answered_by: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        return int(self.correct.sum()) / self.correct.size

    def cost_usd(self, prices: Sequence[float]) -> float:
        """Dollars per request. prices: per generated token, tier by tier."""
        return price(self.tokens.sum(axis=(1, 2)).tolist(), prices) / self.correct.size


def price(tokens: Iterable[int], prices: Iterable[float]) -> float:
    """Dollars of generated tokens, tier by tier, added small to large."""
    return float(sum(count * each for count, each in zip(tokens, prices, strict=True)))


def outcome(table: Table, plan: Plan) -> Outcome:
    """The plan on every cell, equal to replaying it there. Raises RecordingError if a step was not recorded."""
    shape = len(table.runs), len(table.tasks)
    waiting = np.ones(shape, np.bool_)
    correct = np.zeros(shape, np.bool_)
    answered_by = np.zeros(shape, np.int64)
    tokens = np.zeros((len(table.tiers), *shape), np.int64)
    for step in plan.steps:
        option = table.of(option_of(step))
        tier = table.tiers.index(step.tier)
        tokens[tier] = waiting * table.tokens[option]
        accepted = waiting if step == plan.steps[-1] else waiting & table.accepts(option, step.threshold)
        correct[accepted] = table.correct[option][accepted]
        answered_by[accepted] = tier
        waiting = waiting & ~accepted
    return Outcome(correct, tokens, answered_by)


def tabulate(recording: Recording) -> Table:
    """Score every step option of every tier once.

    Tasks: those that every tier answered, greedily and in its first sampled run; runs: those in which all of these were.
    Raises RecordingError if no task is left.
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
    cells = np.array([[[_score(recording, option, task, run) for task in tasks] for run in runs] for option in options], np.int64)
    agreement, pairs, tokens, correct = np.moveaxis(cells, -1, 0)
    return Table(tiers, runs, tasks, tuple(options), agreement, pairs, tokens, correct.astype(np.bool_))


def _score(recording: Recording, option: StepOption, task: str, run: int) -> tuple[int, int, int, bool]:
    step = recording.step(Unit(option.tier, task, GREEDY if option.greedy else run), option)
    if not step.matrix.verdicts.size:
        return 0, 0, step.completion_tokens, bool(step.correct[-1])
    score = score_candidates(step.matrix)
    return score.agreement, score.pairs, step.completion_tokens, bool(step.correct[score.best])


def _tasks(ids: Sequence[str], tiers: Sequence[str], units: set[Unit]) -> tuple[str, ...]:
    needed = [(tier, run) for tier in tiers for run in (GREEDY, min(_sampled(tier, units), default=GREEDY))]
    return tuple(task for task in ids if all(Unit(tier, task, run) in units for tier, run in needed))


def _runs(tasks: Sequence[str], tiers: Sequence[str], units: set[Unit]) -> tuple[int, ...]:
    """The sampled runs that are whole in every tier that was sampled; the greedy one if there is none."""
    sampled = {tier: found for tier in tiers if (found := _sampled(tier, units))}
    common = set.intersection(*sampled.values()) if sampled else set()
    whole = [run for run in sorted(common) if all(Unit(tier, task, run) in units for tier in sampled for task in tasks)]
    return tuple(whole) or (GREEDY,)


def _sampled(tier: str, units: set[Unit]) -> set[int]:
    return {unit.run for unit in units if unit.tier == tier and unit.run != GREEDY}
