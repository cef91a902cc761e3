"""The fast path of replay: score every step once, then compute any plan with array arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from codecascade.prices import PICODOLLARS, Prices, usd
from codecascade.scoring import accepts, by_log_prob, score_candidates
from codecascade.types import GivenStep, Plan, PlanStep
from numpy.typing import NDArray

from codecascade_client.errors import NotJudged, RecordingError
from codecascade_client.recording.recording import GREEDY, PublishedRecording, Recording, StepOption, Unit, option_of
from codecascade_client.replay.drawn import Answered, Drawn, Draws
from codecascade_client.words import counted

_Cell: TypeAlias = tuple[int, int, int, bool, bool, bool, float | None]
EXACT = 2**53  # the search adds in float64, which holds whole numbers exactly up to here


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look at an answer's log-probability decides, before tests are asked for. Arrays: (runs, tasks)."""

    accepted: NDArray[np.bool_]
    unsure: NDArray[np.bool_]  # tests decide
    cost: NDArray[np.int64]  # picodollars, of the tests too where they decide


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
    whole: NDArray[np.bool_]  # whether the answer is a program, and was not cut
    log_prob: NDArray[np.float64]  # of the answer; NaN where it was not recorded
    draws: Mapping[str, Draws] = field(default_factory=dict)  # by tier; empty if none was judged against given tests
    undrawn: str = ""  # why there are no draws, in words

    @property
    def given(self) -> NDArray[np.bool_]:
        """(tasks,) whether tests come with the task, and answers were judged against them."""
        return next((draws.given > 0 for draws in self.draws.values()), np.zeros(len(self.tasks), np.bool_))

    def until(self, step: GivenStep) -> Drawn:
        """What a step gives for requests that come with tests. Raises RecordingError if it was not recorded."""
        draws = self.draws.get(step.tier)
        if draws is None or step.draws > len(draws.cost):
            raise RecordingError(f"{counted(step.draws, 'draw')} of tier {step.tier!r} were not recorded{self._why_undrawn}")
        return draws.until(step.draws)

    @property
    def _why_undrawn(self) -> str:
        return f": {self.undrawn}" if self.undrawn else ""

    def of(self, option: StepOption) -> int:
        """The option's index. Raises RecordingError if it was not recorded."""
        if option not in self.options:
            raise RecordingError(f"k = {option.k}, l = {option.lines_per_sample} of tier {option.tier!r} was not recorded")
        return self.options.index(option)

    def accepts(self, option: int, threshold: float) -> NDArray[np.bool_]:
        """(runs, tasks): the decision by tests in every cell."""
        accepted: NDArray[np.bool_] = accepts(self.agreement[option], self.pairs[option], threshold, self.cut[option])
        return accepted

    def looked(self, step: PlanStep) -> Looked:
        """What a step gives that looks at an answer's log-probability first. Raises RecordingError if it was not recorded."""
        first, tested = self.of(StepOption(step.tier, 0, 0)), self.of(option_of(step))
        accepted, left = by_log_prob(self.log_prob[first], self.whole[first], step)
        unsure = ~(accepted | left)
        return Looked(accepted, unsure, np.where(unsure, self.cost[tested], self.cost[first]))

    def stepped(self, step: PlanStep) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.bool_]]:
        """(runs, tasks) each: whether a step that is not the last accepts, picodollars, and whether its answer is right."""
        option = self.of(option_of(step))
        by_tests = self.accepts(option, step.threshold)
        if not step.looks_first:
            return by_tests, self.cost[option], self.correct[option]
        looked = self.looked(step)
        return looked.accepted | (looked.unsure & by_tests), looked.cost, self.correct[option]

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
            whole=self.whole[cells],
            log_prob=self.log_prob[cells],
            draws={tier: draws.only(columns) for tier, draws in self.draws.items() if tier in kept_tiers},
        )


