"""Deadlines, ceilings, overload and cancellation: what is answered, and that what was spent is known."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest
from codecascade.allowance import Allowance, Deadline
from codecascade.cascade import Answer, run_cascade
from codecascade.errors import DeadlineReached, InvalidRequest, Overloaded, TierUnavailable
from codecascade.events import Decided, Drawn, Judged, Started
from codecascade.tiers.contract import GenerateRequest, Generation
from codecascade.trace import StepTrace, cost_of
from codecascade.triton.calls.failures import CallFailed
from codecascade.types import GivenStep, Plan, PlanStep, Sample, Task

from tests.cascade.scripted_calls import CPU_S, DEPLOYMENT, HANGS, PROMPT_TOKENS, TASK, TOKENS, Calls, Served, given
from tests.cascade.scripted_seams import ScriptedSandbox, ScriptedTiers, answer

PRICES = DEPLOYMENT.prices
K = 2
PLAN = Plan("two", (PlanStep("small", K, 1, threshold=1.0), PlanStep("large", 0)), (GivenStep("small", 2), GivenStep("large", 1)))
TESTED_LAST = Plan("tested", (PlanStep("small", K, 1, threshold=1.0), PlanStep("large", K, 1)))
FULL = Overloaded("tier small has 64 calls waiting", retry_after_s=2)
SOLUTIONS = PRICES.step("small", PROMPT_TOKENS, K * TOKENS, 0.0) / 1e12
"""What small's solutions cost, and its tests as well."""


def soon() -> Allowance:
    return Allowance(PRICES, deadline=Deadline.after(300, time.monotonic()))


def costs(step: StepTrace) -> tuple[str, str, int, int]:
    return step.tier, step.decision, step.completion_tokens, step.unknown_calls


def marked(answered: Answer, finish_reason: str, tier: str) -> bool:
    note = answered.trace.note or ""
    return (answered.finish_reason, answered.tier) == (finish_reason, tier) and note.endswith(
        "the best candidate so far is returned"
    )


# What was spent is known.


async def cancelled(served: Served) -> None:
    request = asyncio.ensure_future(served.answer())
    await served.calls.hanging.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request


async def test_a_cancelled_request_tells_what_finished_steps_cost_and_that_a_call_was_under_way() -> None:
    served = Served(Calls({"large": HANGS}, passes=False), PLAN)
    await cancelled(served)
    small, large = served.abandoned.steps
    assert costs(small) == ("small", "escalate", 2 * K * TOKENS, 0)
    assert small.cost_usd == pytest.approx(2 * SOLUTIONS + K * CPU_S * 1e-4)
    assert costs(large) == ("large", "abandoned", 0, 1)
    assert isinstance(served.abandoned.error, asyncio.CancelledError)


async def test_a_cancelled_step_tells_what_its_calls_that_ended_cost() -> None:
    served = Served(Calls({"small tests": HANGS}), PLAN)
    await cancelled(served)
    (small,) = served.abandoned.steps
    assert costs(small) == ("small", "abandoned", K * TOKENS, 1)
    assert small.cost_usd == pytest.approx(SOLUTIONS)


async def test_a_cancelled_sandbox_run_leaves_the_tokens_known() -> None:
    served = Served(Calls({"sandbox 2": HANGS}, passes=False), PLAN, given())
    await cancelled(served)
    (small,) = served.abandoned.steps
    assert costs(small) == ("small", "abandoned", 2 * TOKENS, 1)
    assert small.sandbox_s == CPU_S


async def test_tests_that_were_paid_for_are_in_the_trace_when_the_solutions_fail() -> None:
    late = Served(SolutionsFailLate(), PLAN)
    small, large = (await late.answer()).trace.steps
    assert costs(small) == ("small", "skipped", K * TOKENS, 1)
    assert small.cost_usd == pytest.approx(SOLUTIONS)
    assert large.decision == "accept"


@dataclass
class SolutionsFailLate(Calls):
    """The small tier writes tests; its solutions fail only then."""

    tests_written: asyncio.Event = field(default_factory=asyncio.Event)

    async def generate(self, request: GenerateRequest) -> Generation:
        if request.tier == "small" and not request.max_lines:
            await self.tests_written.wait()
            raise TierUnavailable("tier small: gone")
        generation = await super().generate(request)
        self.tests_written.set()
        return generation


