"""What each kind of evidence decided under a plan, and where the money went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from codecascade.scoring import by_log_prob
from codecascade.trace import StepTrace
from codecascade.types import Decision, Plan

from codecascade_client.recording.recording import Recording
from codecascade_client.replay.cascade import Replayed, replay

GIVEN_TESTS, OWN_TESTS, LOG_PROBS, NOT_WHOLE, NOTHING = (
    "given tests",
    "own tests",
    "log-probability",
    "no whole program",
    "nothing",
)


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of the requests of a tier that one kind of evidence decided. Counts of requests."""

    tier: str
    by: str  # the kind of evidence
    requests: int
    accepted: int
    accepted_right: int
    kept: int  # returned although the evidence does not speak for it
    kept_right: int
    escalated: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What a tier cost, and for how many requests. Of all requests together."""

    tier: str
    asked: int
    answered: int
    completion_tokens: int
    cost_usd: float


@dataclass(frozen=True, slots=True)
class Decisions:
    """A plan on some requests."""

    plan: Plan
    requests: int
    decided: tuple[Decided, ...]  # small tier to large
    spent: tuple[Spent, ...]  # small tier to large


async def decisions(plan: Plan, recordings: Sequence[Recording], tasks: Sequence[str], runs: Sequence[int]) -> Decisions:
    """A request is a task in a run. The recordings have the same tiers. Raises RecordingError if a step was not recorded."""
    homes = {task: recording for recording in recordings for task in recording.manifest.dataset["task_ids"]}
    requests = [await replay(plan, homes[task], task, run) for run in runs for task in tasks]
    tiers = [tier for tier in recordings[0].manifest.tiers if tier in plan.tiers]
    steps = [(step, _by(step, plan), request.correct) for request in requests for step in request.answer.trace.steps]
    decided = [
        _decided(
            tier, by, [(_outcome(step, plan), right) for step, step_by, right in steps if (step.tier, step_by) == (tier, by)]
        )
        for tier in tiers
        for by in (GIVEN_TESTS, OWN_TESTS, LOG_PROBS, NOT_WHOLE, NOTHING)
    ]
    spent = tuple(_spent(tier, requests) for tier in tiers)
    return Decisions(plan, len(requests), tuple(row for row in decided if row.requests), spent)


def _by(step: StepTrace, plan: Plan) -> str:
    """The kind of evidence that decided a step."""
    if step.n_given_tests:
        return GIVEN_TESTS
    if step.n_test_lines:
        return OWN_TESTS
    planned = next(planned for planned in plan.steps if planned.tier == step.tier)
    whole = step.problem is None and step.finish_reason != "length"
    if planned is plan.steps[-1] or not (planned.looks_first and any(by_log_prob(step.log_prob, whole, planned))):
        return NOTHING
    return LOG_PROBS if whole else NOT_WHOLE


def _outcome(step: StepTrace, plan: Plan) -> str:
    """The decision; where the last tier accepts whatever comes of it, it keeps its answer."""
    always = not step.n_given_tests and step.tier == plan.steps[-1].tier
    return Decision.KEEP.value if always else step.decision


def _decided(tier: str, by: str, outcomes: Sequence[tuple[str, bool]]) -> Decided:
    """outcomes: decisions, and whether the request's answer is right."""
    counts = Counter(outcome for outcome, _ in outcomes)
    right = Counter(outcome for outcome, is_right in outcomes if is_right)
    accept, keep = Decision.ACCEPT.value, Decision.KEEP.value
    escalated = counts[Decision.ESCALATE.value]
    return Decided(tier, by, len(outcomes), counts[accept], right[accept], counts[keep], right[keep], escalated)


def _spent(tier: str, requests: Sequence[Replayed]) -> Spent:
    steps = [step for request in requests for step in request.answer.trace.steps if step.tier == tier]
    return Spent(
        tier,
        asked=len(steps),
        answered=sum(request.answer.tier == tier for request in requests),
        completion_tokens=sum(step.completion_tokens for step in steps),
        cost_usd=sum(step.cost_usd for step in steps),
    )
