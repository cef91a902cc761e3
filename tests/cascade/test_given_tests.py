"""Requests that come with tests: answers are drawn one by one and held against them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from codecascade.cascade import Answer, run_cascade
from codecascade.errors import InvalidRequest, SandboxUnavailable, TierUnavailable
from codecascade.prices import Prices, TokenPrice
from codecascade.trace import cost_of
from codecascade.types import Candidate, GivenStep, Plan, PlanStep, Task, TestLine, Verdict

from tests.cascade.scripted_seams import COMPLETION_TOKENS, CPU_S, PROMPT_TOKENS, ScriptedSandbox, ScriptedTiers, answer

PASS, FAIL = Verdict.PASS, Verdict.FAIL
TASK = Task("def f():\n", "f", given_tests=(TestLine("assert f() == 1"), TestLine("assert f(2) == 3")))
PRICES = Prices({"small": TokenPrice(1.0, 0.5), "large": TokenPrice(4.0)}, sandbox_price_per_cpu_s=0.001)
PLAN = Plan("given", (PlanStep("large", k=0),), (GivenStep("small", 3), GivenStep("large", 2)))
SANDBOX = ScriptedSandbox({"none": [FAIL, FAIL], "half": [PASS, FAIL], "other half": [FAIL, PASS], "right": [PASS, PASS]})


async def complete(tiers: ScriptedTiers, sandbox: ScriptedSandbox = SANDBOX, plan: Plan = PLAN, task: Task = TASK) -> Answer:
    return await run_cascade(task, plan, tiers, sandbox, PRICES)


def outcome(answered: Answer) -> tuple[str, str, list[tuple[str, str, int]]]:
    steps = [(step.tier, step.decision, step.solutions) for step in answered.trace.steps]
    return answered.candidate.source, answered.tier, steps


async def test_the_first_answer_that_passes_is_taken_and_nothing_more_is_drawn() -> None:
    tiers = ScriptedTiers({"small": answer("half", "right", "right")})
    answered = await complete(tiers)
    assert outcome(answered) == ("right", "small", [("small", "accept", 2)])
    assert (tiers.drawn, tiers.asked) == ([("small", 0), ("small", 1)], [])
    assert (answered.score, answered.trace.note) == (1.0, None)
    (step,) = answered.trace.steps
    assert (step.n_given_tests, step.n_test_lines, step.reason) == (2, 0, "2 of 2 given tests pass")


async def test_every_drawn_answer_is_paid_for() -> None:
    answered = await complete(ScriptedTiers({"small": answer("none", "half", "none"), "large": answer("right")}))
    assert outcome(answered) == ("right", "large", [("small", "escalate", 3), ("large", "accept", 1)])
    assert answered.trace.steps[0].reason == "1 of 2 given tests pass"
    cost = cost_of(answered.trace.steps)
    assert cost.completion_tokens == {"small": 3 * COMPLETION_TOKENS, "large": COMPLETION_TOKENS}
    assert cost.prompt_tokens == {"small": 3 * PROMPT_TOKENS, "large": PROMPT_TOKENS}
    assert cost.sandbox_s == 4 * CPU_S
    paid = 3 * (COMPLETION_TOKENS * 1.0 + PROMPT_TOKENS * 0.5) + COMPLETION_TOKENS * 4.0
    assert cost.cost_usd == pytest.approx(paid / 1e6 + 4 * CPU_S * 0.001)


@pytest.mark.parametrize(
    ("small", "large", "kept", "tier", "passed"),
    [
        (["half", "none", "other half"], ["none", "none"], "half", "small", 1),
        (["half", "none", "none"], ["none", "other half"], "other half", "large", 1),
        (["none", "none", "none"], ["none", "none"], "none", "large", 0),
    ],
)
async def test_where_none_passes_the_answer_that_passes_most_is_kept(
    small: list[str], large: list[str], kept: str, tier: str, passed: int
) -> None:
    answered = await complete(ScriptedTiers({"small": answer(*small), "large": answer(*large)}))
    assert outcome(answered) == (kept, tier, [("small", "escalate", 3), ("large", "keep", 2)])
    assert answered.trace.note == f"no answer passes all given tests: the best one is returned, it passes {passed} of 2"


async def test_a_cut_answer_is_not_accepted_and_loses_to_a_whole_one() -> None:
    cut = Candidate("right", cut=True, tokens=9)
    only = Plan("given", (PlanStep("small", k=0),), (GivenStep("small", 2),))
    kept = await complete(ScriptedTiers({"small": answer(cut, "half")}), plan=only)
    assert outcome(kept) == ("right", "small", [("small", "keep", 2)])
    assert kept.trace.note == "the answer was cut after 9 tokens, by max_tokens or the end of the context"
    assert kept.trace.steps[0].reason == f"2 of 2 given tests pass, but {kept.trace.note}"
    whole = await complete(ScriptedTiers({"small": answer(cut, "right")}), plan=only)
    assert (whole.candidate.cut, whole.trace.steps[0].decision) == (False, "accept")


async def test_without_given_tests_or_without_steps_for_them_the_other_steps_run() -> None:
    for task, plan in ((replace(TASK, given_tests=()), PLAN), (TASK, Plan("plain", PLAN.steps))):
        tiers = ScriptedTiers({"large": answer("none", tests=())})
        answered = await complete(tiers, plan=plan, task=task)
        assert (tiers.drawn, [step.tier for step in tiers.asked]) == ([], ["large"])
        assert answered.trace.steps[0].reason == "greedy, not tested"


async def test_a_request_that_cannot_be_tested_is_answered_greedily_whatever_it_comes_with() -> None:
    tiers = ScriptedTiers({"large": answer("none", tests=())})
    answered = await complete(tiers, task=replace(TASK, untested="the prompt imports numpy"))
    assert (tiers.drawn, answered.trace.note) == ([], "no tests were run: the prompt imports numpy")


async def test_a_failing_tier_is_left_and_what_it_gave_before_is_kept_and_paid() -> None:
    answered = await complete(ScriptedTiers({"small": answer("half"), "large": answer("none", "none")}))
    assert outcome(answered) == ("half", "small", [("small", "escalate", 1), ("large", "keep", 2)])
    assert answered.trace.steps[0].reason == "draw 2 failed: tier small: no more"
    down = TierUnavailable("tier small: down")
    skipped = await complete(ScriptedTiers({"small": down, "large": answer("right")}))
    assert outcome(skipped) == ("right", "large", [("small", "skipped", 0), ("large", "accept", 1)])


async def test_when_every_tier_refuses_the_refusal_is_the_answer() -> None:
    refusal = InvalidRequest("too long")
    with pytest.raises(InvalidRequest, match="too long"):
        await complete(ScriptedTiers({"small": refusal, "large": refusal}))


async def test_without_a_sandbox_one_answer_of_each_tier_is_paid_and_the_last_is_kept() -> None:
    tiers = ScriptedTiers({"small": answer("right", "right"), "large": answer("right", "right")})
    answered = await complete(tiers, ScriptedSandbox(SandboxUnavailable("no workers")))
    assert outcome(answered) == ("right", "large", [("small", "escalate", 1), ("large", "keep", 1)])
    assert answered.trace.steps[0].reason == "the sandbox gave no verdict: no workers"


@pytest.mark.parametrize("draws", [0, 102, 1.5, "2", None])
def test_draws_have_a_range(draws: int) -> None:
    with pytest.raises(ValueError, match=r"draws of tier 'small' is .*, must be 1 to 101"):
        GivenStep("small", draws)


def test_a_tier_is_named_once_among_the_steps_for_given_tests() -> None:
    with pytest.raises(ValueError, match="names a tier twice: small, small"):
        Plan("p", (PlanStep("small", k=0),), (GivenStep("small", 1), GivenStep("small", 2)))
    assert Plan("p", (PlanStep("large", k=0),), (GivenStep("small", 1),)).tiers == ("small", "large")