async def test_a_request_that_nobody_answers_tells_what_it_cost() -> None:
    served = Served(Calls({"large": TierUnavailable("tier large: gone")}), Plan("p", (PlanStep("large", 0),)))
    with pytest.raises(TierUnavailable):
        await served.answer()
    assert [costs(step) for step in served.abandoned.steps] == [("large", "skipped", 0, 1)]


# Deadlines.


@pytest.mark.parametrize(
    ("script", "passes", "plan", "decisions"),
    [
        ({"large": HANGS}, False, PLAN, ["escalate", "skipped"]),
        ({"small tests": HANGS}, True, PLAN, ["escalate"]),
        ({"sandbox": HANGS}, True, PLAN, ["escalate"]),
        ({"sandbox 2": HANGS}, False, TESTED_LAST, ["escalate", "accept"]),
    ],
)
async def test_at_the_deadline_the_best_candidate_so_far_is_the_answer(
    script: Mapping[str, str], passes: bool, plan: Plan, decisions: list[str]
) -> None:
    served = Served(Calls(script, passes), plan)
    answered = await served.answer(soon())
    assert marked(answered, "deadline", "large" if decisions[-1] == "accept" else "small")
    assert [step.decision for step in answered.trace.steps] == decisions
    assert "deadline exceeded: 300 ms have passed" in (answered.trace.note or "")
    assert sum(step.unknown_calls for step in answered.trace.steps) == 1
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()], "the work is stopped"


async def test_at_the_deadline_an_earlier_draw_is_the_answer() -> None:
    served = Served(Calls({"small 2": HANGS}, passes=False), PLAN, given())
    answered = await served.answer(soon())
    assert marked(answered, "deadline", "small")
    assert answered.trace.steps[0].reason == "draw 2 failed: deadline exceeded: 300 ms have passed"


async def test_at_the_deadline_a_look_at_doubtful_lines_leaves_the_answers() -> None:
    served = Served(Calls({"sandbox": HANGS}, test="add(1, 2) != 5"), PLAN)
    assert marked(await served.answer(soon()), "deadline", "small")


async def test_a_deadline_before_the_first_answer_is_an_error() -> None:
    served = Served(Calls({"small": HANGS}), PLAN)
    with pytest.raises(DeadlineReached, match=r"^deadline exceeded: 300 ms have passed$"):
        await served.answer(soon())
    assert [costs(step) for step in served.abandoned.steps] == [("small", "skipped", K * TOKENS, 1)]
    assert "large" not in served.calls.asked


async def test_no_call_is_made_after_the_deadline() -> None:
    served = Served(Calls(), PLAN)
    with pytest.raises(DeadlineReached):
        await served.answer(Allowance(PRICES, deadline=Deadline.after(1, time.monotonic() - 1)))
    assert served.calls.asked == []


# Overload.


@pytest.mark.parametrize("full", ["small tests", "sandbox", "large"])
async def test_a_full_queue_sends_no_request_upward(full: str) -> None:
    served = Served(Calls({full: FULL}, passes=False), PLAN)
    answered = await served.answer()
    assert marked(answered, "overloaded", "small")
    assert (answered.trace.note or "").startswith("overloaded: tier small has 64 calls waiting; retry after 2 s")
    assert served.calls.asked.count("large") == (full == "large")


@pytest.mark.parametrize("task", [TASK, given()])
async def test_a_full_queue_before_the_first_answer_is_an_error(task: Task) -> None:
    served = Served(Calls({"small": FULL}), PLAN, task)
    with pytest.raises(Overloaded, match=r"retry after 2 s$"):
        await served.answer()
    assert "large" not in served.calls.asked


async def test_what_is_drawn_when_a_queue_is_full_is_still_judged_and_accepted() -> None:
    """The second call for the first answer finds the queue full, and so would a second draw."""
    task = given(Task("import math\n\n\ndef add(a, b):\n", "add"))
    served = Served(StopsEarly({"small 2": FULL}), PLAN, task)
    answered = await served.answer()
    assert (answered.finish_reason, answered.tier) == ("stop", "small")
    assert served.calls.asked == ["small", "small", "sandbox"]


