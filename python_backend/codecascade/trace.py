"""What each tier did for one request, why it was left, and what that cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class StepTrace:
    """One step of a plan. Tokens, seconds and cost are those of the whole step."""

    tier: str
    k: int
    """Solutions that it may draw."""
    threshold: float
    decision: str
    """accept, escalate, keep (no answer passes all given tests, the best one is kept), skipped (the tier failed, or was not
    asked), or abandoned (the request ended while it was asked)."""
    reason: str
    """Why, in words."""
    finish_reason: str = ""
    """Of its best answer: stop, or length where the token limit cut it."""
    problem: str | None = None
    """Why its best answer cannot run here, in words."""
    solutions: int = 0
    n_given_tests: int = 0
    """Tests that came with the request; the score is then the share that the best answer passes."""
    n_test_lines: int = 0
    """Of the tier's own tests."""
    score: float = 0.0
    log_prob: float | None = None
    """Natural logarithm of the probability of its best answer; None where the tier does not tell."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    sandbox_s: float = 0.0
    unknown_calls: int = 0
    """Calls that failed or were stopped. What they cost is not known and in no figure here."""
    generate_ms: float = 0.0
    sandbox_ms: float = 0.0
    wall_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a request cost."""

    cost_usd: float
    prompt_tokens: dict[str, int]
    """By tier."""
    completion_tokens: dict[str, int]
    """By tier."""
    sandbox_s: float
    """CPU seconds."""


def cost_of(steps: Sequence[StepTrace]) -> Cost:
    return Cost(
        cost_usd=sum(step.cost_usd for step in steps),
        prompt_tokens={step.tier: step.prompt_tokens for step in steps},
        completion_tokens={step.tier: step.completion_tokens for step in steps},
        sandbox_s=sum(step.sandbox_s for step in steps),
    )


@dataclass(frozen=True, slots=True)
class Trace:
    """What happened to one request."""

    plan: str
    entry_point: str | None
    """The function under test, with its classes."""
    tested: str
    """How test lines begin to use it, or "the whole program"; empty if nothing was tested."""
    answered_by: str
    note: str | None
    """Why no tests were run, or why the answer is not whole or not an accepted one; None in the ordinary case."""
    steps: tuple[StepTrace, ...]
    wall_ms: float
    limit: str | None = None
    """deadline, max_cost or overloaded, where one kept the last step from a call, so that the answer is not convincing."""

    def as_dict(self) -> dict[str, Any]:
        """The trace for JSON.

        Request, seed and deployment decide everything in it but `*_ms`, `sandbox_s` and, where the sandbox has a price,
        `cost_usd`.
        """
        return {**asdict(self), "cost": asdict(cost_of(self.steps))}
