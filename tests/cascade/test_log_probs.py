"""Steps that look at an answer's log-probability before they ask for tests."""

from __future__ import annotations

import pytest
from codecascade.cascade import Answer, run_cascade
from codecascade.prices import Prices, TokenPrice
from codecascade.trace import cost_of
from codecascade.types import Candidate, LogProbs, Plan, PlanStep, Task, Verdict

from tests.cascade.scripted_seams import COMPLETION_TOKENS, ScriptedSandbox, ScriptedTiers, answer

TASK = Task("def f():\n", "f")
PRICES = Prices({"small": TokenPrice(1.0), "large": TokenPrice(4.0)})
SANDBOX = ScriptedSandbox({"passes": [Verdict.PASS], "fails": [Verdict.FAIL], "large": [Verdict.PASS]})
LAST = PlanStep("large", k=0)
ZONES = PlanStep("small", 1, 1, 1.0, accept_log_prob=-2.0, leave_log_prob=-9.0)
ALONE = PlanStep("small", 0, accept_log_prob=-2.0)


def candidate(source: str, log_prob: float | None, problem: str | None = None, cut: bool = False) -> Candidate:
    return Candidate(source, problem=problem, cut=cut, log_probs=None if log_prob is None else LogProbs(log_prob, -1.0, 10))


async def complete(small: Candidate, step: PlanStep = ZONES) -> tuple[Answer, ScriptedTiers]:
    tiers = ScriptedTiers({"small": answer(small), "large": answer(candidate("large", -1.0))})
    return await run_cascade(TASK, Plan("p", (step, LAST)), tiers, SANDBOX, PRICES), tiers


@pytest.mark.parametrize(
    ("step", "small", "tier", "reason", "tests"),
    [
        (ZONES, candidate("fails", -2.0), "small", "log-probability -2.00 ≥ -2.0", 0),
        (ZONES, candidate("passes", -2.1), "small", "score 1.000 ≥ threshold 1.0", 1),
        (ZONES, candidate("fails", -9.0), "large", "score 0.000 < threshold 1.0", 1),
        (ZONES, candidate("passes", -9.1), "large", "log-probability -9.10 < -9.0", 0),
        (ZONES, candidate("passes", None), "small", "score 1.000 ≥ threshold 1.0", 1),
        (ZONES, candidate("passes", -1.0, problem="no"), "large", "the answer cannot run: no", 0),
        (ZONES, candidate("passes", -1.0, cut=True), "large", "the answer was cut, by max_tokens or the end of the context", 0),
        (ALONE, candidate("fails", -2.0), "small", "log-probability -2.00 ≥ -2.0", 0),
        (ALONE, candidate("passes", -2.1), "large", "log-probability -2.10 < -2.0", 0),
        (ALONE, candidate("passes", None), "large", "the tier tells no log-probability", 0),
        (PlanStep("small", 1, 1, 1.0, leave_log_prob=-9.0), candidate("passes", -0.1), "small", "score 1.000 ≥ threshold 1.0", 1),
    ],
)
async def test_tests_are_asked_for_only_where_the_log_probability_does_not_decide(
    step: PlanStep, small: Candidate, tier: str, reason: str, tests: int
) -> None:
    answered, tiers = await complete(small, step)
    first = answered.trace.steps[0]
    assert (answered.tier, first.reason, len(tiers.asked) - (tier == "large")) == (tier, reason, tests)
    assert tiers.drawn == [("small", 0)]
    assert cost_of(answered.trace.steps).completion_tokens["small"] == COMPLETION_TOKENS * (1 + tests)
    assert first.log_prob == (small.log_probs.total if small.log_probs else None)
    assert first.n_test_lines == tests


async def test_the_last_step_does_not_look() -> None:
    tiers = ScriptedTiers({"small": answer(candidate("fails", -50.0))})
    answered = await run_cascade(TASK, Plan("p", (ALONE,)), tiers, SANDBOX, PRICES)
    assert (answered.tier, answered.trace.steps[0].decision) == ("small", "accept")
    assert answered.trace.steps[0].log_prob == -50.0


def test_a_step_that_looks_is_greedy_and_its_limits_are_in_order() -> None:
    with pytest.raises(ValueError, match="leave_log_prob of tier 'small' is -1, must be accept_log_prob, -2, or less"):
        PlanStep("small", 1, 1, 1.0, accept_log_prob=-2, leave_log_prob=-1)
    assert PlanStep("small", 1, 1, 1.0, accept_log_prob=-2, leave_log_prob=-2).looks_first
    assert not PlanStep("small", 1, 1, 1.0).looks_first
