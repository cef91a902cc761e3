"""Verdict matrix → score → decision, as the paper does it. The only place that scores and decides."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codecascade.types import Decision, PlanStep, Score, VerdictMatrix


def score_candidates(matrix: VerdictMatrix, cut: Sequence[bool] = ()) -> Score:
    """The best candidate by agreement between solutions and tests.

    For a candidate s and a line t that s passes, the agreement is n_s · n_t: the lines that s passes times the candidates
    that pass t. The first maximum wins, row by row; of equal ones, one that is whole. If nothing passes, or nothing was tested,
    the last whole candidate stands, with agreement 0. Source: paper, scoring of a tier; checked against its published runs.

    cut: (candidates,) whether the token limit ended an answer; empty: none was cut.
    """
    passed, cut = matrix.passed, cut or [False] * len(matrix.verdicts)
    if not passed.any():
        return untested(cut, pairs=passed.size)
    agreement = agreements(matrix)
    best = int((2 * agreement - np.array(cut)[:, None]).argmax())
    row = best // passed.shape[1]
    return Score(row, agreement=int(agreement.flat[best]), pairs=passed.size, cut=bool(cut[row]))


def agreements(matrix: VerdictMatrix) -> NDArray[np.int64]:
    """(candidates, lines) n_s · n_t where the candidate passes the line, else 0."""
    passed = matrix.passed
    return np.asarray(passed * np.outer(passed.sum(axis=1), passed.sum(axis=0)), np.int64)


def untested(cut: Sequence[bool], pairs: int = 0) -> Score:
    """The score where no test speaks for any candidate: the last one that is whole stands. cut: (candidates,)."""
    best = max(range(len(cut)), key=lambda candidate: (not cut[candidate], candidate))
    return Score(best, agreement=0, pairs=pairs, cut=bool(cut[best]))


ALL = 1.0
"""The threshold of given tests: all must pass."""


def better_given(before: Score, score: Score) -> Score:
    """The better of two scores by the same given tests: more of them pass; of equal ones, the answer is whole; else the first."""
    return score if (score.agreement, not score.cut) > (before.agreement, not before.cut) else before


def accepts(agreement: Any, pairs: Any, threshold: float, cut: Any = False) -> Any:
    """Whether a score is convincing: agreement ≥ threshold · pairs. Without a single test line there is no evidence,
    and for an answer that the token limit cut none counts.

    Compares whole numbers: 55 of 100 reach 0.55, which they do not in floating point. The threshold is the decimal number that
    a plan file says, to 9 digits.
    agreement, pairs: int, cut: bool, or arrays of one shape. Returns bool, or an array of bool.
    """
    share = Fraction(repr(float(threshold))).limit_denominator(10**9)
    return (pairs > 0) & np.logical_not(cut) & (agreement * share.denominator >= share.numerator * pairs)


def by_log_prob(log_prob: Any, whole: Any, step: PlanStep) -> tuple[Any, Any]:
    """Whether a step accepts an answer by its log-probability, and whether it leaves its tier; neither: tests must decide.

    An answer that is not whole is left: no test would make it right. Where the log-probability is not known (None or NaN),
    nothing is accepted. log_prob: float, whole: bool, or arrays of one shape. Returns two bool, or arrays.
    """
    log_prob = np.asarray(log_prob, np.float64)  # None becomes NaN
    accepted = np.False_ if step.accept_log_prob is None else whole & (log_prob >= step.accept_log_prob)
    low = np.False_ if step.leave_log_prob is None else log_prob < step.leave_log_prob
    return accepted, np.logical_not(accepted) & (low | np.logical_not(whole) | (step.k == 0))


def decide(score: Score, step: PlanStep) -> Decision:
    """Accept a convincing score, escalate any other."""
    return Decision.ACCEPT if accepts(score.agreement, score.pairs, step.threshold, score.cut) else Decision.ESCALATE
