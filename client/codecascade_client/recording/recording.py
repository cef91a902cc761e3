"""What tiers once answered. Any plan can be replayed from it. docs/recording-format.md describes how it is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from codecascade.prices import Prices, prices_of
from codecascade.sandbox.limits import Limits
from codecascade.types import Candidate, LogProbs, PlanStep, Verdict, VerdictMatrix
from numpy.typing import NDArray

from codecascade_client.datasets.humaneval import TESTS_CPU_S
from codecascade_client.errors import NotJudged, RecordingError

PUBLISHED_LINES = "paper"  # the setting `lines` of the paper's published samples
BROKEN = "the text holds no program"  # of a recorded candidate
_LIMITS = Limits()
GREEDY = -1  # the run of the greedy answers; sampled runs count from 0


@dataclass(frozen=True, slots=True)
class Unit:
    """What is recorded together: all that a tier answered for one task in one run."""

    tier: str
    task: str
    run: int

    def __str__(self) -> str:
        return f"tier {self.tier!r}, task {self.task}, run {self.run}"


@dataclass(frozen=True, slots=True)
class RecordedSample:
    """One completion."""

    text: str
    completion_tokens: int  # what the sample cost
    asked_lines: int = 0  # how many test lines were asked for; 0 for a solution
    line_tokens: tuple[int | None, ...] = ()
    """line_tokens[i]: what the sample would have cost had it ended after line i + 1. None if that was not measured.

    The sample has no more lines than line_tokens, unless line_tokens is empty.
    """
    prompt_tokens: int = 0  # of the call, which may have more sequences
    seed: int = 0
    temperature: float = 0.0
    finish_reason: str = "stop"
    latency_ms: float = 0.0  # of the call
    stop_word: str = ""  # that ended the text; empty if something else did, or if that was not recorded
    continued_prompt_tokens: int = 0  # of the second prompt, where the model was let go on below a stop word
    log_probs: LogProbs | None = None  # None if they were not recorded

    def tokens_at(self, lines: int) -> int | None:
        """Tokens of the test sample, had it ended after `lines` lines. None if that was not measured."""
        if lines <= min(len(self.line_tokens), self.asked_lines - 1):
            return self.line_tokens[lines - 1]
        ended_before = self.line_tokens and lines < self.asked_lines
        return self.completion_tokens if ended_before or lines == self.asked_lines else None


@dataclass(frozen=True, slots=True)
class Draw:
    """The samples of a unit."""

    solutions: tuple[RecordedSample, ...]  # in the order drawn
    tests: Mapping[int, tuple[RecordedSample, ...]]  # by the number of lines asked for


@dataclass(frozen=True, slots=True)
class JudgedWithin:
    """The CPU seconds that verdicts allow. The defaults are a cascade's, and those of older recordings, which do not tell."""

    line_cpu_s: float = _LIMITS.line_s  # for a solution's own code, and for each test line
    solution_cpu_s: float = _LIMITS.cpu_s  # for a solution with all its lines
    benchmark_cpu_s: float = TESTS_CPU_S  # for the benchmark's own tests

    def __str__(self) -> str:
        return (
            f"{self.line_cpu_s:g} CPU seconds a line, {self.solution_cpu_s:g} a solution, "
            f"{self.benchmark_cpu_s:g} for the benchmark's tests"
        )


ORDINARY = JudgedWithin()


@dataclass(frozen=True, slots=True)
class Judged:
    """Every solution of a draw against every test line of the draw."""

    matrix: VerdictMatrix
    lines: tuple[str, ...]  # (lines,) the asserts of all test samples
    line_samples: tuple[int, ...]  # (lines,) the test sample that a line comes from
    line_numbers: tuple[int, ...]  # (lines,) the line of that sample, from 1, on which it ends
    sources_sha256: str  # of the programs and lines that were judged
    within: JudgedWithin = ORDINARY

    def cut(self, k: int, lines_per_sample: int) -> VerdictMatrix:
        """The first k solutions against the first `lines_per_sample` lines of the first k test samples."""
        places = zip(self.line_samples, self.line_numbers, strict=True)
        kept = [column for column, (sample, number) in enumerate(places) if sample < k and number <= lines_per_sample]
        share = len(kept) / len(self.lines) if self.lines else 0.0
        return VerdictMatrix(self.matrix.verdicts[:k, kept], self.matrix.cpu_s[:k] * share)


