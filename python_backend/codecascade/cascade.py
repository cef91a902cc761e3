"""The cascade: smaller tiers first; a larger one only when a smaller one's answer does not hold up.

Where a request comes with tests (the examples in its prompt), answers are held against them, which costs nothing. Where it does
not, a tier is asked for tests too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Context

from codecascade.allowance import Allowance
from codecascade.errors import (
    NO_ANSWER,
    CascadeError,
    DeadlineReached,
    InvalidRequest,
    LimitReached,
    Overloaded,
    TierUnavailable,
    TooDear,
)
from codecascade.events import Abandoned, Decided, Started, Tell, nobody
from codecascade.prices import Prices, usd
from codecascade.scoring import ALL
from codecascade.steps import Best, Means, cut_in_words, finish_reason, run_given_step, run_step
from codecascade.trace import StepTrace, Trace
from codecascade.types import Candidate, Decision, GivenStep, Plan, PlanStep, Sandbox, Task, Tiers

NOTHING_TO_TEST = "the prompt defines no function to test"
UNPLANNED = "the plan has no steps for requests that come with tests"
_UP = Context(prec=3, rounding=ROUND_CEILING)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request gets."""

    candidate: Candidate
    tier: str
    score: float
    """Normalised, 0…1, of this candidate; 0 if it was not tested."""
    trace: Trace

    @property
    def finish_reason(self) -> str:
        """stop; length where the token limit cut it; deadline, max_cost or overloaded where one kept the cascade from a call."""
        return self.trace.limit or finish_reason(self.candidate)


async def run_cascade(
    task: Task,
    plan: Plan,
    tiers: Tiers,
    sandbox: Sandbox,
    prices: Prices,
    clock: Callable[[], float] = time.perf_counter,
    allowance: Allowance | None = None,
    on_event: Tell = nobody,
) -> Answer:
    """Complete a task by a plan. clock: seconds. allowance: that of the tiers' calls; default: no limits.

    When a tier fails, the next one is asked. When the last one fails, or a limit is reached, the best candidate so far is the
    answer, and the trace says so. Raises TierUnavailable when no tier answered, InvalidRequest when every tier refused the
    request, LimitReached when a limit came before the first answer; then, and when it is cancelled, on_event is told what was
    spent.
    """
    started, allowance = clock(), allowance or Allowance(prices)
    means = Means(tiers, allowance.around(sandbox), prices, clock, allowance, on_event)
    planned, traces = steps_for(task, plan), list[StepTrace]()
    try:
        best = await _best_of(task, planned, means, traces)
    except BaseException as error:
        on_event(Abandoned(tuple(traces), error))
        raise
    tested = task.tested if task.testable else ""
    limit = None if _convinced(traces, planned) else allowance.limit
    trace = Trace(
        plan.name,
        task.entry_point,
        tested,
        best.tier,
        _note(task, traces, best, limit, shortened=allowance.shortened),
        tuple(traces),
        wall_ms=(clock() - started) * 1e3,
        limit=limit.finish_reason if limit else None,
    )
    return Answer(best.candidate, best.tier, best.score, trace)


async def _best_of(task: Task, planned: Sequence[PlanStep | GivenStep], means: Means, traces: list[StepTrace]) -> Best:
    """The answer of the steps. traces: gets that of every step that was begun. Raises CascadeError when there is no answer."""
    best: Best | None = None
    failures: list[CascadeError] = []
    for step in planned:
        means.allowance.begin()
        means.tell(Started(step.tier, step.draws if isinstance(step, GivenStep) else max(1, step.k)))
        try:
            step_best, traced = await _run(task, step, step is planned[-1], means)
        except NO_ANSWER as error:
            failures.append(error)
            if isinstance(error, LimitReached):
                means.allowance.reached(error)
            traced = _unfinished(step, "skipped", error, means)
        except BaseException as error:
            traces.append(_unfinished(step, "abandoned", error, means))
            raise
        else:
            if unknown := means.allowance.take().unknown_calls:
                traced = replace(traced, unknown_calls=unknown)
            if best is None or _stands(task, step_best, best) or traced.decision == Decision.ACCEPT.value:
                best = step_best
        traces.append(traced)
        means.tell(Decided(traced))
        if traced.decision == Decision.ACCEPT.value or means.allowance.over:
            break
    if best is None:
        raise _nobody_answered(failures)
    return best


