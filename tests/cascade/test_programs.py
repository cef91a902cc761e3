"""Programs that are tested by cases: they run against these alone."""

from __future__ import annotations

import pytest
from codecascade.cascade import UNPLANNED, run_cascade
from codecascade.prices import Prices, TokenPrice
from codecascade.types import GivenStep, Plan, PlanStep, Task, TestLine, Verdict

from tests.cascade.scripted_seams import ScriptedSandbox, ScriptedTiers, answer

TASK = Task("import sys\n", given_tests=(TestLine("assert f() == 1"),), program=True)
PRICES = Prices({"small": TokenPrice(1.0), "large": TokenPrice(4.0)})
STEPS = (PlanStep("small", 2, 2, 1.0), PlanStep("large", 2, 2, 0.0))
SANDBOX = ScriptedSandbox({"wrong": [Verdict.FAIL], "right": [Verdict.PASS]})


async def test_a_program_takes_the_steps_for_requests_with_tests() -> None:
    tiers = ScriptedTiers({"small": answer("wrong", "right")})
    answered = await run_cascade(TASK, Plan("p", STEPS, (GivenStep("small", 2),)), tiers, SANDBOX, PRICES)
    assert (answered.candidate.source, answered.score, answered.trace.note) == ("right", 1.0, None)
    assert (tiers.drawn, tiers.asked) == ([("small", 0), ("small", 1)], [])
    assert (answered.trace.entry_point, answered.trace.tested) == (None, "the whole program")


async def test_no_tier_writes_tests_for_a_program() -> None:
    tiers = ScriptedTiers({"large": answer("wrong", tests=())})
    answered = await run_cascade(TASK, Plan("p", STEPS), tiers, SANDBOX, PRICES)
    assert (tiers.drawn, tiers.asked) == ([], [PlanStep("large", k=0)])
    assert (answered.candidate.source, answered.trace.note) == ("wrong", f"no tests were run: {UNPLANNED}")


@pytest.mark.parametrize("untested", [None, "the prompt imports numpy"])
def test_a_program_needs_no_function(untested: str | None) -> None:
    assert Task("import sys\n", untested=untested, program=True).testable is (untested is None)
