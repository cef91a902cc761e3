import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from codecascade.deployment import Deployment, Tier
from codecascade.errors import InvalidRequest, TierUnavailable
from codecascade.tiers.contract import GenerateRequest, Generation
from codecascade.tiers.live import LiveTiers, check_max_tokens
from codecascade.types import Plan, PlanStep, Sample, Task

TASK = Task("def add(a, b):\n", "add")
BODY = "    return a + b\n"
SMALL = Tier("small", "chatml", context_tokens=4096, max_completion_tokens=512, price_per_mtok=1.0)
LARGE = Tier("large", "chatml", context_tokens=4096, max_completion_tokens=1024, price_per_mtok=2.0)
DEPLOYMENT = Deployment("tiny", Path("tiny.json"), {"small": SMALL, "large": LARGE})


@dataclass
class ScriptedGenerate:
    """Writes a body for a solution prompt and two asserts for a tests prompt."""

    fails: bool = False
    asked: list[GenerateRequest] = field(default_factory=list)

    async def __call__(self, request: GenerateRequest) -> Generation:
        self.asked.append(request)
        if self.fails:
            raise TierUnavailable("tier small: gone")
        text = "(1, 2) == 3\nassert add(0, 0) == 0\n" if request.text_input.endswith("assert add") else BODY
        return Generation((Sample(text, completion_tokens=7),) * request.num_return_sequences, prompt_tokens=20)


def tiers(generate: ScriptedGenerate, seed: int = 0, max_tokens: int | None = None) -> LiveTiers:
    return LiveTiers(DEPLOYMENT, generate, seed=seed, max_tokens=max_tokens)


async def test_k_solutions_and_k_test_samples_become_candidates_and_pooled_lines() -> None:
    samples = await tiers(ScriptedGenerate()).sample(TASK, PlanStep("small", k=3, lines_per_sample=2))
    assert [candidate.source for candidate in samples.candidates] == [TASK.prompt + BODY] * 3
    assert [line.source for line in samples.test_lines] == ["assert add(1, 2) == 3", "assert add(0, 0) == 0"] * 3
    assert (samples.prompt_tokens, samples.completion_tokens) == (40, 6 * 7)


async def test_a_step_without_tests_asks_once() -> None:
    generate = ScriptedGenerate()
    samples = await tiers(generate).sample(TASK, PlanStep("large", k=0))
    assert (len(generate.asked), len(samples.candidates), samples.test_lines) == (1, 1, ())


@pytest.mark.parametrize(("k", "temperature"), [(0, 0.0), (1, 0.0), (3, 0.8)])
async def test_one_solution_is_greedy_and_more_are_sampled(k: int, temperature: float) -> None:
    generate = ScriptedGenerate()
    await tiers(generate).sample(TASK, PlanStep("small", k=k, lines_per_sample=2 if k else 0))
    assert {request.temperature for request in generate.asked} == {temperature}


async def test_tests_are_not_drawn_with_the_seed_of_the_solutions() -> None:
    generate = ScriptedGenerate()
    await tiers(generate, seed=7).sample(TASK, PlanStep("small", k=3, lines_per_sample=2))
    solutions, tests = generate.asked
    assert solutions.seed == 7
    assert tests.seed != 7


async def test_max_tokens_is_the_callers_up_to_what_the_tier_allows() -> None:
    generate = ScriptedGenerate()
    for max_tokens in (None, 100, 1000):
        await tiers(generate, max_tokens=max_tokens).sample(TASK, PlanStep("small", k=0))
    assert [request.max_tokens for request in generate.asked] == [512, 100, 512]


async def test_a_tier_that_fails_fails_the_step() -> None:
    with pytest.raises(TierUnavailable, match="tier small: gone"):
        await tiers(ScriptedGenerate(fails=True)).sample(TASK, PlanStep("small", k=3, lines_per_sample=2))


@pytest.mark.parametrize(
    ("text", "kept"), [("(1, 2) == 3\nassert add(6, 6) == 1", ["assert add(1, 2) == 3"]), ("(6, 6) == 1", []), ("", [])]
)
async def test_an_assert_that_the_token_limit_may_have_cut_is_not_kept(text: str, kept: list[str]) -> None:
    async def generate(request: GenerateRequest) -> Generation:
        return Generation((Sample(text, completion_tokens=7, finish_reason="length"),), prompt_tokens=20)

    samples = await LiveTiers(DEPLOYMENT, generate, seed=0).sample(TASK, PlanStep("small", k=1, lines_per_sample=2))
    assert [line.source for line in samples.test_lines] == kept