@dataclass(frozen=True, slots=True)
class JudgedGiven:
    """Every solution of a draw against the tests that come with its task."""

    matrix: VerdictMatrix
    lines: tuple[str, ...]  # (lines,) empty if no test comes with the task
    sources_sha256: str  # of the programs and lines that were judged
    within: JudgedWithin = ORDINARY


@dataclass(frozen=True, slots=True)
class DrawRecord:
    """One answer of a plan that draws them one by one."""

    candidate: Candidate  # its source is the recorded text
    verdicts: VerdictMatrix  # (1, lines) against the tests that come with the task
    correct: bool  # by the benchmark's own tests
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What one step of a plan gave."""

    candidates: tuple[Candidate, ...]  # their sources are the recorded texts
    matrix: VerdictMatrix
    correct: NDArray[np.bool_]  # (candidates,) by the benchmark's own tests
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class PublishedStep:
    """A step that the paper's authors scored."""

    n_s: int  # test lines that the best solution passes
    n_t: int  # solutions that pass the best line
    pairs: int  # candidates × lines
    completion_tokens: int
    correct: bool


@dataclass(frozen=True, slots=True)
class StepOption:
    """A step of a plan without its threshold."""

    tier: str
    k: int
    lines_per_sample: int

    @property
    def greedy(self) -> bool:
        return PlanStep(self.tier, self.k, self.lines_per_sample).greedy


@dataclass(frozen=True, slots=True)
class RecordingManifest:
    """What was recorded, and how. Prices are those of codecascade.prices. Raises RecordingError if one is wrong."""

    family: str
    dataset: Mapping[str, Any]  # name, sha256, and task_ids in order
    tiers: Mapping[str, Mapping[str, Any]]  # small to large: name → what is known of it, at least price_per_mtok
    settings: Mapping[str, Any]  # what every unit was asked with
    provenance: Mapping[str, Any]
    sandbox_price_per_cpu_s: float = 0.0

    def __post_init__(self) -> None:
        try:
            _ = self.prices
        except ValueError as error:
            raise RecordingError(str(error)) from None

    @property
    def prices(self) -> Prices:
        return prices_of(self.tiers, self.sandbox_price_per_cpu_s)

    @property
    def infill(self) -> bool:
        """Whether infills were recorded, of which plans have steps of their own."""
        return str(self.dataset["name"]).startswith("infill:")

    @property
    def published(self) -> bool:
        """Whether test lines are taken as the paper's authors took them."""
        return self.settings.get("lines") == PUBLISHED_LINES


class Recording(Protocol):
    """A recording of samples, or of the authors' scores."""

    @property
    def manifest(self) -> RecordingManifest: ...

    def units(self) -> Iterable[Unit]:
        """What can be replayed: recorded and judged."""
        ...

    def options(self, tier: str) -> tuple[StepOption, ...]:
        """The steps that every unit of a tier can answer."""
        ...

    def step(self, unit: Unit, option: StepOption) -> StepRecord:
        """Raises RecordingError if it was not recorded."""
        ...

    def given_tests(self, task: str) -> tuple[str, ...]:
        """The tests that come with a task. Raises NotJudged if a tier's solutions were not judged against them."""
        ...

    def draws_of(self, tier: str) -> int:
        """How many answers every task has of a tier in each run: the greedy one and the sampled ones."""
        ...

    def draw(self, tier: str, task: str, run: int, number: int) -> DrawRecord:
        """Answer 0 is the greedy one, answer n the n-th sampled one of the run. Raises NotJudged, RecordingError."""
        ...