def steps_for(task: Task, plan: Plan) -> tuple[PlanStep, ...] | tuple[GivenStep, ...]:
    """The plan's steps for this request; where tests would say nothing, its last tier alone, greedily."""
    if task.infill:
        return _infill_steps_for(task, plan)
    if not task.testable or (task.program and not plan.given_steps):
        return (PlanStep(plan.steps[-1].tier, k=0),)
    return plan.given_steps if task.given_tests and plan.given_steps else plan.steps


def _infill_steps_for(task: Task, plan: Plan) -> tuple[PlanStep, ...] | tuple[GivenStep, ...]:
    """One greedy answer of each tier, held against the tests that come with the request, where there are any."""
    steps = plan.infill_steps or (PlanStep(plan.steps[-1].tier, k=0),)
    return tuple(GivenStep(step.tier, draws=1) for step in steps) if task.testable and task.given_tests else steps


async def _run(task: Task, step: PlanStep | GivenStep, last: bool, means: Means) -> tuple[Best, StepTrace]:
    if isinstance(step, GivenStep):
        return await run_given_step(task, step, last, means)
    return await run_step(task, step, last, means)


def _stands(task: Task, later: Best, best: Best) -> bool:
    """Whether a later answer is as good as the best so far. An infill that fits its place is better than one that does not."""
    if task.infill and (later.candidate.problem is None) != (best.candidate.problem is None):
        return later.candidate.problem is None
    return later.score >= best.score


def _unfinished(step: PlanStep | GivenStep, decision: str, error: BaseException, means: Means) -> StepTrace:
    """A step without an answer, with what its calls have cost."""
    k, threshold = (step.draws, ALL) if isinstance(step, GivenStep) else (step.k, step.threshold)
    spent = means.allowance.take()
    return StepTrace(
        step.tier,
        k,
        threshold,
        decision,
        reason=str(error) or type(error).__name__,
        prompt_tokens=spent.prompt_tokens,
        completion_tokens=spent.completion_tokens,
        cost_usd=usd(means.prices.step(step.tier, spent.prompt_tokens, spent.completion_tokens, spent.sandbox_s)),
        sandbox_s=spent.sandbox_s,
        unknown_calls=spent.unknown_calls,
    )


def _convinced(traces: Sequence[StepTrace], planned: Sequence[PlanStep | GivenStep]) -> bool:
    """Whether the answer was accepted for what is known of it, and not because its tier is the last."""
    accepted = traces[-1].decision == Decision.ACCEPT.value
    return accepted and (len(traces) < len(planned) or isinstance(planned[-1], GivenStep))


def _note(task: Task, traces: list[StepTrace], best: Best, limit: LimitReached | None, *, shortened: bool) -> str | None:
    notes = [] if task.testable or task.infill else [f"no tests were run: {task.untested or NOTHING_TO_TEST}"]
    if task.program and not any(step.n_given_tests for step in traces):
        notes = [f"no tests were run: {UNPLANNED}"]
    notes += task.unusable_tests
    last = traces[-1]
    if limit:
        notes.append(f"{limit}: the best candidate so far is returned")
    elif last.decision == "skipped":
        notes.append(f"the last tier failed ({last.reason}): the best earlier candidate is returned, it was not accepted")
    passed = round(best.score * last.n_given_tests)
    if last.decision == Decision.KEEP.value and passed < last.n_given_tests:
        notes.append(f"no answer passes all given tests: the best one is returned, it passes {passed} of {last.n_given_tests}")
    if task.infill and best.candidate.problem:
        notes.append(f"the answer does not fit where it stands: {best.candidate.problem}")
    if best.candidate.cut:
        notes.append(cut_in_words(best.candidate) + (", which max_cost has lowered" if shortened else ""))
    return "; ".join(notes) or None


def _nobody_answered(failures: Sequence[CascadeError]) -> CascadeError:
    if isinstance(failures[-1], (InvalidRequest, DeadlineReached, Overloaded)):
        return failures[-1]
    if any(isinstance(failure, TierUnavailable) for failure in failures):
        return TierUnavailable(f"no tier answered: {'; '.join(str(failure) for failure in failures)}")
    dear = [failure for failure in failures if isinstance(failure, TooDear)]
    least = _UP.create_decimal(min(failure.least_usd for failure in dear))
    return InvalidRequest(f"max_cost is {dear[0].ceiling_usd:g}, must be {least:f} or more for an answer to this request")
