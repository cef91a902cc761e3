import json
from dataclasses import replace

import pytest
from codecascade.cascade import NOTHING_TO_TEST, Answer, run_cascade
from codecascade.errors import InvalidRequest, SandboxUnavailable, TierUnavailable
from codecascade.evidence import stubs
from codecascade.prices import Prices, TokenPrice
from codecascade.trace import cost_of
from codecascade.types import Candidate, Plan, PlanStep, Task, Verdict

from tests.cascade.scripted_seams import COMPLETION_TOKENS, CPU_S, PROMPT_TOKENS, ScriptedSandbox, ScriptedTiers, answer

PASS, FAIL = Verdict.PASS, Verdict.FAIL
TASK = Task("def f():\n", "f")
PRICES = Prices({"small": TokenPrice(1.0), "middle": TokenPrice(2.0), "large": TokenPrice(4.0)})
PLAN = Plan("balanced", (PlanStep("small", k=2, lines_per_sample=1, threshold=0.6), PlanStep("large", k=0)))
DOWN = TierUnavailable("tier large: stub process is not healthy")


async def complete(tiers: ScriptedTiers, sandbox: ScriptedSandbox, plan: Plan = PLAN, task: Task = TASK) -> Answer:
    return await run_cascade(task, plan, tiers, sandbox, PRICES)


async def test_accepts_a_convincing_answer_without_asking_the_larger_tier() -> None:
    tiers = ScriptedTiers({"small": answer("wrong", "right", tests=["t1", "t2"])})
    answered = await complete(tiers, ScriptedSandbox({"wrong": [FAIL, PASS], "right": [PASS, PASS]}))
    assert (answered.candidate.source, answered.tier, answered.score) == ("right", "small", 1.0)
    assert [step.tier for step in tiers.asked] == ["small"]
    assert answered.trace.steps[0].reason == "score 1.000 ≥ threshold 0.6"


async def test_escalates_when_no_candidate_passes() -> None:
    tiers = ScriptedTiers({"small": answer("a", "b"), "large": answer("c", tests=())})
    answered = await complete(tiers, ScriptedSandbox({"a": [FAIL], "b": [FAIL]}))
    assert (answered.candidate.source, answered.tier, answered.score) == ("c", "large", 0.0)
    assert [(step.tier, step.decision, step.reason) for step in answered.trace.steps] == [
        ("small", "escalate", "score 0.000 < threshold 0.6"),
        ("large", "accept", "greedy, not tested"),
    ]
    assert answered.trace.note is None


async def test_escalates_when_the_tier_wrote_no_test_line() -> None:
    sandbox = ScriptedSandbox({})
    answered = await complete(ScriptedTiers({"small": answer("a", "b", tests=()), "large": answer("c", tests=())}), sandbox)
    assert answered.tier == "large"
    assert answered.trace.steps[0].reason == "the tier wrote no usable test line"
    assert sandbox.runs == 0


async def test_the_last_tier_accepts_its_best_whatever_the_score() -> None:
    plan = Plan("tested", (PlanStep("small", k=3, lines_per_sample=1, threshold=1.0),))
    answered = await complete(
        ScriptedTiers({"small": answer("a", "b", "c")}), ScriptedSandbox({"a": [1], "b": [0], "c": [1]}), plan
    )
    assert (answered.candidate.source, answered.trace.steps[0].decision) == ("b", "accept")
    assert answered.score == pytest.approx(1 / 3)


async def test_cost_adds_every_tier_that_was_asked() -> None:
    tiers = ScriptedTiers({"small": answer("a", "b"), "large": answer("c", tests=())})
    cost = cost_of((await complete(tiers, ScriptedSandbox({"a": [FAIL], "b": [FAIL]}))).trace.steps)
    assert cost.cost_usd == pytest.approx(COMPLETION_TOKENS * (1e-6 + 4e-6))
    assert cost.completion_tokens == {"small": COMPLETION_TOKENS, "large": COMPLETION_TOKENS}
    assert cost.sandbox_s == 2 * CPU_S


