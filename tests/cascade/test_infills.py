"""How the cascade answers what is asked between two texts."""

import pytest
from codecascade.cascade import Answer, run_cascade, steps_for
from codecascade.prices import Prices, TokenPrice
from codecascade.types import Candidate, GivenStep, LogProbs, Plan, PlanStep, Task, TestLine, Verdict

from tests.cascade.scripted_seams import ScriptedSandbox, ScriptedTiers, answer

PASS, FAIL = Verdict.PASS, Verdict.FAIL
PRICES = Prices({"small": TokenPrice(1.0), "large": TokenPrice(4.0)})
STEPS = (PlanStep("small", k=0, accept_log_prob=-1.0), PlanStep("large", k=0))
PLAN = Plan("fast", (PlanStep("large", k=0),), infill_steps=STEPS)
TASK = Task("def f():\n    ", "f", "\n    return x\n", infill=True, untested="the prompt is no program")
TESTED = Task("def f():\n    ", "f", "\n    return x\n", infill=True, given_tests=(TestLine("assert f() == 1"),))


def infill(source: str, log_prob: float, problem: str | None = None) -> Candidate:
    return Candidate(source, problem=problem, log_probs=LogProbs(log_prob, log_prob, 1))


async def complete(small: Candidate, large: Candidate, task: Task = TASK, sandbox: ScriptedSandbox | None = None) -> Answer:
    tiers = ScriptedTiers({"small": answer(small, tests=()), "large": answer(large, tests=())})
    return await run_cascade(task, PLAN, tiers, sandbox or ScriptedSandbox({}), PRICES)


def outcome(answered: Answer) -> tuple[str, str, list[tuple[str, str]]]:
    return answered.candidate.source, answered.tier, [(step.decision, step.reason) for step in answered.trace.steps]


async def test_a_likely_infill_of_the_small_tier_is_taken() -> None:
    answered = await complete(infill("a", -0.5), infill("b", -0.1))
    assert outcome(answered) == ("a", "small", [("accept", "log-probability -0.50 ≥ -1.0")])
    assert answered.trace.note is None


async def test_an_unlikely_one_goes_to_the_large_tier() -> None:
    answered = await complete(infill("a", -2.0), infill("b", -3.0))
    assert outcome(answered) == (
        "b",
        "large",
        [("escalate", "log-probability -2.00 < -1.0"), ("accept", "greedy, not tested")],
    )


async def test_one_that_does_not_fit_goes_to_the_large_tier_however_likely() -> None:
    answered = await complete(infill("a", -0.1, "it does not parse"), infill("b", -3.0))
    assert outcome(answered)[:2] == ("b", "large")
    assert answered.trace.steps[0].reason == "the answer cannot run: it does not parse"


async def test_one_that_fits_is_kept_where_the_large_tiers_does_not() -> None:
    answered = await complete(infill("a", -2.0), infill("b", -0.1, "it does not parse"))
    assert outcome(answered) == (
        "a",
        "small",
        [("escalate", "log-probability -2.00 < -1.0"), ("keep", "greedy, not tested; it does not parse")],
    )


async def test_where_none_fits_the_last_is_kept_and_the_note_says_so() -> None:
    answered = await complete(infill("a", -0.1, "its brackets"), infill("b", -0.1, "it does not parse"))
    assert outcome(answered)[:2] == ("b", "large")
    assert answered.trace.note == "the answer does not fit where it stands: it does not parse"


@pytest.mark.parametrize(("small", "tier", "steps"), [(PASS, "small", 1), (FAIL, "large", 2)])
async def test_tests_that_come_with_the_request_decide_instead(small: Verdict, tier: str, steps: int) -> None:
    sandbox = ScriptedSandbox({"a": [small], "b": [PASS]})
    answered = await complete(infill("a", -9.0), infill("b", -9.0), TESTED, sandbox)
    assert (answered.tier, len(answered.trace.steps), answered.score) == (tier, steps, 1.0)


def test_each_tier_writes_one_greedy_infill() -> None:
    assert steps_for(TASK, PLAN) == STEPS
    assert steps_for(TESTED, PLAN) == (GivenStep("small", 1), GivenStep("large", 1))


def test_a_plan_without_steps_for_infills_asks_its_last_tier() -> None:
    plan = Plan("old", (PlanStep("small", 3, 2, 0.5), PlanStep("large", 5, 2, 0.5)))
    assert steps_for(TASK, plan) == (PlanStep("large", k=0),)


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ((PlanStep("small", k=1, lines_per_sample=1), PlanStep("large", k=0)), "with k above 0, must be 0"),
        ((PlanStep("small", k=0), PlanStep("large", k=0)), "it could never be left"),
        ((PlanStep("small", k=0, accept_log_prob=-1.0), PlanStep("small", k=0)), "names a tier twice: small, small"),
    ],
)
def test_steps_for_infills_are_checked(steps: tuple[PlanStep, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Plan("wrong", (PlanStep("large", k=0),), infill_steps=steps)


def test_the_tiers_of_a_plan_are_those_of_its_infills_too() -> None:
    assert PLAN.tiers == ("large", "small")
