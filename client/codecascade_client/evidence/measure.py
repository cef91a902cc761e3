"""All about the evidence in a recording: by tier, for greedy and for sampled answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from codecascade_client.errors import NotJudged
from codecascade_client.evidence.answers import JudgedAnswer, judged_answers
from codecascade_client.evidence.calibration import Bin, by_given_tests, by_log_probability
from codecascade_client.evidence.kinds import KINDS, Told, tell_apart
from codecascade_client.recording.recording import Recording, SampleRecording

ALL = "all tasks"


@dataclass(frozen=True, slots=True)
class Group:
    """Answers to some tasks."""

    right: int
    wrong: int
    told: Mapping[str, Told]  # by the name of the kind of evidence


@dataclass(frozen=True, slots=True)
class Measured:
    """What the evidence says of the greedy or of the sampled answers of a tier."""

    dataset: str
    tier: str
    sampled: bool
    tasks: int
    groups: Mapping[str, Group]  # by which tasks these are, in words
    by_given_tests: Sequence[Bin]
    by_log_probability: Sequence[Bin]

    @property
    def answers(self) -> int:
        return self.groups[ALL].right + self.groups[ALL].wrong


def measure(recording: Recording) -> list[Measured]:
    """The greedy and the sampled answers of each tier, small to large. Raises NotJudged if no answer of any tier is judged."""
    judged = _judged(recording)
    return [
        _measured(recording, tier, judged_answers(judged, tier, sampled=sampled), sampled=sampled)
        for tier in recording.manifest.tiers
        for sampled in (False, True)
    ]


def _judged(recording: Recording) -> SampleRecording:
    if not isinstance(recording, SampleRecording):
        raise NotJudged("the recording holds scores, no answers that could be right or wrong")
    if not recording.correct:
        raise NotJudged("no answer of the recording is judged: `codecascade verdicts` judges it")
    return recording


def _measured(recording: Recording, tier: str, answers: Sequence[JudgedAnswer], *, sampled: bool) -> Measured:
    groups = {
        "with given tests": [answer for answer in answers if answer.given and answer.given.total],
        "without given tests": [answer for answer in answers if answer.given and not answer.given.total],
        ALL: answers,
    }
    return Measured(
        dataset=recording.manifest.dataset["name"],
        tier=tier,
        sampled=sampled,
        tasks=len({answer.task for answer in answers}),
        groups={name: _group(members) for name, members in groups.items()},
        by_given_tests=by_given_tests(answers),
        by_log_probability=by_log_probability(answers),
    )


def _group(answers: Sequence[JudgedAnswer]) -> Group:
    right = sum(answer.right for answer in answers)
    return Group(right, len(answers) - right, {kind.name: tell_apart(kind, answers) for kind in KINDS})