class Fails:
    """A tier whose solutions or tests fail, the tests first."""

    def __init__(self, solutions: Exception | None, tests: Exception | None) -> None:
        self._solutions, self._tests = solutions, tests
        self._tested = asyncio.Event()

    async def __call__(self, request: GenerateRequest) -> Generation:
        if request.text_input.endswith("assert add"):
            self._tested.set()
            if self._tests:
                raise self._tests
            return Generation((Sample("(1, 2) == 3\n", 5),), prompt_tokens=9)
        await self._tested.wait()
        if self._solutions:
            raise self._solutions
        return Generation((Sample(BODY, 7, "length"),), prompt_tokens=20)


@pytest.mark.parametrize("error", [TierUnavailable("tier small: gone"), InvalidRequest("tier small: text_input has 9 tokens")])
async def test_a_solution_that_is_paid_for_is_returned_where_its_tests_fail(error: Exception) -> None:
    samples = await LiveTiers(DEPLOYMENT, Fails(None, error), seed=0).sample(TASK, PlanStep("small", 1, 2))
    assert ([candidate.source for candidate in samples.candidates], samples.test_lines) == ([TASK.prompt + BODY], ())
    assert (samples.prompt_tokens, samples.completion_tokens) == (20, 7)
    assert samples.problem == f"the tier wrote no tests: {error}"


async def test_a_step_says_what_ended_each_of_its_solutions() -> None:
    samples = await LiveTiers(DEPLOYMENT, Fails(None, None), seed=0).sample(TASK, PlanStep("small", 1, 2))
    (answer,) = samples.candidates
    assert (answer.cut, answer.tokens, samples.problem) == (True, 7, None)


@pytest.mark.parametrize("tests", [None, TierUnavailable("tier small: no tests")])
async def test_a_call_for_solutions_that_fails_fails_the_step(tests: Exception | None) -> None:
    tiers = LiveTiers(DEPLOYMENT, Fails(TierUnavailable("tier small: no solutions"), tests), seed=0)
    with pytest.raises(TierUnavailable, match="no solutions"):
        await tiers.sample(TASK, PlanStep("small", 1, 2))


@pytest.mark.parametrize("waits_for", ["solutions", "tests"])
async def test_a_cancelled_step_cancels_both_calls(waits_for: str) -> None:
    begun, cancelled = asyncio.Semaphore(0), []

    async def generate(request: GenerateRequest) -> Generation:
        kind = "tests" if request.max_lines else "solutions"
        begun.release()
        try:
            if kind == waits_for or waits_for == "solutions":
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(kind)
            raise
        return Generation((Sample(BODY, 7),), prompt_tokens=20)

    step = asyncio.ensure_future(LiveTiers(DEPLOYMENT, generate, seed=0).sample(TASK, PlanStep("small", 1, 2)))
    for _ in range(2):
        await begun.acquire()
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    assert sorted(cancelled) == (["solutions", "tests"] if waits_for == "solutions" else ["tests"])


LONG = Task("def add(a, b):\n" + "".join(f"    x{n} = {n}\n" for n in range(600)), "add")


def times_sent(request: GenerateRequest) -> int:
    return request.text_input.count("    x7 = 7\n")


@pytest.mark.parametrize(("context_tokens", "times"), [(2**14, 2), (4096, 1)])
async def test_code_is_sent_twice_where_the_context_has_room_for_it(context_tokens: int, times: int) -> None:
    generate = ScriptedGenerate()
    deployment = replace(DEPLOYMENT, tiers={"small": replace(SMALL, context_tokens=context_tokens)})
    await LiveTiers(deployment, generate, seed=0).sample(LONG, PlanStep("small", 0))
    assert [times_sent(request) for request in generate.asked] == [times]
    assert generate.asked[0].text_input.endswith("    x599 = 599\n")