@dataclass(frozen=True)
class SampleRecording:
    """Samples with their verdicts."""

    manifest: RecordingManifest
    draws: Mapping[Unit, Draw]
    judged: Mapping[tuple[Unit, int], Judged]  # by unit and the number of lines asked for
    correct: Mapping[Unit, NDArray[np.bool_]]  # (solutions,) by the benchmark's own tests
    cut: Mapping[Unit, tuple[bool, ...]] = field(default_factory=dict)
    """(solutions,) whether the token limit ended the answer. A unit that is missing is older: its finish reasons count."""
    broken: Mapping[Unit, tuple[bool, ...]] = field(default_factory=dict)
    """(solutions,) whether the text holds no program. A unit that is missing is older: its texts count as programs."""
    given: Mapping[Unit, JudgedGiven] = field(default_factory=dict)
    """A unit that is missing is older: it was not judged against the tests that come with its task."""

    def units(self) -> Iterable[Unit]:
        return (
            unit
            for unit, draw in self.draws.items()
            if unit in self.correct and all((unit, lines) in self.judged for lines in draw.tests)
        )

    def options(self, tier: str) -> tuple[StepOption, ...]:
        units = [unit for unit in self.units() if unit.tier == tier]
        greedy = [self.draws[unit] for unit in units if unit.run == GREEDY]
        sampled = [self.draws[unit] for unit in units if unit.run != GREEDY]
        options = [StepOption(tier, 0, 0)] if greedy else []
        for draws, ks in ((greedy, (1,)), (sampled, range(2, 1 + min((len(draw.solutions) for draw in sampled), default=0)))):
            options += [StepOption(tier, k, lines) for k in ks for lines in _lines_of_all(draws)]
        return tuple(options)

    def step(self, unit: Unit, option: StepOption) -> StepRecord:
        draw = self.draws.get(unit)
        if draw is None or unit not in self.correct:
            raise RecordingError(f"{unit} is not in the recording, or was not judged")
        solutions = draw.solutions[: max(1, option.k)]
        if len(solutions) < option.k:
            raise RecordingError(f"the recording holds {len(solutions)} solutions of {unit}, not {option.k}")
        tests, matrix = self._tests(unit, draw, option)
        tokens = [sample.completion_tokens for sample in solutions]
        tokens += [sample.tokens_at(option.lines_per_sample) or 0 for sample in tests]
        return StepRecord(
            candidates=self.candidates(unit)[: len(solutions)],
            matrix=matrix,
            correct=self.correct[unit][: len(solutions)],
            prompt_tokens=sum(samples[0].prompt_tokens for samples in (solutions, tests) if samples)
            + sum(sample.continued_prompt_tokens for sample in solutions),
            completion_tokens=sum(tokens),
        )

    def given_tests(self, task: str) -> tuple[str, ...]:
        units = [Unit(tier, task, GREEDY) for tier in self.manifest.tiers]
        missing = next((unit for unit in units if unit not in self.given), None)
        if missing:
            raise _not_judged(missing)
        return self.given[units[0]].lines

    def draws_of(self, tier: str) -> int:
        units = [unit for unit in self.units() if unit.tier == tier]
        sampled = [len(self.draws[unit].solutions) for unit in units if unit.run != GREEDY]
        return 1 + min(sampled, default=0)

    def draw(self, tier: str, task: str, run: int, number: int) -> DrawRecord:
        unit, place = (Unit(tier, task, run), number - 1) if number else (Unit(tier, task, GREEDY), 0)
        draw = self.draws.get(unit)
        if draw is None or unit not in self.correct or place >= len(draw.solutions):
            raise RecordingError(f"the recording holds no judged solution {number} of {unit}")
        if unit not in self.given:
            raise _not_judged(unit)
        sample, matrix = draw.solutions[place], self.given[unit].matrix
        return DrawRecord(
            candidate=self.candidates(unit)[place],
            verdicts=VerdictMatrix(matrix.verdicts[place : place + 1], matrix.cpu_s[place : place + 1]),
            correct=bool(self.correct[unit][place]),
            prompt_tokens=sample.prompt_tokens + sample.continued_prompt_tokens,
            completion_tokens=sample.completion_tokens,
        )

    def candidates(self, unit: Unit) -> tuple[Candidate, ...]:
        """The solutions of a unit. Their sources are the recorded texts."""
        draw = self.draws[unit]
        cut = self.cut.get(unit) or tuple(sample.finish_reason == "length" for sample in draw.solutions)
        broken = self.broken.get(unit) or (False,) * len(draw.solutions)
        return tuple(
            Candidate(
                sample.text,
                problem=BROKEN if is_broken else None,
                cut=is_cut,
                tokens=sample.completion_tokens,
                log_probs=sample.log_probs,
            )
            for sample, is_cut, is_broken in zip(draw.solutions, cut, broken, strict=True)
        )

    def _tests(self, unit: Unit, draw: Draw, option: StepOption) -> tuple[tuple[RecordedSample, ...], VerdictMatrix]:
        if option.k == 0:
            return (), VerdictMatrix(np.zeros((1, 0), np.int8), np.zeros(1))
        asked = _asked(draw, option.lines_per_sample)
        if asked is None or (unit, asked) not in self.judged or len(draw.tests[asked]) < option.k:
            raise RecordingError(f"the recording holds no {option.k} × {option.lines_per_sample} judged test lines of {unit}")
        return draw.tests[asked][: option.k], self.judged[unit, asked].cut(option.k, option.lines_per_sample)


