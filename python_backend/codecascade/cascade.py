"""The cascade: smaller tiers first; a larger one only when a smaller one's answer does not hold up.

Where a request comes with tests (the examples in its prompt), answers are held against them, which costs nothing. Where it does
not, a tier is asked for tests too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from codecascade.errors import InvalidRequest, TierUnavailable
from codecascade.prices import Prices
from codecascade.scoring import ALL
from codecascade.steps import Best, Means, cut_in_words, run_given_step, run_step
from codecascade.trace import StepTrace, Trace
from codecascade.types import Candidate, Decision, GivenStep, Plan, PlanStep, Sandbox, Task, Tiers

NOTHING_TO_TEST = "the prompt defines no function to test"
UNPLANNED = "the plan has no steps for requests that come with tests"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request gets."""

    candidate: Candidate
    tier: str
    score: float
    """Normalised, 0…1, of this candidate; 0 if it was not tested."""
    trace: Trace


async def run_cascade(
    task: Task,
    plan: Plan,
    tiers: Tiers,
    sandbox: Sandbox,
    prices: Prices,
    clock: Callable[[], float] = time.perf_counter,
) -> Answer:
    """Complete a task by a plan. clock: seconds.

    When a tier fails, the next one is asked. When the last one fails, the best earlier candidate is the answer, and the trace
    says so. Raises TierUnavailable when no tier answered, InvalidRequest when every tier refused the request.
    """
    started, means = clock(), Means(tiers, sandbox, prices, clock)
    planned = steps_for(task, plan)
    traces: list[StepTrace] = []
    best: Best | None = None
    failures: list[TierUnavailable | InvalidRequest] = []
    for step in planned:
        try:
            step_best, traced = await _run(task, step, step is planned[-1], means)
        except (TierUnavailable, InvalidRequest) as error:
            failures.append(error)
            traces.append(_skipped(step, error))
            continue
        traces.append(traced)
        if traced.decision == Decision.ACCEPT.value:
            best = step_best
            break
        best = step_best if best is None or step_best.score >= best.score else best
    if best is None:
        raise _nobody_answered(failures)
    note = _note(task, traces, best)
    tested = task.tested if task.testable else ""
    trace = Trace(plan.name, task.entry_point, tested, best.tier, note, tuple(traces), wall_ms=(clock() - started) * 1e3)
    return Answer(best.candidate, best.tier, best.score, trace)


def steps_for(task: Task, plan: Plan) -> tuple[PlanStep, ...] | tuple[GivenStep, ...]:
    """The plan's steps for this request; where tests would say nothing, its last tier alone, greedily."""
    if not task.testable or (task.program and not plan.given_steps):
        return (PlanStep(plan.steps[-1].tier, k=0),)
    return plan.given_steps if task.given_tests and plan.given_steps else plan.steps


async def _run(task: Task, step: PlanStep | GivenStep, last: bool, means: Means) -> tuple[Best, StepTrace]:
    if isinstance(step, GivenStep):
        return await run_given_step(task, step, last, means)
    return await run_step(task, step, last, means)


def _skipped(step: PlanStep | GivenStep, error: Exception) -> StepTrace:
    k, threshold = (step.draws, ALL) if isinstance(step, GivenStep) else (step.k, step.threshold)
    return StepTrace(step.tier, k, threshold, decision="skipped", reason=str(error))


def _note(task: Task, traces: list[StepTrace], best: Best) -> str | None:
    notes = [] if task.testable else [f"no tests were run: {task.untested or NOTHING_TO_TEST}"]
    if task.program and not any(step.n_given_tests for step in traces):
        notes = [f"no tests were run: {UNPLANNED}"]
    notes += task.unusable_tests
    last = traces[-1]
    if last.decision == "skipped":
        notes.append(f"the last tier failed ({last.reason}): the best earlier candidate is returned, it was not accepted")
    passed = round(best.score * last.n_given_tests)
    if last.decision == Decision.KEEP.value and passed < last.n_given_tests:
        notes.append(f"no answer passes all given tests: the best one is returned, it passes {passed} of {last.n_given_tests}")
    if best.candidate.cut:
        notes.append(cut_in_words(best.candidate))
    return "; ".join(notes) or None


def _nobody_answered(failures: list[TierUnavailable | InvalidRequest]) -> TierUnavailable | InvalidRequest:
    if isinstance(failures[-1], InvalidRequest):
        return failures[-1]
    return TierUnavailable(f"no tier answered: {'; '.join(str(failure) for failure in failures)}")
