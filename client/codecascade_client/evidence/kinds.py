"""The kinds of evidence, and how well each tells right answers from wrong ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from codecascade.types import LogProbs
from numpy.typing import NDArray

from codecascade_client.estimate import Estimate
from codecascade_client.evidence.answers import JudgedAnswer
from codecascade_client.evidence.auroc import auroc

Rank: TypeAlias = tuple[float, ...]
ALL_PASS, NONE_GIVEN = 2.0, 1.0  # ranks by given tests; answers that fail one are below, by the share that they pass


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of an answer; more of it speaks for the answer."""

    name: str
    of: Callable[[JudgedAnswer], float | None]  # None where it is missing
    missing: str  # why it is, in words


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of evidence: a figure, or several, each of which decides where those before it are equal."""

    name: str
    figures: tuple[Figure, ...]

    def rank(self, answer: JudgedAnswer) -> Rank | None:
        """None where a figure is missing."""
        figures = tuple(value for figure in self.figures if (value := figure.of(answer)) is not None)
        return figures if len(figures) == len(self.figures) else None

    def missing(self, answers: Sequence[JudgedAnswer]) -> str:
        """What all answers lack, in words; empty if some have all of it."""
        if any(self.rank(answer) is not None for answer in answers):
            return ""
        lacked = (figure for figure in self.figures if all(figure.of(answer) is None for answer in answers))
        return next((figure.missing for figure in lacked), "never together")


@dataclass(frozen=True, slots=True)
class Told:
    """How well a kind of evidence tells right answers from wrong ones."""

    answers: int  # that have this evidence
    auroc: Estimate | None
    untold: str = ""  # why there is no AUROC, in words


def tell_apart(kind: Kind, answers: Sequence[JudgedAnswer]) -> Told:
    """Answers without this evidence are left out."""
    known = [(answer, rank) for answer in answers if (rank := kind.rank(answer)) is not None]
    right = np.array([answer.right for answer, _ in known], np.bool_)
    ranks = _numbered([rank for _, rank in known])
    untold = _untold(kind, answers, right, ranks)
    if untold:
        return Told(len(known), None, untold)
    return Told(len(known), auroc(ranks, right, _numbered([answer.task for answer, _ in known])))


def _untold(kind: Kind, answers: Sequence[JudgedAnswer], right: NDArray[np.bool_], ranks: NDArray[np.int64]) -> str:
    if not answers:
        return "no answers"
    if missing := kind.missing(answers):
        return missing
    if right.all() or not right.any():
        return "all are right" if right.all() else "all are wrong"
    return "" if ranks.any() else "the same for all"


def _numbered(values: Sequence[Any]) -> NDArray[np.int64]:
    """(values,) the place of each among the different values, in their order."""
    places = {value: place for place, value in enumerate(sorted(set(values)))}
    return np.array([places[value] for value in values], np.int64)


def _given(answer: JudgedAnswer) -> float | None:
    if answer.given is None:
        return None
    if answer.given.passed < answer.given.total:
        return answer.given.share
    return ALL_PASS if answer.given.total else NONE_GIVEN


def _own(answer: JudgedAnswer) -> float | None:
    return answer.own.share if answer.own else None


def _log_probs(name: str, of: Callable[[LogProbs], float]) -> Figure:
    return Figure(name, lambda answer: of(answer.log_probs) if answer.log_probs else None, "not recorded")


GIVEN = Figure("given tests", _given, "not judged")
SUM = _log_probs("sum of log-probabilities", lambda log_probs: log_probs.total)
MEAN = _log_probs("mean log-probability", lambda log_probs: log_probs.mean)
WHOLE = Figure("whole", lambda answer: float(answer.whole), "not judged")
OWN = Figure("own tests", _own, "not judged")
_ALONE = (
    GIVEN,
    SUM,
    MEAN,
    _log_probs("lowest log-probability", lambda log_probs: log_probs.lowest),
    WHOLE,
    OWN,
    Figure("own tests, paper's score", lambda answer: answer.paper_score, "not judged"),
)
KINDS = (
    *(Kind(figure.name, (figure,)) for figure in _ALONE),
    Kind("given tests, then mean", (GIVEN, MEAN)),
    Kind("given tests, then sum", (GIVEN, SUM)),
    Kind("whole, then sum", (WHOLE, SUM)),
    Kind("own tests, then mean", (OWN, MEAN)),
)
