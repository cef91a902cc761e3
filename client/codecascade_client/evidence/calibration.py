"""How often answers are right, by what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codecascade_client.estimate import Estimate, wilson
from codecascade_client.evidence.answers import JudgedAnswer

QUARTERS = 4


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of which the same is known."""

    name: str
    answers: int
    right: int
    share: Estimate | None
    """Of right answers; None if there are no answers. The interval takes the answers to one task for a single one."""


def by_given_tests(answers: Sequence[JudgedAnswer]) -> list[Bin]:
    """Nothing if no answer was judged against given tests."""
    judged = [(answer, answer.given) for answer in answers if answer.given is not None]
    bins = {
        "some fail": [answer for answer, given in judged if given.passed < given.total],
        "none given": [answer for answer, given in judged if not given.total],
        "all pass": [answer for answer, given in judged if given.passed == given.total > 0],
    }
    return [_bin(name, members) for name, members in bins.items()] if judged else []


def by_log_probability(answers: Sequence[JudgedAnswer]) -> list[Bin]:
    """By quarters of the mean log-probability, the lowest first. Nothing if none was recorded."""
    told = [(answer.log_probs.mean, answer) for answer in answers if answer.log_probs]
    if not told:
        return []
    means = np.array([mean for mean, _ in told])
    edges = np.quantile(means, np.linspace(0, 1, QUARTERS + 1))
    quarters = np.searchsorted(edges[1:-1], means, "left")  # equal means are in one quarter
    bins = []
    for number in range(QUARTERS):
        members = [answer for quarter, (_, answer) in zip(quarters.tolist(), told, strict=True) if quarter == number]
        bins.append(_bin(f"{edges[number]:.3f} to {edges[number + 1]:.3f}", members))
    return bins


def _bin(name: str, answers: Sequence[JudgedAnswer]) -> Bin:
    right, tasks = sum(answer.right for answer in answers), len({answer.task for answer in answers})
    return Bin(name, len(answers), right, wilson(right / len(answers) * tasks, tasks) if answers else None)
