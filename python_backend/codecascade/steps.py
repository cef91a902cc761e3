"""How one step of a plan runs: ask a tier, test its answers, decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from codecascade.allowance import Allowance
from codecascade.errors import NO_ANSWER, NO_VERDICT
from codecascade.events import Drawn, Judged, Tell
from codecascade.evidence import evidence_in
from codecascade.prices import Prices, usd
from codecascade.scoring import ALL, accepts, better_given, by_log_prob, decide, score_candidates, untested
from codecascade.trace import StepTrace
from codecascade.types import Candidate, Decision, GivenStep, PlanStep, Sandbox, Score, Task, Tiers, TierSamples


@dataclass(frozen=True, slots=True)
class Means:
    """What a step runs with."""

    tiers: Tiers
    sandbox: Sandbox
    prices: Prices
    clock: Callable[[], float]
    """Seconds."""
    allowance: Allowance
    tell: Tell


@dataclass(frozen=True, slots=True)
class Best:
    """The best candidate of a step."""

    candidate: Candidate
    tier: str
    score: float


async def run_step(task: Task, step: PlanStep, last: bool, means: Means) -> tuple[Best, StepTrace]:
    """Ask for k solutions and k test samples, and run them against each other. The last step accepts whatever comes of it.

    A step that looks first asks for one answer, and for tests only where its log-probability does not decide.
    Raises TierUnavailable, InvalidRequest, LimitReached.
    """
    started = means.clock()
    samples, sure = await _ask(task, step, last, means.tiers)
    generated = means.clock()
    _tell_drawn(step.tier, samples, 0, means.tell)
    score, sandbox_s, problem = await _judge(task, samples, means.sandbox)
    judged = means.clock()
    n_test_lines = score.pairs // len(samples.candidates)
    means.tell(Judged(step.tier, n_test_lines, score.best, score.value))
    best = samples.candidates[score.best]
    decision = _last(task, best) if last else sure or decide(score, step)
    by_tests = problem or samples.problem or _reason(samples, score, step, decision, last)
    reason = _log_prob_reason(best, step, sure) if sure else by_tests
    trace = StepTrace(
        tier=step.tier,
        k=step.k,
        threshold=step.threshold,
        decision=decision.value,
        reason=reason,
        finish_reason=finish_reason(best),
        problem=best.problem,
        solutions=len(samples.candidates),
        n_test_lines=n_test_lines,
        score=score.value,
        log_prob=best.log_prob,
        prompt_tokens=samples.prompt_tokens,
        completion_tokens=samples.completion_tokens,
        cost_usd=usd(means.prices.step(step.tier, samples.prompt_tokens, samples.completion_tokens, sandbox_s)),
        sandbox_s=sandbox_s,
        generate_ms=(generated - started) * 1e3,
        sandbox_ms=(judged - generated) * 1e3,
        wall_ms=(judged - started) * 1e3,
    )
    return Best(best, step.tier, score.value), trace


def _last(task: Task, answer: Candidate) -> Decision:
    """The last step accepts whatever comes of it, except for an infill that does not fit where it stands."""
    return Decision.KEEP if task.infill and answer.problem else Decision.ACCEPT


async def _ask(task: Task, step: PlanStep, last: bool, tiers: Tiers) -> tuple[TierSamples, Decision | None]:
    """What the tier answers, and the decision if the answer's log-probability makes it."""
    if last or not step.looks_first:
        return await tiers.sample(task, step), None
    samples = await tiers.draw(task, step.tier, 0)
    accepted, left = by_log_prob(samples.candidates[0].log_prob, samples.candidates[0].whole, step)
    if accepted or left:
        return samples, Decision.ACCEPT if accepted else Decision.ESCALATE
    return await tiers.add_tests(task, step, samples), None


async def run_given_step(task: Task, step: GivenStep, last: bool, means: Means) -> tuple[Best, StepTrace]:
    """Draw answers until one passes all tests that came with the request. The last step keeps the best answer of all steps.

    Raises TierUnavailable, InvalidRequest and LimitReached if the first draw does.
    """
    started = means.clock()
    drawn = _Drawn(len(task.given_tests))
    while len(drawn.samples) < step.draws and not drawn.accepted and not drawn.problem:
        asked = means.clock()
        try:
            samples = await means.tiers.draw(task, step.tier, len(drawn.samples))
        except NO_ANSWER as error:
            if not drawn.samples:
                raise
            drawn.problem = f"draw {len(drawn.samples) + 1} failed: {error}"
            break
        drawn.generate_s += means.clock() - asked
        _tell_drawn(step.tier, samples, len(drawn.samples), means.tell)
        await drawn.add(samples, task, means.sandbox)
        means.tell(Judged(step.tier, drawn.score.pairs, drawn.score.best, drawn.score.value))
    score, best = drawn.score, drawn.best
    decision = Decision.ACCEPT if drawn.accepted else Decision.KEEP if last else Decision.ESCALATE
    wall_s = means.clock() - started
    trace = StepTrace(
        tier=step.tier,
        k=step.draws,
        threshold=ALL,
        decision=decision.value,
        reason=drawn.problem or _given_reason(drawn),
        finish_reason=finish_reason(best),
        problem=best.problem,
        solutions=len(drawn.samples),
        n_given_tests=score.pairs,
        score=score.value,
        log_prob=best.log_prob,
        prompt_tokens=sum(samples.prompt_tokens for samples in drawn.samples),
        completion_tokens=sum(samples.completion_tokens for samples in drawn.samples),
        cost_usd=usd(sum(_cost(means.prices, step.tier, *paid) for paid in zip(drawn.samples, drawn.sandbox_s, strict=True))),
        sandbox_s=sum(drawn.sandbox_s),
        generate_ms=drawn.generate_s * 1e3,
        sandbox_ms=(wall_s - drawn.generate_s) * 1e3,
        wall_ms=wall_s * 1e3,
    )
    return Best(best, step.tier, score.value), trace


