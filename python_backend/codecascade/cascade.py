"""The cascade: smaller tiers first; a larger one only when the smaller one's own tests are not convincing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from codecascade.errors import InvalidRequest, SandboxUnavailable, TierUnavailable
from codecascade.evidence import evidence_in
from codecascade.prices import Prices, usd
from codecascade.scoring import decide, score_candidates, untested
from codecascade.trace import StepTrace, Trace
from codecascade.types import Candidate, Decision, Plan, PlanStep, Sandbox, Score, Task, Tiers, TierSamples

NOTHING_TO_TEST = "no tests were run: the prompt defines no function to test"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request gets."""

    candidate: Candidate
    tier: str
    score: float
    """Normalised, 0…1, of this candidate; 0 if it was not tested."""
    trace: Trace


@dataclass(frozen=True, slots=True)
class _Best:
    """The best candidate of a step."""

    candidate: Candidate
    tier: str
    score: float


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
    started = clock()
    steps: list[StepTrace] = []
    best: _Best | None = None
    failures: list[TierUnavailable | InvalidRequest] = []
    for step in steps_for(task, plan):
        last = step.tier == plan.steps[-1].tier
        try:
            step_best, traced = await _run_step(task, step, last, tiers, sandbox, prices, clock)
        except (TierUnavailable, InvalidRequest) as error:
            failures.append(error)
            steps.append(StepTrace(step.tier, step.k, step.threshold, decision="skipped", reason=str(error)))
            continue
        steps.append(traced)
        if traced.decision == Decision.ACCEPT.value:
            best = step_best
            break
        best = step_best if best is None or step_best.score >= best.score else best
    if best is None:
        raise _nobody_answered(failures)
    note = _note(task, steps)
    trace = Trace(plan.name, task.entry_point, best.tier, note, tuple(steps), wall_ms=(clock() - started) * 1e3)
    return Answer(best.candidate, best.tier, best.score, trace)


def steps_for(task: Task, plan: Plan) -> tuple[PlanStep, ...]:
    """The plan's steps; without a function to test, its last tier alone, greedily."""
    return plan.steps if task.entry_point else (PlanStep(plan.steps[-1].tier, k=0),)


async def _run_step(
    task: Task,
    step: PlanStep,
    last: bool,
    tiers: Tiers,
    sandbox: Sandbox,
    prices: Prices,
    clock: Callable[[], float],
) -> tuple[_Best, StepTrace]:
    started = clock()
    samples = await tiers.sample(task, step)
    generated = clock()
    score, sandbox_s, problem = await _judge(task, samples, sandbox)
    judged = clock()
    decision = Decision.ACCEPT if last else decide(score, step)
    trace = StepTrace(
        tier=step.tier,
        k=step.k,
        threshold=step.threshold,
        decision=decision.value,
        reason=problem or samples.problem or _reason(score, step, decision, last),
        solutions=len(samples.candidates),
        n_test_lines=score.pairs // len(samples.candidates),
        score=score.value,
        prompt_tokens=samples.prompt_tokens,
        completion_tokens=samples.completion_tokens,
        cost_usd=usd(prices.step(step.tier, samples.prompt_tokens, samples.completion_tokens, sandbox_s)),
        sandbox_s=sandbox_s,
        generate_ms=(generated - started) * 1e3,
        sandbox_ms=(judged - generated) * 1e3,
        wall_ms=(judged - started) * 1e3,
    )
    return _Best(samples.candidates[score.best], step.tier, score.value), trace


async def _judge(task: Task, samples: TierSamples, sandbox: Sandbox) -> tuple[Score, float, str | None]:
    """The score, CPU seconds, and why the sandbox gave no verdict, if it failed."""
    lines, spent_s = await evidence_in(task, samples.test_lines, sandbox)
    if not lines:
        return untested(len(samples.candidates)), spent_s, None
    try:
        matrix = await sandbox.run(samples.candidates, lines)
    except SandboxUnavailable as error:
        return untested(len(samples.candidates)), spent_s, f"the sandbox gave no verdict: {error}"
    return score_candidates(matrix), spent_s + float(matrix.cpu_s.sum()), None


def _reason(score: Score, step: PlanStep, decision: Decision, last: bool) -> str:
    if step.k == 0:
        return "greedy, not tested"
    if score.pairs == 0:
        return "the tier wrote no usable test line"
    if last:
        return "the last tier always accepts"
    return f"score {score.value:.3f} {'≥' if decision is Decision.ACCEPT else '<'} threshold {step.threshold}"


def _note(task: Task, steps: list[StepTrace]) -> str | None:
    if not task.entry_point:
        return NOTHING_TO_TEST
    if steps[-1].decision == "skipped":
        return f"the last tier failed ({steps[-1].reason}): the best earlier candidate is returned, it was not accepted"
    return None


def _nobody_answered(failures: list[TierUnavailable | InvalidRequest]) -> TierUnavailable | InvalidRequest:
    if isinstance(failures[-1], InvalidRequest):
        return failures[-1]
    return TierUnavailable(f"no tier answered: {'; '.join(str(failure) for failure in failures)}")
