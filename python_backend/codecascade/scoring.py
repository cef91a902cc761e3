"""Verdict matrix → score → decision, as the paper does it. The only place that scores and decides."""

from __future__ import annotations

import numpy as np

from codecascade.types import Decision, PlanStep, Score, VerdictMatrix


def score_candidates(matrix: VerdictMatrix) -> Score:
    """The best candidate by agreement between solutions and tests.

    For a candidate s and a line t that s passes, the agreement is n_s · n_t: the lines that s passes times the candidates
    that pass t. The first maximum wins, row by row. If nothing passes, the last candidate stands, with agreement 0.
    Source: paper, scoring of a tier; checked against its published runs.
    """
    passed = matrix.passed
    if not passed.any():
        return Score(best=passed.shape[0] - 1, agreement=0, pairs=passed.size)
    agreement = passed * np.outer(passed.sum(axis=1), passed.sum(axis=0))
    best = int(agreement.argmax())
    return Score(best=best // passed.shape[1], agreement=int(agreement.flat[best]), pairs=passed.size)


def decide(score: Score, step: PlanStep) -> Decision:
    """Accept when agreement ≥ threshold · pairs. Without a single test line there is no evidence: escalate."""
    convincing = score.pairs > 0 and score.agreement >= step.threshold * score.pairs
    return Decision.ACCEPT if convincing else Decision.ESCALATE
