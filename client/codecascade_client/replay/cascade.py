"""Replay: the cascade's own loop over a recording instead of a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codecascade.cascade import Answer, run_cascade
from codecascade.types import Candidate, Plan, PlanStep, Task, TestLine, TierSamples, VerdictMatrix

from codecascade_client.errors import RecordingError
from codecascade_client.recording.recording import GREEDY, Recording, Unit, option_of
from codecascade_client.words import counted


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a plan would have answered."""

    answer: Answer
    correct: bool  # by the benchmark's own tests


async def replay(plan: Plan, recording: Recording, task: str, run: int) -> Replayed:
    """The plan on one task in one run, at the manifest's prices. Raises RecordingError if a step was not recorded."""
    infill = recording.manifest.infill
    given = recording.given_tests(task) if infill or plan.given_steps else ()
    recorded = Task(
        prompt="", entry_point="recorded", given_tests=tuple(map(TestLine, given)), infill=infill
    )  # no prompt: nothing is asked again
    request = _RecordedRequest(recording, task, run)
    answer = await run_cascade(recorded, plan, request, request, recording.manifest.prices)
    return Replayed(answer, request.correct(answer))


def check_recorded(plan: Plan, recording: Recording) -> None:
    """Raises RecordingError naming the step that the recording cannot answer."""
    for tier in plan.tiers:
        if tier not in recording.manifest.tiers:
            known = ", ".join(recording.manifest.tiers)
            raise RecordingError(f"plan {plan.name!r} names tier {tier!r}, which was not recorded, recorded are {known}")
    for step in plan.infill_steps if recording.manifest.infill else plan.steps:
        if option_of(step) not in recording.options(step.tier):
            raise RecordingError(
                f"plan {plan.name!r} wants k = {step.k}, l = {step.lines_per_sample} of tier {step.tier!r}, "
                "which was not recorded"
            )
    for given in () if recording.manifest.infill else plan.given_steps:
        if given.draws > recording.draws_of(given.tier):
            raise RecordingError(
                f"plan {plan.name!r} wants {counted(given.draws, 'draw')} of tier {given.tier!r}, "
                f"the recording holds {recording.draws_of(given.tier)}"
            )


class _RecordedRequest:
    """Tiers and Sandbox of one request, read from a recording. The sandbox gives the verdicts of what was asked last."""

    def __init__(self, recording: Recording, task: str, run: int) -> None:
        self._recording = recording
        self._task = task
        self._run = run
        self._correct: list[tuple[Candidate, bool]] = []
        self._matrix: VerdictMatrix | None = None

    async def sample(self, task: Task, step: PlanStep) -> TierSamples:
        unit = Unit(step.tier, self._task, GREEDY if step.greedy else self._run)
        record = self._recording.step(unit, option_of(step))
        self._correct += zip(record.candidates, map(bool, record.correct), strict=True)
        self._matrix = record.matrix
        return TierSamples(record.candidates, _lines(record.matrix), record.prompt_tokens, record.completion_tokens)

    async def add_tests(self, task: Task, step: PlanStep, samples: TierSamples) -> TierSamples:
        record = self._recording.step(Unit(step.tier, self._task, GREEDY), option_of(step))
        self._matrix = record.matrix
        return TierSamples(samples.candidates, _lines(record.matrix), record.prompt_tokens, record.completion_tokens)

    async def draw(self, task: Task, tier: str, number: int) -> TierSamples:
        record = self._recording.draw(tier, self._task, self._run, number)
        self._correct.append((record.candidate, record.correct))
        self._matrix = record.verdicts
        return TierSamples((record.candidate,), (), record.prompt_tokens, record.completion_tokens)

    async def run(self, candidates: Sequence[Candidate], test_lines: Sequence[TestLine]) -> VerdictMatrix:
        assert self._matrix is not None, "nothing was sampled yet"
        return self._matrix

    def correct(self, answer: Answer) -> bool:
        return next(right for candidate, right in self._correct if candidate is answer.candidate)


def _lines(matrix: VerdictMatrix) -> tuple[TestLine, ...]:
    return tuple(TestLine(f"line {index}") for index in range(matrix.verdicts.shape[1]))
