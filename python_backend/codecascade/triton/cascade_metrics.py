"""What the `cascade` model counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version

from codecascade.cascade import Answer
from codecascade.drift import COST_BUCKETS_USD, FULL_SCORE
from codecascade.errors import Cancelled, InvalidRequest, LimitReached, SandboxUnavailable, TierUnavailable
from codecascade.plans import PlanFile
from codecascade.trace import StepTrace, cost_of
from codecascade.triton.drift_metrics import DriftMetrics
from codecascade.triton.metrics import Counters, Gauges, Histograms, Labels

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_SCORES = (0.0, 0.25, 0.5, 0.75, 0.9, FULL_SCORE, 1.0)
ANSWERED, CUT_SHORT = "answered", "cut_short"
OUTCOMES = (ANSWERED, CUT_SHORT, "invalid", "cancelled", "unavailable", "deadline", "overloaded", "max_cost", "failed")
"""How a request can end; cut_short: with the best answer that there was at a limit. Any other word counts as failed."""
_OF_ERRORS: Mapping[type[BaseException], str] = {
    InvalidRequest: "invalid",
    asyncio.CancelledError: "cancelled",
    Cancelled: "cancelled",
    TierUnavailable: "unavailable",
    SandboxUnavailable: "unavailable",
}


class CascadeMetrics:
    """Requests, what each tier did and cost, and whether both are what the plan file promises.

    A request is counted once: by `answered`, `failed` or `abandoned`. plans: the plan file in force; only its plans' names become
    label values, whatever a caller writes. model: whose requests these are. Where two models count the same, Triton adds them up.
    """

    def __init__(self, plans: Callable[[], PlanFile], model: str) -> None:
        self._plans = plans
        self._requests = Counters("codecascade_requests_total", "Requests by plan and outcome", ["plan", "outcome"])
        self._durations = Histograms("codecascade_request_duration_seconds", "Wall time of answered requests", ["plan"], SECONDS)
        self._costs = Histograms(
            "codecascade_request_cost_usd",
            "What answered requests cost, US dollars; not those that a limit cut short",
            ["plan"],
            COST_BUCKETS_USD,
        )
        self._step_costs = Histograms(
            "codecascade_step_cost_usd", "Each tier's part in these costs, US dollars", ["plan", "tier"], COST_BUCKETS_USD
        )
        self._decisions = Counters(
            "codecascade_decisions_total", "What was decided about each tier's answer", ["plan", "tier", "decision", "outcome"]
        )
        self._scores = Histograms(
            "codecascade_score_ratio",
            "Scores of tiers' best answers in answered requests, by evidence",
            ["plan", "tier", "evidence"],
            _SCORES,
        )
        self._tokens = Counters("codecascade_tokens_total", "Tokens read and written", ["tier", "kind"])
        self._cost = Counters(
            "codecascade_cost_usd_total",
            "Price of tokens and of the sandbox, US dollars, by how the request ended",
            ["tier", "outcome"],
        )
        self._unknown = Counters(
            "codecascade_unknown_calls_total", "Calls that failed or were stopped: what they cost is in no figure", ["tier"]
        )
        self._sandbox = Counters("codecascade_sandbox_cpu_seconds_total", "CPU time of candidates under test", ["tier"])
        self._stages = Histograms(
            "codecascade_stage_duration_seconds", "Wall time of a tier's stages", ["tier", "stage"], SECONDS
        )
        self._drift = DriftMetrics(plans, model)
        self.families = [
            *(self._requests, self._durations, self._costs, self._step_costs, self._decisions, self._scores),
            *(self._tokens, self._cost, self._unknown, self._sandbox, self._stages),
            Gauges("codecascade_build_info", "1, with what runs here", ["version", "family"], self._build),
            *self._drift.families,
        ]

    def answered(self, answer: Answer) -> None:
        trace, plan = answer.trace, self._known(answer.trace.plan)
        outcome = CUT_SHORT if trace.limit else ANSWERED
        self._requests.add(1, plan, outcome)
        self._durations.observe(trace.wall_ms / 1e3, plan)
        self._spend(trace.steps, plan, outcome)
        if outcome == ANSWERED:
            self._costs.observe(cost_of(trace.steps).cost_usd, plan)
            for step in trace.steps:
                self._step_costs.observe(step.cost_usd, plan, step.tier)
                if evidence := _evidence(step):
                    self._scores.observe(step.score, plan, step.tier, evidence)
            self._drift.answered(answer)

    def failed(self, error: BaseException) -> None:
        """A request that ended before it had a plan."""
        self.abandoned((), "", outcome_of(error))

    def abandoned(self, steps: Sequence[StepTrace], plan: str, outcome: str) -> None:
        """A request that ended without an answer. steps: what was spent on it."""
        outcome, plan = outcome if outcome in OUTCOMES else "failed", self._known(plan)
        self._requests.add(1, plan, outcome)
        self._spend(steps, plan, outcome)

    def _spend(self, steps: Sequence[StepTrace], plan: str, outcome: str) -> None:
        for step in steps:
            self._decisions.add(1, plan, step.tier, step.decision, outcome)
            self._tokens.add(step.prompt_tokens, step.tier, "prompt")
            self._tokens.add(step.completion_tokens, step.tier, "completion")
            self._cost.add(step.cost_usd, step.tier, outcome)
            self._unknown.add(step.unknown_calls, step.tier)
            self._sandbox.add(step.sandbox_s, step.tier)
            self._stages.observe(step.generate_ms / 1e3, step.tier, "generate")
            self._stages.observe(step.sandbox_ms / 1e3, step.tier, "sandbox")

    def _known(self, plan: str) -> str:
        """Empty unless it is a plan of the file."""
        return plan if plan in self._plans().plans else ""

    def _build(self) -> Mapping[Labels, float]:
        return {(version("codecascade"), self._plans().family): 1.0}


def outcome_of(error: BaseException) -> str:
    """The class of a failure, one of OUTCOMES."""
    if isinstance(error, LimitReached):
        return error.finish_reason
    return next((_OF_ERRORS[kind] for kind in type(error).__mro__ if kind in _OF_ERRORS), "failed")


def _evidence(step: StepTrace) -> str | None:
    """What the step's answers were held against; None: nothing."""
    return "given_tests" if step.n_given_tests else "own_tests" if step.n_test_lines else None
