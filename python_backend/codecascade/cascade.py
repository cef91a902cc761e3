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

NOTHING_TO_TEST = "the prompt defines no function to test"


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
    note = _note(task, steps, best.candidate)
    tested = task.tested if task.testable else ""
    trace = Trace(plan.name, task.entry_point, tested, best.tier, note, tuple(steps), wall_ms=(clock() - started) * 1e3)
    return Answer(best.candidate, best.tier, best.score, trace)


def steps_for(task: Task, plan: Plan) -> tuple[PlanStep, ...]:
    """The plan's steps; where tests would say nothing, its last tier alone, greedily."""
    return plan.steps if task.testable else (PlanStep(plan.steps[-1].tier, k=0),)


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
    best = samples.candidates[score.best]
    decision = Decision.ACCEPT if last else decide(score, step)
    trace = StepTrace(
        tier=step.tier,
        k=step.k,
        threshold=step.threshold,
        decision=decision.value,
        reason=problem or samples.problem or _reason(samples, score, step, decision, last),
        finish_reason=finish_reason(best),
        problem=best.problem,
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
    return _Best(best, step.tier, score.value), trace


async def _judge(task: Task, samples: TierSamples, sandbox: Sandbox) -> tuple[Score, float, str | None]:
    """The score, CPU seconds, and why the sandbox gave no verdict, if it failed."""
    cut = [candidate.cut for candidate in samples.candidates]
    lines, spent_s = await evidence_in(task, samples.test_lines, sandbox)
    if not lines:
        return untested(cut), spent_s, None
    try:
        matrix = await sandbox.run(samples.candidates, lines)
    except SandboxUnavailable as error:
        return untested(cut), spent_s, f"the sandbox gave no verdict: {error}"
    return score_candidates(matrix, cut), spent_s + float(matrix.cpu_s.sum()), None


def finish_reason(candidate: Candidate) -> str:
    """stop, or length where the token limit cut the answer."""
    return "length" if candidate.cut else "stop"


def _reason(samples: TierSamples, score: Score, step: PlanStep, decision: Decision, last: bool) -> str:
    if step.k == 0:
        return "greedy, not tested"
    if score.pairs == 0:
        return "the tier wrote no usable test line"
    if last:
        return "the last tier always accepts"
    if score.cut:
        return f"score {score.value:.3f}, but {_cut(samples.candidates[score.best])}"
    compared = f"score {score.value:.3f} {'≥' if decision is Decision.ACCEPT else '<'} threshold {step.threshold}"
    problems = [candidate.problem for candidate in samples.candidates if candidate.problem]
    unable = f"; {len(problems)} of {len(samples.candidates)} answers cannot run: {problems[0]}" if problems else ""
    return compared if decision is Decision.ACCEPT else compared + unable


def _note(task: Task, steps: list[StepTrace], answer: Candidate) -> str | None:
    notes = [] if task.testable else [f"no tests were run: {task.untested or NOTHING_TO_TEST}"]
    if steps[-1].decision == "skipped":
        notes.append(f"the last tier failed ({steps[-1].reason}): the best earlier candidate is returned, it was not accepted")
    if answer.cut:
        notes.append(_cut(answer))
    return "; ".join(notes) or None


def _cut(answer: Candidate) -> str:
    after = f" after {answer.tokens} tokens" if answer.tokens else ""
    return f"the answer was cut{after}, by max_tokens or the end of the context"


def _nobody_answered(failures: list[TierUnavailable | InvalidRequest]) -> TierUnavailable | InvalidRequest:
    if isinstance(failures[-1], InvalidRequest):
        return failures[-1]
    return TierUnavailable(f"no tier answered: {'; '.join(str(failure) for failure in failures)}")