@dataclass(frozen=True)
class Outcome:
    """What a plan gives in every cell. Arrays: (runs, tasks)."""

    correct: NDArray[np.bool_]
    cost: NDArray[np.int64]  # picodollars
    answered_by: NDArray[np.int64]  # index of the tier
    asked: NDArray[np.bool_]  # (tiers, runs, tasks)

    @property
    def right_per_task(self) -> NDArray[np.float64]:
        """(tasks,) share of the runs in which a task is right."""
        return np.asarray(self.correct.mean(axis=0), np.float64)

    @property
    def usd_per_task(self) -> NDArray[np.float64]:
        """(tasks,) dollars per request, averaged over the runs."""
        return np.asarray(self.cost.mean(axis=0) / PICODOLLARS, np.float64)

    @property
    def accuracy(self) -> float:
        return int(self.correct.sum()) / self.correct.size

    @property
    def cost_usd(self) -> float:
        """Dollars per request."""
        return usd(int(self.cost.sum())) / self.correct.size


def outcome(table: Table, plan: Plan) -> Outcome:
    """The plan on every cell, as replay would give it. Raises RecordingError if a step was not recorded."""
    rest = _by_own_tests(table, plan.steps)
    if not plan.given_steps:
        return rest
    given = _by_given_tests(table, plan.given_steps)
    return Outcome(
        correct=np.where(table.given, given.correct, rest.correct),
        cost=np.where(table.given, given.cost, rest.cost),
        answered_by=np.where(table.given, given.answered_by, rest.answered_by),
        asked=np.where(table.given, given.asked, rest.asked),
    )


def _by_own_tests(table: Table, steps: Sequence[PlanStep]) -> Outcome:
    shape = len(table.runs), len(table.tasks)
    waiting = np.ones(shape, np.bool_)
    correct = np.zeros(shape, np.bool_)
    answered_by = np.zeros(shape, np.int64)
    cost = np.zeros(shape, np.int64)
    asked = np.zeros((len(table.tiers), *shape), np.bool_)
    for step in steps:
        last = step is steps[-1]
        option = table.of(option_of(step))
        passes, paid, right = (waiting, table.cost[option], table.correct[option]) if last else table.stepped(step)
        cost += waiting * paid
        asked[table.tiers.index(step.tier)] = waiting
        accepted = waiting & passes
        correct[accepted] = right[accepted]
        answered_by[accepted] = table.tiers.index(step.tier)
        waiting = waiting & ~accepted
    return Outcome(correct, cost, answered_by, asked)


def _by_given_tests(table: Table, steps: Sequence[GivenStep]) -> Outcome:
    answered = Answered.nothing((len(table.runs), len(table.tasks)))
    asked = np.zeros((len(table.tiers), *answered.waiting.shape), np.bool_)
    for step in steps:
        asked[table.tiers.index(step.tier)] = answered.waiting
        answered = answered.then(table.until(step), table.tiers.index(step.tier))
    return Outcome(answered.correct, answered.cost, answered.by, asked)


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
    agreement, pairs, cost, correct, cut, whole, log_prob = _columns(cells, (len(options), len(runs), len(tasks)))
    draws, undrawn = _draws(recording, prices, tiers, runs, tasks)
    table = Table(tiers, runs, tasks, tuple(options), agreement, pairs, cost, correct, cut, whole, log_prob, draws, undrawn)
    _check_exact(table)
    return table


def joined(tables: Sequence[Table]) -> Table:
    """The tasks of all tables, with what each of them knows: steps, runs and draws that one lacks are left out.

    The tables are of the same tiers at the same prices. Raises RecordingError for a task that is in two of them.
    """
    first, runs = tables[0], min(len(table.runs) for table in tables)
    tasks = tuple(task for table in tables for task in table.tasks)
    if twice := next((task for task in tasks if tasks.count(task) > 1), None):
        raise RecordingError(f"task {twice} is in two recordings")
    options = [option for option in first.options if all(option in table.options for table in tables)]
    rows = [[table.of(option) for option in options] for table in tables]

    def cells(name: str) -> NDArray[Any]:
        parts = [getattr(table, name)[kept, :runs] for table, kept in zip(tables, rows, strict=True)]
        return np.concatenate(parts, axis=2)

    per_cell = {name: cells(name) for name in ("agreement", "pairs", "cost", "correct", "cut", "whole", "log_prob")}
    drawn = [table.draws for table in tables]
    undrawn = next((table.undrawn for table in tables if table.undrawn), "")
    draws = {} if undrawn else {tier: Draws.joined([draws[tier] for draws in drawn], runs) for tier in first.tiers}
    table = Table(first.tiers, first.runs[:runs], tasks, tuple(options), **per_cell, draws=draws, undrawn=undrawn)
    _check_exact(table)
    return table