def _tell_drawn(tier: str, samples: TierSamples, first: int, tell: Tell) -> None:
    for number, answer in enumerate(samples.candidates, start=first):
        tell(Drawn(tier, number, answer.inserted, finish_reason(answer), answer.problem, answer.log_prob))


def _cost(prices: Prices, tier: str, samples: TierSamples, sandbox_s: float) -> int:
    """Picodollars of one draw."""
    return prices.step(tier, samples.prompt_tokens, samples.completion_tokens, sandbox_s)


class _Drawn:
    """The answers that a step has drawn, and the best of them."""

    def __init__(self, given_tests: int) -> None:
        self.samples: list[TierSamples] = []
        self.sandbox_s: list[float] = []
        self.generate_s = 0.0
        self.problem: str | None = None
        """Why no further answer is drawn or tested."""
        self.score = Score(best=0, agreement=-1, pairs=given_tests)

    async def add(self, samples: TierSamples, task: Task, sandbox: Sandbox) -> None:
        self.samples.append(samples)
        try:
            matrix = await sandbox.run(samples.candidates, task.given_tests)
        except NO_VERDICT as error:
            self.problem = f"the sandbox gave no verdict: {error}"
            matrix = None
        self.sandbox_s.append(float(matrix.cpu_s.sum()) if matrix else 0.0)
        passed = int(matrix.passed.sum()) if matrix else 0
        score = Score(len(self.samples) - 1, agreement=passed, pairs=self.score.pairs, cut=samples.candidates[0].cut)
        self.score = better_given(self.score, score)

    @property
    def best(self) -> Candidate:
        return self.samples[self.score.best].candidates[0]

    @property
    def accepted(self) -> bool:
        return bool(accepts(self.score.agreement, self.score.pairs, ALL, self.score.cut))


async def _judge(task: Task, samples: TierSamples, sandbox: Sandbox) -> tuple[Score, float, str | None]:
    """The score, CPU seconds, and why the sandbox gave no verdict, if it failed."""
    cut = [candidate.cut for candidate in samples.candidates]
    lines, spent_s = await evidence_in(task, samples.test_lines, sandbox)
    if not lines:
        return untested(cut), spent_s, None
    try:
        matrix = await sandbox.run(samples.candidates, lines)
    except NO_VERDICT as error:
        return untested(cut), spent_s, f"the sandbox gave no verdict: {error}"
    return score_candidates(matrix, cut), spent_s + float(matrix.cpu_s.sum()), None


def finish_reason(candidate: Candidate) -> str:
    """stop, or length where the token limit cut the answer."""
    return "length" if candidate.cut else "stop"


def cut_in_words(answer: Candidate) -> str:
    after = f" after {answer.tokens} tokens" if answer.tokens else ""
    return f"the answer was cut{after}, by max_tokens or the end of the context"


def _log_prob_reason(answer: Candidate, step: PlanStep, decision: Decision) -> str:
    if answer.problem:
        return f"the answer cannot run: {answer.problem}"
    if answer.cut:
        return cut_in_words(answer)
    if answer.log_prob is None:
        return "the tier tells no log-probability"
    if decision is Decision.ACCEPT:
        return f"log-probability {answer.log_prob:.2f} ≥ {step.accept_log_prob}"
    limit = step.accept_log_prob if step.leave_log_prob is None else step.leave_log_prob
    return f"log-probability {answer.log_prob:.2f} < {limit}"


def _reason(samples: TierSamples, score: Score, step: PlanStep, decision: Decision, last: bool) -> str:
    if step.k == 0:
        problem = samples.candidates[score.best].problem
        return f"greedy, not tested; {problem}" if decision is Decision.KEEP and problem else "greedy, not tested"
    if score.pairs == 0:
        return "the tier wrote no usable test line"
    if last:
        return "the last tier always accepts"
    if score.cut:
        return f"score {score.value:.3f}, but {cut_in_words(samples.candidates[score.best])}"
    compared = f"score {score.value:.3f} {'≥' if decision is Decision.ACCEPT else '<'} threshold {step.threshold}"
    return compared if decision is Decision.ACCEPT else compared + _unable(samples.candidates)


def _given_reason(drawn: _Drawn) -> str:
    score, candidates = drawn.score, [samples.candidates[0] for samples in drawn.samples]
    passed = f"{score.agreement} of {score.pairs} given tests pass"
    if score.cut:
        return f"{passed}, but {cut_in_words(drawn.best)}"
    return passed if drawn.accepted else passed + _unable(candidates)


def _unable(candidates: Sequence[Candidate]) -> str:
    problems = [candidate.problem for candidate in candidates if candidate.problem]
    return f"; {len(problems)} of {len(candidates)} answers cannot run: {problems[0]}" if problems else ""
