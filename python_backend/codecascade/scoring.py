"""Verdict matrix → score → decision, as the paper does it. The only place that scores and decides."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from codecascade.types import Decision, PlanStep, Score, VerdictMatrix


def score_candidates(matrix: VerdictMatrix) -> Score:
    """The best candidate by agreement between solutions and tests.

    For a candidate s and a line t that s passes, the agreement is n_s · n_t: the lines that s passes times the candidates
    that pass t. The first maximum wins, row by row. If nothing passes, or nothing was tested, the last candidate stands, with
    agreement 0. Source: paper, scoring of a tier; checked against its published runs.
    """
    passed = matrix.passed
    if not passed.any():
        return untested(len(passed), pairs=passed.size)
    agreement = passed * np.outer(passed.sum(axis=1), passed.sum(axis=0))
    best = int(agreement.argmax())
    return Score(best=best // passed.shape[1], agreement=int(agreement.flat[best]), pairs=passed.size)


def untested(candidates: int, pairs: int = 0) -> Score:
    """The score where no test speaks for any candidate: the last one stands."""
    return Score(best=candidates - 1, agreement=0, pairs=pairs)


def accepts(agreement: Any, pairs: Any, threshold: float) -> Any:
    """Whether a score is convincing: agreement ≥ threshold · pairs. Without a single test line there is no evidence.

    Compares whole numbers: 55 of 100 reach 0.55, which they do not in floating point. The threshold is the decimal number that
    a plan file says, to 9 digits.
    agreement, pairs: int, or arrays of one shape. Returns bool, or an array of bool.
    """
    share = Fraction(repr(float(threshold))).limit_denominator(10**9)
    return (pairs > 0) & (agreement * share.denominator >= share.numerator * pairs)


def decide(score: Score, step: PlanStep) -> Decision:
    """Accept a convincing score, escalate any other."""
    return Decision.ACCEPT if accepts(score.agreement, score.pairs, step.threshold) else Decision.ESCALATE