@dataclass(frozen=True)
class PublishedRecording:
    """The authors' scores. `step` makes a verdict matrix that has the same agreement."""

    manifest: RecordingManifest
    stages: Mapping[tuple[Unit, StepOption], PublishedStep]

    def units(self) -> Iterable[Unit]:
        return {unit for unit, _ in self.stages}

    def options(self, tier: str) -> tuple[StepOption, ...]:
        options = {option for _, option in self.stages if option.tier == tier}
        return tuple(sorted(options, key=lambda option: (option.k, option.lines_per_sample)))

    def step(self, unit: Unit, option: StepOption) -> StepRecord:
        step = self.stages.get((unit, option))
        if step is None:
            raise RecordingError(f"k = {option.k}, l = {option.lines_per_sample} of {unit} is not in the recording")
        candidates = max(1, option.k)
        return StepRecord(
            candidates=tuple(Candidate(f"solution {index} of {unit.tier} for {unit.task}") for index in range(candidates)),
            matrix=matrix_with(step, candidates),
            correct=np.full(candidates, step.correct),
            prompt_tokens=0,
            completion_tokens=step.completion_tokens,
        )

    def given_tests(self, task: str) -> tuple[str, ...]:
        raise NotJudged("the recording holds scores, no solutions that could be judged against the tests that come with a task")

    def draws_of(self, tier: str) -> int:
        return 0

    def draw(self, tier: str, task: str, run: int, number: int) -> DrawRecord:
        raise NotJudged(f"the recording holds scores, no solution of {Unit(tier, task, run)}")


def matrix_with(step: PublishedStep, candidates: int) -> VerdictMatrix:
    """(candidates, pairs / candidates): the first n_t candidates pass the first n_s lines. Nothing else passes."""
    verdicts = np.full((candidates, step.pairs // candidates), Verdict.FAIL, np.int8)
    verdicts[: step.n_t, : step.n_s] = Verdict.PASS
    return VerdictMatrix(verdicts, np.zeros(candidates))


def _not_judged(unit: Unit) -> NotJudged:
    return NotJudged(f"{unit} was not judged against the tests that come with its task: `codecascade verdicts` judges it")


def sources_sha256(sources: Iterable[str]) -> str:
    """A hash of what was judged: if extraction changes, it is judged again."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.encode() + b"\0")
    return digest.hexdigest()


def _asked(draw: Draw, lines: int) -> int | None:
    """The number of lines asked for in the test samples that can be cut after `lines` lines. None if none can."""
    for asked in sorted(draw.tests):
        if all(sample.tokens_at(lines) is not None for sample in draw.tests[asked]):
            return asked
    return None


def _lines_of_all(draws: list[Draw]) -> list[int]:
    """Every number of lines that all draws can be cut at."""
    longest = max((asked for draw in draws for asked in draw.tests), default=0)
    return [lines for lines in range(1, longest + 1) if all(_asked(draw, lines) is not None for draw in draws)]


def option_of(step: PlanStep) -> StepOption:
    return StepOption(step.tier, step.k, step.lines_per_sample)
