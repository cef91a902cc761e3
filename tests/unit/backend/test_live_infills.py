from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from codecascade.deployment import Deployment, Tier
from codecascade.errors import InvalidRequest
from codecascade.requests import infill_of
from codecascade.texts.infills import MAX_LINE_TOKENS, MAX_TOKENS, fim_prompt
from codecascade.tiers.contract import GenerateRequest, Generation
from codecascade.tiers.live import LiveTiers
from codecascade.types import PlanStep, Sample, Task

BEFORE, AFTER = 'def add(a, b):\n    """Add.\n\n    >>> add(1, 2)\n    3\n    """\n    total = ', "\n    return total\n"
TASK = infill_of(BEFORE, AFTER)
QWEN = Tier("qwen", "chatml", context_tokens=4096, max_completion_tokens=512, price_per_mtok=1.0, fim="qwen2.5-coder")
PLAIN = Tier("plain", "alpaca", context_tokens=4096, max_completion_tokens=512, price_per_mtok=1.0)
SMALL = replace(QWEN, name="small", context_tokens=500)
DEPLOYMENT = Deployment("tiny", Path("tiny.json"), {tier.name: tier for tier in (QWEN, PLAIN, SMALL)})
GREEDY = PlanStep("qwen", k=0)


@dataclass
class Writes:
    """Writes one text. Refuses prompts of more characters than its context has tokens, if it is strict."""

    text: str = "a + b"
    strict: bool = False
    asked: list[GenerateRequest] = field(default_factory=list)

    async def __call__(self, request: GenerateRequest) -> Generation:
        self.asked.append(request)
        if self.strict and len(request.text_input) > 300:
            raise InvalidRequest("text_input is too long")
        return Generation((Sample(self.text, completion_tokens=4),), prompt_tokens=20)


def tiers(generate: Writes, max_tokens: int | None = None) -> LiveTiers:
    return LiveTiers(DEPLOYMENT, generate, seed=0, max_tokens=max_tokens)


async def test_an_infill_is_asked_for_by_the_tiers_own_tokens_and_read_between_the_texts() -> None:
    generate = Writes()
    samples = await tiers(generate).sample(TASK, GREEDY)
    (request,) = generate.asked
    prompt = fim_prompt("qwen2.5-coder", TASK)
    assert (request.text_input, request.stop_words, request.literal_ranges) == (prompt.text, prompt.stop, prompt.literal_ranges)
    assert request.temperature == 0.0
    assert [candidate.source for candidate in samples.candidates] == [BEFORE + "a + b" + AFTER]
    assert samples.candidates[0].tokens == 4


async def test_an_infill_fits_whatever_the_sandbox_lacks() -> None:
    samples = await tiers(Writes()).sample(infill_of("import absent\n\n\n" + BEFORE, AFTER), GREEDY)
    assert samples.candidates[0].problem is None


async def test_a_tier_without_such_tokens_refuses() -> None:
    with pytest.raises(InvalidRequest, match="the tier has no tokens for fill-in-the-middle"):
        await tiers(Writes()).sample(TASK, PlanStep("plain", k=0))


@pytest.mark.parametrize(
    ("task", "wanted", "limit"),
    [
        (TASK, None, MAX_TOKENS),
        (replace(TASK, one_line=True), None, MAX_LINE_TOKENS),
        (TASK, 16, 16),
        (TASK, 4000, MAX_TOKENS),
    ],
)
async def test_an_infill_is_short(task: Task, wanted: int | None, limit: int) -> None:
    generate = Writes()
    await tiers(generate, wanted).sample(task, GREEDY)
    assert generate.asked[0].max_tokens == limit


async def test_of_texts_that_are_too_long_for_the_context_the_nearest_lines_are_sent() -> None:
    generate = Writes(strict=True)
    long = infill_of("x = 1\n" * 900 + BEFORE, AFTER + "\ny = 2\n" * 900)
    samples = await tiers(generate).sample(long, PlanStep("small", k=0))
    guessed, sent = generate.asked
    assert len(sent.text_input) <= 300 < len(guessed.text_input)
    assert f"    total = <|fim_suffix|>{AFTER}" in sent.text_input
    assert samples.candidates[0].source == long.prompt + "a + b" + long.suffix


async def test_a_refusal_of_short_texts_is_the_answer() -> None:
    generate = Writes(strict=True)
    short = infill_of("x = ", "\n" + "y" * 400)
    with pytest.raises(InvalidRequest, match="too long"):
        await tiers(generate).sample(short, GREEDY)
    assert len(generate.asked) == 1


def test_python_in_a_function_is_tested_with_what_comes_with_it() -> None:
    assert TASK.infill
    assert (TASK.entry_point, [line.source for line in TASK.given_tests]) == ("add", ["assert add(1, 2) == 3"])
    assert [line.source for line in infill_of(BEFORE, AFTER, tests=["assert add(2, 2) == 4"]).given_tests] == [
        "assert add(2, 2) == 4",
        "assert add(1, 2) == 3",
    ]


def test_where_no_test_can_come_from_nothing_is_parsed_to_find_one() -> None:
    task = infill_of("def add(a, b):\n    ", AFTER)
    assert (task.testable, task.untested) == (False, "no tests come with it")
    assert infill_of("def add(a, b):\n    ", AFTER, tests=["assert add(2, 2) == 4"]).testable
    assert infill_of("def add(a, b):\n    ", AFTER, entry_point="add").entry_point == "add"


def test_another_language_is_not_tested() -> None:
    task = infill_of("def add(a, b)\n  ", "\nend\n", "ruby")
    assert (task.infill, task.testable, task.untested, task.language) == (True, False, "the prompt is ruby, not Python", "ruby")
