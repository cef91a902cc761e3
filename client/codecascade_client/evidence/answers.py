"""What a recording knows of each answer, and whether the answer is right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from codecascade.scoring import agreements
from codecascade.types import LogProbs
from numpy.typing import NDArray

from codecascade_client.recording.recording import GREEDY, SampleRecording, Unit


@dataclass(frozen=True, slots=True)
class Passing:
    """How an answer did in tests."""

    passed: int
    total: int

    @property
    def share(self) -> float:
        """0 without a single test."""
        return self.passed / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """One answer. What is None was not recorded or not judged."""

    task: str
    right: bool  # by the benchmark's own tests
    given: Passing | None  # that come with the task
    own: Passing | None  # the test lines that its tier wrote in the same run
    paper_score: float | None  # of this answer by its tier's test lines and its other answers of the run, 0…1
    log_probs: LogProbs | None
    whole: bool = True  # a program, an infill that fits where it stands, and not cut


def judged_answers(recording: SampleRecording, tier: str, *, sampled: bool) -> list[JudgedAnswer]:
    """The greedy answers of a tier, or the sampled ones of all runs."""
    units = [unit for unit in recording.correct if unit.tier == tier and (unit.run != GREEDY) == sampled]
    return [answer for unit in units for answer in _answers(recording, unit)]


def _answers(recording: SampleRecording, unit: Unit) -> Iterator[JudgedAnswer]:
    right, given = recording.correct[unit], _given(recording, unit)
    own, scores = _own(recording, unit)
    candidates = recording.candidates(unit)
    for place, sample in enumerate(recording.draws[unit].solutions):
        yield JudgedAnswer(
            unit.task,
            bool(right[place]),
            given[place] if given else None,
            own[place] if own else None,
            scores[place] if scores else None,
            sample.log_probs,
            candidates[place].whole,
        )


def _given(recording: SampleRecording, unit: Unit) -> list[Passing]:
    """By answer; nothing if they were not judged."""
    judged = recording.given.get(unit)
    return _tests(judged.matrix.passed) if judged else []


def _own(recording: SampleRecording, unit: Unit) -> tuple[list[Passing], list[float]]:
    """Own tests and the paper's score, by answer; nothing if they were not judged. The longest test samples count."""
    asked = max(recording.draws[unit].tests, default=0)
    judged = recording.judged.get((unit, asked))
    if judged is None:
        return [], []
    best = agreements(judged.matrix).max(axis=1, initial=0)
    return _tests(judged.matrix.passed), (best / max(1, judged.matrix.passed.size)).tolist()


def _tests(passed: NDArray[np.bool_]) -> list[Passing]:
    """passed: (answers, lines)."""
    return [Passing(int(row.sum()), len(row)) for row in passed]