@pytest.mark.parametrize("fits", [True, False])
async def test_code_that_does_not_fit_twice_is_sent_once_and_refused_by_that(fits: bool) -> None:
    asked = []

    async def generate(request: GenerateRequest) -> Generation:
        asked.append(request)
        if times_sent(request) == 2 or not fits:
            raise InvalidRequest(f"sent {times_sent(request)} times")
        return Generation((Sample(BODY, 7),), prompt_tokens=20)

    deployment = replace(DEPLOYMENT, tiers={"small": replace(SMALL, context_tokens=2**14)})
    step = LiveTiers(deployment, generate, seed=0).sample(LONG, PlanStep("small", 0))
    if fits:
        assert (await step).candidates[0].source == LONG.prompt + BODY
    else:
        with pytest.raises(InvalidRequest, match="sent 1 times"):
            await step
    assert [times_sent(request) for request in asked] == [2, 1]


async def test_the_caller_s_code_is_marked_in_what_a_tier_is_sent() -> None:
    generate = ScriptedGenerate()
    await tiers(generate).sample(TASK, PlanStep("small", k=1, lines_per_sample=2))
    for request in generate.asked:
        content = request.text_input.encode()
        starts_and_ends = zip(request.literal_ranges[::2], request.literal_ranges[1::2], strict=True)
        assert {content[start:end].decode().partition("    pass")[0] for start, end in starts_and_ends} == {TASK.prompt}


async def test_tests_end_after_the_lines_that_are_kept_and_a_shorter_plan_draws_the_same() -> None:
    generate = ScriptedGenerate()
    for lines in (1, 4, 6):
        await tiers(generate).sample(TASK, PlanStep("small", k=1, lines_per_sample=lines))
    assert [request.max_lines for request in generate.asked] == [None, 1, None, 4, None, 6]
    one, four, six = generate.asked[1::2]
    assert replace(one, max_lines=4) == four, "recorded once, four lines serve a plan of one"
    assert (four.max_tokens, six.max_tokens) == (256, 384)
    assert "Write 4 lines" in four.text_input
    assert "Write 6 lines" in six.text_input


@pytest.mark.parametrize("max_tokens", [-1, 0, 1025, 2**31 - 1])
def test_max_tokens_out_of_range_names_the_value_and_what_is_allowed(max_tokens: int) -> None:
    plan = Plan("both", (PlanStep("small", 1, 2, 0.5), PlanStep("large", 0)))
    with pytest.raises(InvalidRequest, match=f"max_tokens is {max_tokens}, must be 1 to 1024"):
        check_max_tokens(max_tokens, plan, DEPLOYMENT)
    check_max_tokens(1024, plan, DEPLOYMENT)
    check_max_tokens(None, plan, DEPLOYMENT)


async def test_a_single_draw_is_the_greedy_solution_or_one_of_those_that_a_step_samples() -> None:
    generate = ScriptedGenerate()
    for number in range(3):
        samples = await tiers(generate, seed=7).draw(TASK, "small", number)
        assert (len(samples.candidates), samples.test_lines, samples.completion_tokens) == (1, (), 7)
    await tiers(generate, seed=7).sample(TASK, PlanStep("small", k=2, lines_per_sample=1))
    greedy, first, second, step = generate.asked[:4]
    assert (greedy.temperature, greedy.num_return_sequences) == (0.0, 1)
    assert [(drawn.temperature, drawn.seeds) for drawn in (first, second)] == [(step.temperature, [seed]) for seed in step.seeds]


async def test_tests_can_be_added_to_a_drawn_answer_as_a_step_would_have_asked_for_them() -> None:
    step = PlanStep("small", k=1, lines_per_sample=2)
    together, apart = ScriptedGenerate(), ScriptedGenerate()
    whole = await tiers(together, seed=3).sample(TASK, step)
    asked = tiers(apart, seed=3)
    drawn = await asked.draw(TASK, "small", 0)
    assert (drawn.test_lines, len(apart.asked)) == ((), 1)
    assert await asked.add_tests(TASK, step, drawn) == whole
    assert apart.asked == together.asked


async def test_an_answer_stays_untested_where_its_tests_fail() -> None:
    generate = ScriptedGenerate()
    asked = tiers(generate)
    drawn = await asked.draw(TASK, "small", 0)
    generate.fails = True
    samples = await asked.add_tests(TASK, PlanStep("small", k=1, lines_per_sample=2), drawn)
    assert samples == replace(drawn, problem="the tier wrote no tests: tier small: gone")