async def test_prompts_and_the_sandbox_cost_what_they_are_said_to_cost() -> None:
    prices = Prices(
        {"small": TokenPrice(1.0, prompt_price_per_mtok=0.5), "large": TokenPrice(4.0, 2.0)}, sandbox_price_per_cpu_s=1e-3
    )
    tiers = ScriptedTiers({"small": answer("a", "b"), "large": answer("c", tests=())})
    answered = await run_cascade(TASK, PLAN, tiers, ScriptedSandbox({"a": [FAIL], "b": [FAIL]}), prices)
    small, large = answered.trace.steps
    assert small.cost_usd == pytest.approx(COMPLETION_TOKENS * 1e-6 + PROMPT_TOKENS * 0.5e-6 + 2 * CPU_S * 1e-3)
    assert large.cost_usd == pytest.approx(COMPLETION_TOKENS * 4e-6 + PROMPT_TOKENS * 2e-6)
    assert cost_of(answered.trace.steps).cost_usd == pytest.approx(small.cost_usd + large.cost_usd)


async def test_a_tier_that_fails_is_skipped_upward_with_the_reason() -> None:
    tiers = ScriptedTiers({"small": TierUnavailable("tier small: gone"), "large": answer("c", tests=())})
    answered = await complete(tiers, ScriptedSandbox({}))
    assert answered.tier == "large"
    assert (answered.trace.steps[0].decision, answered.trace.steps[0].reason) == ("skipped", "tier small: gone")


async def test_when_the_last_tier_fails_the_best_earlier_candidate_is_returned_and_marked() -> None:
    plan = Plan("three", (PlanStep("small", 2, 1, 1.0), PlanStep("middle", 2, 1, 1.0), PlanStep("large", k=0)))
    tiers = ScriptedTiers({"small": answer("a", "b"), "middle": answer("c", "d"), "large": DOWN})
    sandbox = ScriptedSandbox({"a": [PASS], "b": [FAIL], "c": [FAIL], "d": [FAIL]})
    answered = await run_cascade(TASK, plan, tiers, sandbox, PRICES)
    assert (answered.candidate.source, answered.tier, answered.score) == ("a", "small", 0.25 * 2)
    assert answered.trace.note is not None
    assert "the last tier failed (tier large: stub process is not healthy)" in answered.trace.note


async def test_when_no_tier_answers_the_request_fails_and_names_each() -> None:
    tiers = ScriptedTiers({"small": TierUnavailable("tier small: gone"), "large": DOWN})
    with pytest.raises(TierUnavailable, match="no tier answered: tier small: gone; tier large: stub"):
        await complete(tiers, ScriptedSandbox({}))


async def test_a_request_that_every_tier_refuses_is_the_callers_fault() -> None:
    refusal = InvalidRequest("tier large: text_input has 9000 tokens, must have 4096 or fewer")
    tiers = ScriptedTiers(
        {"small": InvalidRequest("tier small: text_input has 9000 tokens, must have 2048 or fewer"), "large": refusal}
    )
    with pytest.raises(InvalidRequest, match="tier large: text_input has 9000 tokens"):
        await complete(tiers, ScriptedSandbox({}))


async def test_a_sandbox_that_fails_is_not_a_verdict() -> None:
    tiers = ScriptedTiers({"small": answer("a", "b"), "large": answer("c", tests=())})
    answered = await complete(tiers, ScriptedSandbox(SandboxUnavailable("queue is full")))
    assert answered.tier == "large"
    assert answered.trace.steps[0].reason == "the sandbox gave no verdict: queue is full"
    assert answered.trace.steps[0].decision == "escalate"


async def test_a_line_that_cannot_fail_neither_speaks_for_a_candidate_nor_is_it_free() -> None:
    tiers = ScriptedTiers(
        {"small": answer("a", "b", tests=["assert f() != 5", "assert f() == 1"]), "large": answer("c", tests=())}
    )
    trial = {stub.source: [PASS] for stub in stubs(TASK)}
    answered = await complete(tiers, ScriptedSandbox({**trial, "a": [FAIL], "b": [FAIL]}))
    step = answered.trace.steps[0]
    assert (step.decision, step.score, step.n_test_lines, step.sandbox_s) == ("escalate", 0.0, 1, 4 * CPU_S)


async def test_lines_that_cannot_fail_are_no_tests() -> None:
    tiers = ScriptedTiers({"small": answer("a", "b", tests=["assert f() != 5"]), "large": answer("c", tests=())})
    answered = await complete(tiers, ScriptedSandbox({stub.source: [PASS] for stub in stubs(TASK)}))
    step = answered.trace.steps[0]
    assert (step.reason, step.n_test_lines, step.sandbox_s) == ("the tier wrote no usable test line", 0, 2 * CPU_S)


