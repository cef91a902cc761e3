"""What tiers once answered, in a form from which any plan can be replayed. Stored as docs/recording-format.md says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from codecascade.prices import Prices, prices_of
from codecascade.types import PlanStep, Verdict, VerdictMatrix
from numpy.typing import NDArray

from codecascade_client.errors import RecordingError

GREEDY = -1  # the run that holds the greedy answers; sampled runs count from 0


@dataclass(frozen=True, slots=True)
class Unit:
    """What is recorded as one: all that a tier answered for one task in one run."""

    tier: str
    task: str
    run: int


@dataclass(frozen=True, slots=True)
class RecordedSample:
    """One completion. asked_lines: 0 for a solution, else how many test lines were asked for.

    completion_tokens: what the sample cost. line_tokens[i]: what it would have cost had it ended after line i + 1, None if
    that was not measured; it has no more lines than line_tokens, if there are any.
    prompt_tokens: of the call, which its sequences share. latency_ms: of the call.
    """

    text: str
    completion_tokens: int
    asked_lines: int = 0
    line_tokens: tuple[int | None, ...] = ()
    prompt_tokens: int = 0
    seed: int = 0
    temperature: float = 0.0
    finish_reason: str = "stop"
    latency_ms: float = 0.0

    def tokens_at(self, lines: int) -> int | None:
        """Tokens of a test sample that ends after `lines` lines at most; None if that was not measured."""
        if lines <= min(len(self.line_tokens), self.asked_lines - 1):
            return self.line_tokens[lines - 1]
        ended = self.line_tokens and lines < self.asked_lines  # before that line
        return self.completion_tokens if ended or lines == self.asked_lines else None


@dataclass(frozen=True, slots=True)
class Draw:
    """solutions: in the order drawn. tests: by the number of lines asked for."""

    solutions: tuple[RecordedSample, ...]
    tests: Mapping[int, tuple[RecordedSample, ...]]


@dataclass(frozen=True, slots=True)
class Judged:
    """Every solution of a draw against every test line of it.

    lines: (lines,) the asserts, pooled. line_samples, line_numbers: (lines,) the test sample that each comes from, and the
    line there, from 1.
    sources_sha256: of the programs and lines that were judged.
    """

    matrix: VerdictMatrix
    lines: tuple[str, ...]
    line_samples: tuple[int, ...]
    line_numbers: tuple[int, ...]
    sources_sha256: str

    def cut(self, k: int, lines_per_sample: int) -> VerdictMatrix:
        """The first k solutions against the first `lines_per_sample` lines of the first k test samples."""
        places = zip(self.line_samples, self.line_numbers, strict=True)
        kept = [column for column, (sample, number) in enumerate(places) if sample < k and number <= lines_per_sample]
        share = len(kept) / len(self.lines) if self.lines else 0.0
        return VerdictMatrix(self.matrix.verdicts[:k, kept], self.matrix.cpu_s[:k] * share)


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What one step of a plan gave. texts: (candidates,). correct: (candidates,) bool, by the benchmark's own tests."""

    texts: tuple[str, ...]
    matrix: VerdictMatrix
    correct: NDArray[np.bool_]
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class PublishedStep:
    """A step that was scored elsewhere: n_s and n_t of its best pair, pairs = candidates × lines."""

    n_s: int
    n_t: int
    pairs: int
    completion_tokens: int
    correct: bool


@dataclass(frozen=True, slots=True)
class StepOption:
    """A (k, lines_per_sample) that a recording can answer for a tier."""

    tier: str
    k: int
    lines_per_sample: int

    @property
    def greedy(self) -> bool:
        return PlanStep(self.tier, self.k, self.lines_per_sample).greedy


@dataclass(frozen=True, slots=True)
class RecordingManifest:
    """What a recording is of. dataset: name, sha256 and task_ids, in order. settings: what every unit was asked with.

    tiers: small to large, name → what is known of it, `price_per_mtok` at least. Prices are those of codecascade.prices.
    """

    family: str
    dataset: Mapping[str, Any]
    tiers: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, Any]
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


class Recording(Protocol):
    """Both kinds of recording: of samples, and of steps scored elsewhere."""

    @property
    def manifest(self) -> RecordingManifest: ...

    def units(self) -> Iterable[Unit]:
        """What can be replayed, judged included."""
        ...

    def options(self, tier: str) -> tuple[StepOption, ...]:
        """The steps that every unit of a tier can answer."""
        ...

    def step(self, unit: Unit, option: StepOption) -> StepRecord:
        """Raises RecordingError if it was not recorded."""
        ...