async def test_a_tier_whose_queue_was_full_is_asked_no_more() -> None:
    served = Served(StopsEarly({"small 2": FULL}, passes=False), PLAN, given())
    assert marked(await served.answer(), "overloaded", "small")
    assert served.calls.asked == ["small", "small", "sandbox"]


async def test_tiers_of_any_kind_can_be_overloaded() -> None:
    """Also those whose calls do not go through the allowance."""
    tiers = ScriptedTiers({"small": answer("a", "b", tests=()), "large": FULL})
    answered = await run_cascade(TASK, PLAN, tiers, ScriptedSandbox({}), PRICES)
    assert marked(answered, "overloaded", "small")
    with pytest.raises(Overloaded):
        await run_cascade(TASK, PLAN, ScriptedTiers({"small": FULL, "large": answer("c")}), ScriptedSandbox({}), PRICES)


@dataclass
class StopsEarly(Calls):
    """Its answer needs a helper, which a stop word cut off."""

    async def generate(self, request: GenerateRequest) -> Generation:
        await super().generate(request)
        text = "    return helper(a, b)\n"
        return Generation((Sample(text, TOKENS, stop_word="\ndef "),) * request.num_return_sequences, PROMPT_TOKENS)


# Ceilings.


@dataclass
class Dearest(Calls):
    """Every call costs the most that it may."""

    async def generate(self, request: GenerateRequest) -> Generation:
        answered = await super().generate(request)
        samples = tuple(replace(sample, completion_tokens=request.max_tokens) for sample in answered.samples)
        return Generation(samples, len(request.text_input.encode()) + 2)


def ceiling(usd: float) -> Allowance:
    return Allowance(PRICES, max_cost_usd=usd, sandbox_cpu_s=CPU_S)


@pytest.mark.parametrize("task", [TASK, given()])
@pytest.mark.parametrize("calls", [Calls, Dearest])
@pytest.mark.parametrize("plan", [PLAN, TESTED_LAST])
async def test_a_ceiling_is_never_passed(task: Task, calls: type[Calls], plan: Plan) -> None:
    answers = 0
    for microdollars in range(0, 12_000, 100):
        served = Served(calls(passes=False), plan, task)
        try:
            answered = await served.answer(ceiling(microdollars * 1e-6))
        except InvalidRequest:
            continue
        answers += 1
        assert cost_of(answered.trace.steps).cost_usd <= microdollars * 1e-6
    assert answers


async def test_a_ceiling_that_pays_for_everything_changes_nothing() -> None:
    free, capped = [await Served(Calls(passes=False), TESTED_LAST).answer(limit) for limit in (None, ceiling(1.0))]
    assert capped.finish_reason == free.finish_reason == "stop"
    assert [timeless(step) for step in capped.trace.steps] == [timeless(step) for step in free.trace.steps]


def timeless(step: StepTrace) -> StepTrace:
    return replace(step, generate_ms=0.0, sandbox_ms=0.0, wall_ms=0.0)


async def test_a_ceiling_that_pays_for_no_answer_is_refused_with_the_least_that_would() -> None:
    served = Served(Calls(), PLAN)
    with pytest.raises(InvalidRequest) as refused:
        await served.answer(ceiling(200e-6))
    least = re.fullmatch(r"max_cost is 0\.0002, must be ([\d.]+) or more for an answer to this request", str(refused.value))
    assert least
    assert served.calls.asked == []
    assert (await Served(Calls(), PLAN).answer(ceiling(float(least[1])))).candidate.source
    with pytest.raises(InvalidRequest):
        await Served(Calls(), PLAN).answer(ceiling(float(least[1]) * 0.99))


async def test_an_answer_that_is_cut_because_of_the_ceiling_says_so() -> None:
    plan = Plan("large", (PlanStep("large", 0),))
    answered = await Served(Cut(), plan).answer(ceiling(300 * 4e-6))
    assert answered.finish_reason == "length"
    assert (answered.trace.note or "").endswith("by max_tokens or the end of the context, which max_cost has lowered")


@dataclass
class Cut(Calls):
    """Goes on and on."""

    async def generate(self, request: GenerateRequest) -> Generation:
        answered = await super().generate(request)
        samples = tuple(
            replace(sample, completion_tokens=request.max_tokens, finish_reason="length") for sample in answered.samples
        )
        return replace(answered, samples=samples)


