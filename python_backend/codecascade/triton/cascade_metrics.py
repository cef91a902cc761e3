"""What the `cascade` model counts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from codecascade.cascade import Answer
from codecascade.errors import InvalidRequest, LimitReached
from codecascade.trace import StepTrace
from codecascade.triton.metrics import Counters


class CascadeMetrics:
    """Counters of requests, and of what each tier did and cost."""

    def __init__(self) -> None:
        self._requests = Counters("codecascade_requests", "Requests by plan and outcome", ["plan", "outcome"])
        self._decisions = Counters("codecascade_decisions", "What was decided about each tier's answer", ["tier", "decision"])
        self._tokens = Counters("codecascade_tokens", "Tokens read and written", ["tier", "kind"])
        self._cost = Counters("codecascade_cost_usd", "Price of tokens read and written and of the sandbox, US dollars", ["tier"])
        self._sandbox = Counters("codecascade_sandbox_cpu_seconds", "CPU time of candidates under test", ["tier"])
        self._stages = Counters("codecascade_stage_seconds", "Wall time by stage, summed over requests", ["tier", "stage"])
        self.families = [self._requests, self._decisions, self._tokens, self._cost, self._sandbox, self._stages]

    def answered(self, answer: Answer) -> None:
        self._requests.add(1, answer.trace.plan, "answered")
        self._add(answer.trace.steps)

    def abandoned(self, steps: Sequence[StepTrace], plan: str, outcome: str) -> None:
        """A request that ends without an answer, and what was paid for it."""
        self._requests.add(1, plan, outcome)
        self._add(steps)

    def failed(self, error: BaseException) -> None:
        """A request that was refused before it had a plan."""
        self._requests.add(1, "", outcome_of(error))

    def _add(self, steps: Sequence[StepTrace]) -> None:
        for step in steps:
            self._decisions.add(1, step.tier, step.decision)
            self._tokens.add(step.prompt_tokens, step.tier, "prompt")
            self._tokens.add(step.completion_tokens, step.tier, "completion")
            self._cost.add(step.cost_usd, step.tier)
            self._sandbox.add(step.sandbox_s, step.tier)
            self._stages.add(step.generate_ms / 1e3, step.tier, "generate")
            self._stages.add(step.sandbox_ms / 1e3, step.tier, "sandbox")


def outcome_of(error: BaseException) -> str:
    if isinstance(error, LimitReached):
        return error.finish_reason
    return {InvalidRequest: "invalid", asyncio.CancelledError: "cancelled"}.get(type(error), "failed")