async def test_solutions_whose_tests_failed_escalate_with_the_reason_and_cost_what_they_did() -> None:
    untested = replace(answer("a", "b", tests=()), problem="the tier wrote no tests: tier small: gone")
    answered = await complete(ScriptedTiers({"small": untested, "large": answer("c", tests=())}), ScriptedSandbox({}))
    small = answered.trace.steps[0]
    assert (small.decision, small.reason) == ("escalate", "the tier wrote no tests: tier small: gone")
    assert small.completion_tokens == COMPLETION_TOKENS
    assert answered.tier == "large"


async def test_a_prompt_without_a_function_is_completed_greedily_by_the_last_tier() -> None:
    tiers = ScriptedTiers({"large": answer("print(1)", tests=())})
    answered = await complete(tiers, ScriptedSandbox({}), task=Task("# print one\n"))
    assert tiers.asked == [PlanStep("large", k=0)]
    assert (answered.candidate.source, answered.trace.note) == ("print(1)", f"no tests were run: {NOTHING_TO_TEST}")
    assert (answered.trace.entry_point, answered.trace.tested) == (None, "")


async def test_what_tests_would_say_nothing_about_is_completed_greedily_and_the_note_says_why() -> None:
    tiers = ScriptedTiers({"large": answer("class S: ...", tests=())})
    task = Task("class S:\n", "S.push", untested="class S needs arguments: size")
    answered = await complete(tiers, ScriptedSandbox({}), task=task)
    assert tiers.asked == [PlanStep("large", k=0)]
    assert answered.trace.note == "no tests were run: class S needs arguments: size"
    assert (answered.trace.entry_point, answered.trace.tested) == ("S.push", "")


async def test_the_trace_says_what_was_tested() -> None:
    task = Task("class S:\n", "S.push", expression="S().push")
    tiers = ScriptedTiers({"small": answer("a", "b", tests=("assert S().push(1) == 1",))})
    answered = await complete(tiers, ScriptedSandbox({"a": [PASS], "b": [PASS]}), task=task)
    assert (answered.trace.entry_point, answered.trace.tested) == ("S.push", "S().push")


async def test_a_cut_answer_is_not_accepted_where_there_is_a_next_tier() -> None:
    cut = Candidate("a", cut=True, tokens=64)
    tiers = ScriptedTiers({"small": answer(cut, cut), "large": answer("c", tests=())})
    answered = await complete(tiers, ScriptedSandbox({"a": [PASS]}))
    assert (answered.tier, answered.trace.note) == ("large", None)
    step = answered.trace.steps[0]
    assert (step.decision, step.finish_reason) == ("escalate", "length")
    assert step.reason == "score 1.000, but the answer was cut after 64 tokens, by max_tokens or the end of the context"


async def test_of_equally_good_answers_a_whole_one_is_taken() -> None:
    tiers = ScriptedTiers({"small": answer(Candidate("a", cut=True), "b")})
    answered = await complete(tiers, ScriptedSandbox({"a": [PASS], "b": [PASS]}))
    assert (answered.candidate.source, answered.trace.steps[0].finish_reason) == ("b", "stop")


async def test_the_last_tiers_cut_answer_is_returned_and_the_note_says_so() -> None:
    tiers = ScriptedTiers({"small": answer("a", "b"), "large": answer(Candidate("c", cut=True, tokens=512), tests=())})
    answered = await complete(tiers, ScriptedSandbox({"a": [FAIL], "b": [FAIL]}))
    assert (answered.candidate.source, answered.tier) == ("c", "large")
    assert answered.trace.note == "the answer was cut after 512 tokens, by max_tokens or the end of the context"


async def test_the_reason_names_what_keeps_the_answers_from_running() -> None:
    problem = "it imports numpy, not among the deployment's sandbox_modules"
    tiers = ScriptedTiers({"small": answer("a", Candidate("b", problem=problem)), "large": answer("c", tests=())})
    answered = await complete(tiers, ScriptedSandbox({"a": [FAIL], "b": [FAIL]}))
    step = answered.trace.steps[0]
    assert step.reason == f"score 0.000 < threshold 0.6; 1 of 2 answers cannot run: {problem}"
    assert step.problem == problem


async def test_the_trace_is_plain_json_with_the_cost_in_it() -> None:
    answered = await complete(ScriptedTiers({"small": answer("a", "b")}), ScriptedSandbox({"a": [PASS], "b": [PASS]}))
    trace = json.loads(json.dumps(answered.trace.as_dict()))
    assert trace["answered_by"] == "small"
    assert trace["cost"]["completion_tokens"] == {"small": COMPLETION_TOKENS}
    assert trace["steps"][0]["score"] == 1.0