async def test_tests_that_are_too_dear_for_a_tier_are_forgotten_when_the_last_one_answers_whole() -> None:
    cheap_last = Plan("odd", (PlanStep("large", 0, accept_log_prob=-1.0), PlanStep("small", 0)))
    served = Served(Calls(), cheap_last)
    answered = await served.answer(ceiling(200e-6))
    assert [step.decision for step in answered.trace.steps] == ["skipped", "accept"]
    assert (answered.finish_reason, answered.tier, answered.trace.note) == ("stop", "small", None)


async def test_a_call_that_does_not_fit_is_not_made_and_the_answer_is_marked() -> None:
    served = Served(Dearest(passes=False), PLAN)
    answered = await served.answer(ceiling(2_000e-6))
    assert marked(answered, "max_cost", "small")
    assert [step.decision for step in answered.trace.steps] == ["escalate", "skipped"]
    assert re.match(r"max_cost of 0.002 USD leaves \S+, a call of tier large may cost \S+: the best", answered.trace.note or "")


async def test_a_ceiling_lowers_max_tokens_where_that_leaves_room_for_an_answer() -> None:
    plan = Plan("large", (PlanStep("large", 0),))
    enough, less = Served(Calls(), plan), Served(Calls(), plan)
    await enough.answer(ceiling(1.0))
    answered = await less.answer(ceiling(300 * 4e-6))
    assert enough.calls.requests[0].max_tokens == 512
    assert 250 < less.calls.requests[0].max_tokens < 300
    assert answered.finish_reason == "stop", "the answer is whole"


async def test_tests_wait_for_what_the_solutions_did_not_need() -> None:
    """The worst case of the solutions leaves nothing for tests; what they cost leaves enough."""
    served = Served(Calls(), PLAN)
    answered = await served.answer(ceiling(1_100e-6))
    assert (answered.finish_reason, answered.trace.steps[0].decision) == ("stop", "accept")
    assert served.calls.asked == ["small", "small tests", "sandbox"]


async def test_what_a_failed_call_may_have_cost_stays_reserved() -> None:
    """max_cost pays for one answer of either tier, not for both."""
    served = Served(Calls({"small": TierUnavailable("tier small: no answer within 60 s")}), PLAN)
    with pytest.raises(
        TierUnavailable, match=r"^no tier answered: tier small: no answer within 60 s; max_cost of 0\.0011 USD leaves"
    ):
        await served.answer(ceiling(1_100e-6))


NOT_ASKED = CallFailed("it is not asked for a moment", asked=False).told_as("tier small", TierUnavailable)


@pytest.mark.parametrize("error", [InvalidRequest("tier small: the prompt has 9 tokens too many"), NOT_ASKED])
async def test_a_call_that_was_refused_or_not_made_has_cost_nothing(error: Exception) -> None:
    """max_cost pays for one answer of either tier, not for both."""
    served = Served(Calls({"small": error}), PLAN)
    answered = await served.answer(ceiling(1_100e-6))
    assert [costs(step) for step in answered.trace.steps] == [("small", "skipped", 0, 0), ("large", "accept", TOKENS, 0)]


async def test_every_call_of_a_request_has_its_priority() -> None:
    served = Served(Calls(passes=False), PLAN)
    await served.answer(priority=9)
    assert [request.priority for request in served.calls.requests] == [9, 9, 9]


# Events.


async def test_events_tell_what_happens_in_order() -> None:
    served = Served(Calls(passes=False), PLAN)
    await served.answer()
    assert [type(event) for event in served.events] == [
        *(Started, Drawn, Drawn, Judged, Decided),
        *(Started, Drawn, Judged, Decided),
    ]
    assert served.events[1] == Drawn("small", 0, "    return a + b\n", "stop", None, None)
    assert served.events[3] == Judged("small", tests=K, best=1, score=0.0)


async def test_events_tell_of_every_draw_held_against_given_tests() -> None:
    served = Served(Calls(passes=False), PLAN, given())
    await served.answer()
    assert [(event.tier, event.number) for event in served.events if isinstance(event, Drawn)] == [
        ("small", 0),
        ("small", 1),
        ("large", 0),
    ]