@dataclass(frozen=True)
class SampleRecording:
    """Samples with their verdicts. correct: (solutions,) bool, by the benchmark's own tests."""

    manifest: RecordingManifest
    draws: Mapping[Unit, Draw]
    judged: Mapping[tuple[Unit, int], Judged]
    correct: Mapping[Unit, NDArray[np.bool_]]

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
        found = [StepOption(tier, 0, 0)] if greedy else []
        for draws, ks in ((greedy, (1,)), (sampled, range(2, 1 + min((len(draw.solutions) for draw in sampled), default=0)))):
            found += [StepOption(tier, k, lines) for k in ks for lines in _lines_of_all(draws)]
        return tuple(found)

    def step(self, unit: Unit, option: StepOption) -> StepRecord:
        draw = self.draws.get(unit)
        if draw is None or unit not in self.correct:
            raise RecordingError(
                f"tier {unit.tier!r}, task {unit.task}, run {unit.run} is not in the recording, or was not judged"
            )
        solutions = draw.solutions[: max(1, option.k)]
        if len(solutions) < option.k:
            raise RecordingError(f"the recording holds {len(solutions)} solutions of {unit}, not {option.k}")
        tests, matrix = self._tests(unit, draw, option)
        tokens = [s.completion_tokens for s in solutions] + [t.tokens_at(option.lines_per_sample) or 0 for t in tests]
        return StepRecord(
            texts=tuple(sample.text for sample in solutions),
            matrix=matrix,
            correct=self.correct[unit][: len(solutions)],
            prompt_tokens=solutions[0].prompt_tokens + (tests[0].prompt_tokens if tests else 0),
            completion_tokens=sum(tokens),
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
    """Steps scored elsewhere; `step` gives a verdict matrix that has just the agreement that was found there."""

    manifest: RecordingManifest
    stages: Mapping[tuple[Unit, StepOption], PublishedStep]

    def units(self) -> Iterable[Unit]:
        return {unit for unit, _ in self.stages}

    def options(self, tier: str) -> tuple[StepOption, ...]:
        return tuple(sorted({o for _, o in self.stages if o.tier == tier}, key=lambda o: (o.k, o.lines_per_sample)))

    def step(self, unit: Unit, option: StepOption) -> StepRecord:
        stage = self.stages.get((unit, option))
        if stage is None:
            raise RecordingError(f"k = {option.k}, l = {option.lines_per_sample} of {unit} is not in the recording")
        candidates = max(1, option.k)
        return StepRecord(
            texts=tuple(f"solution {index} of {unit.tier} for {unit.task}" for index in range(candidates)),
            matrix=matrix_with(stage, candidates),
            correct=np.full(candidates, stage.correct),
            prompt_tokens=0,
            completion_tokens=stage.completion_tokens,
        )


def matrix_with(stage: PublishedStep, candidates: int) -> VerdictMatrix:
    """(candidates, pairs / candidates): the first n_t candidates pass the first n_s lines, nothing else passes."""
    verdicts = np.full((candidates, stage.pairs // candidates), Verdict.FAIL, np.int8)
    verdicts[: stage.n_t, : stage.n_s] = Verdict.PASS
    return VerdictMatrix(verdicts, np.zeros(candidates))


def sources_sha256(sources: Iterable[str]) -> str:
    """Of what was judged, so that it is judged again where extraction changed."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.encode() + b"\0")
    return digest.hexdigest()


def _asked(draw: Draw, lines: int) -> int | None:
    """The number of lines asked for in the test samples that can be cut after `lines` lines."""
    for asked in sorted(draw.tests):
        if all(sample.tokens_at(lines) is not None for sample in draw.tests[asked]):
            return asked
    return None


def _lines_of_all(draws: list[Draw]) -> list[int]:
    """Every l that all of the draws can be cut at."""
    longest = max((asked for draw in draws for asked in draw.tests), default=0)
    return [lines for lines in range(1, longest + 1) if all(_asked(draw, lines) is not None for draw in draws)]


def option_of(step: PlanStep) -> StepOption:
    return StepOption(step.tier, step.k, step.lines_per_sample)
