"""Figures and plans as words."""

from __future__ import annotations

from collections.abc import Sequence

from codecascade.prices import Prices
from codecascade.types import Plan, PlanStep

from codecascade_client.estimate import Estimate


def interval(estimate: Estimate) -> str:
    return f"{estimate.low:.1%} to {estimate.high:.1%}"


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def in_words(plan: Plan) -> str:
    """`small k=3 l=2 θ=0.5 → large k=0`, or `given tests: small ×3 → large ×1; else …` with steps for given tests.

    `infills: small k=0 log-probability ≥ -1 → large k=0` comes last, where the plan has steps for them.
    """
    rest = _steps_in_words(plan.steps)
    given = " → ".join(f"{step.tier} ×{step.draws}" for step in plan.given_steps)
    infills = f"; infills: {_steps_in_words(plan.infill_steps)}" if plan.infill_steps else ""
    return (f"given tests: {given}; else {rest}" if given else rest) + infills


def _steps_in_words(steps: Sequence[PlanStep]) -> str:
    words = []
    for step in steps:
        lines = f" l={step.lines_per_sample}" if step.k else ""
        limits = "" if step is steps[-1] else f" {limits_in_words(step)}"
        words.append(f"{step.tier} k={step.k}{lines}{limits}")
    return " → ".join(words)


def limits_in_words(step: PlanStep) -> str:
    """When a step accepts and when it leaves: `θ=0.5`, `log-probability ≥ -4`, `log-probability < -9 leaves, θ=0.5`."""
    words = [f"log-probability ≥ {step.accept_log_prob:g}"] if step.accept_log_prob is not None else []
    words += [f"log-probability < {step.leave_log_prob:g} leaves"] if step.leave_log_prob is not None else []
    return ", ".join([*words, *([f"θ={step.threshold:g}"] if step.k else [])])


def price_ratio(prices: Prices) -> str:
    """Prices of a generated token, small tier to large: `1 : 1.87`. The cheapest price above 0 is 1."""
    per_mtok = [price.price_per_mtok for price in prices.tiers.values()]
    unit = min((price for price in per_mtok if price), default=1.0)
    return " : ".join(f"{price / unit:.3g}" for price in per_mtok)


def counted(number: int, what: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def dollars(usd: float) -> str:
    """Millionths of a dollar, since a request costs little."""
    return f"{usd * 1e6:,.1f} µ$"
