"""What each tier did for one request, why it was left, and what that cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class StepTrace:
    """One step of a plan. decision: accept | escalate | skipped (the tier failed). Tokens are those of the whole step."""

    tier: str
    k: int
    threshold: float
    decision: str
    reason: str
    solutions: int = 0
    n_test_lines: int = 0
    score: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    sandbox_s: float = 0.0
    generate_ms: float = 0.0
    sandbox_ms: float = 0.0
    wall_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Cost:
    """prompt_tokens, completion_tokens: by tier. sandbox_s: CPU seconds. cost_usd: of all three."""

    cost_usd: float
    prompt_tokens: dict[str, int]
    completion_tokens: dict[str, int]
    sandbox_s: float


def cost_of(steps: Sequence[StepTrace]) -> Cost:
    return Cost(
        cost_usd=sum(step.cost_usd for step in steps),
        prompt_tokens={step.tier: step.prompt_tokens for step in steps},
        completion_tokens={step.tier: step.completion_tokens for step in steps},
        sandbox_s=sum(step.sandbox_s for step in steps),
    )


@dataclass(frozen=True, slots=True)
class Trace:
    """note: why no tests were run, or why an answer is not the accepted one; None in the ordinary case."""

    plan: str
    entry_point: str | None
    answered_by: str
    note: str | None
    steps: tuple[StepTrace, ...]
    wall_ms: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON. Everything in it follows from request, seed and deployment, but for `*_ms`, `sandbox_s` and, where the
        sandbox has a price, `cost_usd`.
        """
        return {**asdict(self), "cost": asdict(cost_of(self.steps))}