def _columns(cells: Sequence[Sequence[Sequence[_Cell]]], shape: tuple[int, int, int]) -> tuple[NDArray[Any], ...]:
    """The columns of the cells, each an array (options, runs, tasks)."""
    flat = zip(*(cell for option in cells for run in option for cell in run), strict=True)
    kinds = (np.int64, np.int64, np.int64, np.bool_, np.bool_, np.bool_, np.float64)
    return tuple(np.array(column, kind).reshape(shape) for column, kind in zip(flat, kinds, strict=True))


def _score(recording: Recording, prices: Prices, option: StepOption, task: str, run: int) -> _Cell:
    """Agreement, pairs, picodollars; of the solution that it would return: whether it is right, cut and whole, its log_prob."""
    step = recording.step(Unit(option.tier, task, GREEDY if option.greedy else run), option)
    if prices.tiers[option.tier].prompt_price_per_mtok and not step.prompt_tokens:
        raise RecordingError(f"the recording holds no prompt tokens of tier {option.tier!r}, prompt_price_per_mtok must be 0")
    cost = prices.step(option.tier, step.prompt_tokens, step.completion_tokens, float(step.matrix.cpu_s.sum()))
    score = score_candidates(step.matrix, [candidate.cut for candidate in step.candidates])
    best = step.candidates[score.best]
    return score.agreement, score.pairs, cost, bool(step.correct[score.best]), best.cut, best.whole, best.log_prob


def _draws(
    recording: Recording, prices: Prices, tiers: Sequence[str], runs: Sequence[int], tasks: Sequence[str]
) -> tuple[dict[str, Draws], str]:
    """The draws of every tier; none, and why, where answers were not judged against given tests."""
    try:
        given = np.array([len(recording.given_tests(task)) for task in tasks])
        return {tier: _draws_of(recording, prices, tier, runs, tasks, given) for tier in tiers}, ""
    except NotJudged as error:
        return {}, str(error)


def _draws_of(
    recording: Recording, prices: Prices, tier: str, runs: Sequence[int], tasks: Sequence[str], given: NDArray[np.int64]
) -> Draws:
    numbers = range(recording.draws_of(tier) if runs != (GREEDY,) else 1)
    cells = [[[_drawn(recording, prices, tier, task, run, number) for task in tasks] for run in runs] for number in numbers]
    passed, cost, correct, cut = np.moveaxis(np.array(cells, np.int64), -1, 0)
    return Draws(given, passed, cost, correct.astype(np.bool_), cut.astype(np.bool_))


def _drawn(recording: Recording, prices: Prices, tier: str, task: str, run: int, number: int) -> tuple[int, int, bool, bool]:
    """Given tests that pass, picodollars, whether the answer is right, and whether it was cut."""
    draw = recording.draw(tier, task, run, number)
    cost = prices.step(tier, draw.prompt_tokens, draw.completion_tokens, float(draw.verdicts.cpu_s.sum()))
    return int(draw.verdicts.passed.sum()), cost, draw.correct, draw.candidate.cut


def _check_exact(table: Table) -> None:
    """Raises RecordingError if the cost of the dearest plan cannot be added up exactly."""
    dearest = {tier: int(draws.cost.sum()) for tier, draws in table.draws.items()}
    for option, cost in zip(table.options, table.cost, strict=True):
        dearest[option.tier] = max(int(cost.sum()), dearest.get(option.tier, 0))
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
