"""Replay: the cascade's own loop over a recording instead of a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codecascade.cascade import Answer, run_cascade
from codecascade.types import Candidate, Plan, PlanStep, Task, TestLine, TierSamples, VerdictMatrix

from codecascade_client.errors import RecordingError
from codecascade_client.recording.recording import GREEDY, Recording, StepRecord, Unit, option_of

_RECORDED = Task(prompt="", entry_point="recorded")  # nothing is asked again, so replay needs no prompt


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a plan would have answered."""

    answer: Answer
    correct: bool  # by the benchmark's own tests


async def replay(plan: Plan, recording: Recording, task: str, run: int) -> Replayed:
    """The plan on one task in one run, at the manifest's prices. Raises RecordingError if a step was not recorded."""
    request = _RecordedRequest(recording, task, run)
    answer = await run_cascade(_RECORDED, plan, request, request, recording.manifest.prices)
    return Replayed(answer, request.correct(answer))


def check_recorded(plan: Plan, recording: Recording) -> None:
    """Raises RecordingError naming the step that the recording cannot answer."""
    for step in plan.steps:
        if step.tier not in recording.manifest.tiers:
            known = ", ".join(recording.manifest.tiers)
            raise RecordingError(f"plan {plan.name!r} names tier {step.tier!r}, which was not recorded, recorded are {known}")
        if option_of(step) not in recording.options(step.tier):
            raise RecordingError(
                f"plan {plan.name!r} wants k = {step.k}, l = {step.lines_per_sample} of tier {step.tier!r}, "
                "which was not recorded"
            )


class _RecordedRequest:
    """Tiers and Sandbox of one request, read from a recording. The sandbox gives the verdicts of the last step sampled."""

    def __init__(self, recording: Recording, task: str, run: int) -> None:
        self._recording = recording
        self._task = task
        self._run = run
        self._steps: dict[str, tuple[StepRecord, Sequence[Candidate]]] = {}
        self._matrix: VerdictMatrix | None = None

    async def sample(self, task: Task, step: PlanStep) -> TierSamples:
        unit = Unit(step.tier, self._task, GREEDY if step.greedy else self._run)
        record = self._recording.step(unit, option_of(step))
        answers = zip(record.texts, record.cut, record.tokens, strict=True)
        candidates = tuple(Candidate(text, cut=cut, tokens=tokens) for text, cut, tokens in answers)
        self._steps[step.tier] = record, candidates
        self._matrix = record.matrix
        lines = tuple(TestLine(f"line {index}") for index in range(record.matrix.verdicts.shape[1]))
        return TierSamples(candidates, lines, record.prompt_tokens, record.completion_tokens)

    async def run(self, candidates: Sequence[Candidate], test_lines: Sequence[TestLine]) -> VerdictMatrix:
        assert self._matrix is not None, "nothing was sampled yet"
        return self._matrix

    def correct(self, answer: Answer) -> bool:
        record, candidates = self._steps[answer.tier]
        index = next(index for index, candidate in enumerate(candidates) if candidate is answer.candidate)
        return bool(record.correct[index])
