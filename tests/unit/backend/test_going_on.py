"""A model goes on where a stop word cut off what its answer needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from codecascade.deployment import Deployment, Tier
from codecascade.errors import InvalidRequest, TierUnavailable
from codecascade.tiers.contract import GenerateRequest, Generation, sequence_seed
from codecascade.tiers.going_on import go_on
from codecascade.tiers.live import LiveTiers
from codecascade.types import PlanStep, Sample, Task

TASK = Task("def primes(n):\n", "primes")
BODY = "    return [i for i in range(n) if is_prime(i)]\n"
HELPER = " is_prime(n):\n    return n > 1 and all(n % d for d in range(2, n))"
SMALL = Tier("small", "chatml", context_tokens=4096, max_completion_tokens=512, price_per_mtok=1.0)
DEPLOYMENT = Deployment("tiny", Path("tiny.json"), {"small": SMALL})


class Writes:
    """Answers the calls with these samples and errors, in their order."""

    def __init__(self, *answers: tuple[Sample, ...] | Exception) -> None:
        self.asked: list[GenerateRequest] = []
        self._answers = list(answers)

    async def __call__(self, request: GenerateRequest) -> Generation:
        self.asked.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Generation(answer, prompt_tokens=100 * len(self.asked))


def stopped(text: str, stop_word: str, tokens: int = 20) -> Sample:
    return Sample(text, tokens, "stop", stop_word=stop_word)


async def test_a_helper_below_the_function_is_asked_for_and_both_calls_are_counted() -> None:
    generate = Writes((stopped(BODY, "\ndef "),), (Sample(HELPER, 30, "stop", stop_word="\n```"),))
    samples = await LiveTiers(DEPLOYMENT, generate, seed=3).sample(TASK, PlanStep("small", 0))
    assert samples.candidates[0].source == TASK.prompt + BODY + "\ndef" + HELPER + "\n"
    assert (samples.prompt_tokens, samples.completion_tokens) == (100 + 200, 20 + 30)
    first, second = generate.asked
    assert second.text_input == first.text_input + BODY + "\ndef"
    assert second.literal_ranges == (*first.literal_ranges[:-1], len(second.text_input))
    assert (second.max_tokens, second.seed, second.num_return_sequences) == (512 - 20, sequence_seed(3, 0), 1)
    assert not {"\ndef ", "\nimport ", "\n#"} & set(second.stop_words)
    assert {"\n```", "\nprint", "\nassert ", "\nif "} <= set(second.stop_words)


@pytest.mark.parametrize("stop_word", ["\ndef ", "\nclass ", "\n@", "\nasync ", "\nimport ", "\nfrom "])
async def test_every_stop_word_that_begins_new_code_may_cut_off_what_is_needed(stop_word: str) -> None:
    generate = Writes((stopped(BODY, stop_word),), (Sample("", 1),))
    await LiveTiers(DEPLOYMENT, generate, seed=3).sample(TASK, PlanStep("small", 0))
    assert [request.text_input.endswith(BODY + stop_word.rstrip(" ")) for request in generate.asked] == [False, True]


@pytest.mark.parametrize(
    "sample",
    [
        stopped("    return list(range(n))\n", "\ndef "),
        stopped(BODY, "\n```"),
        stopped(BODY, "\nprint"),
        stopped(BODY, ""),
        stopped(BODY, "\ndef ", tokens=512),
        stopped("    return ((\n", "\ndef "),
    ],
    ids=["nothing is missing", "the block ended", "it is tried out", "the model ended", "no tokens are left", "no program"],
)
async def test_nothing_else_is_asked_for_twice(sample: Sample) -> None:
    generate = Writes((sample,))
    samples = await LiveTiers(DEPLOYMENT, generate, seed=3).sample(TASK, PlanStep("small", 0))
    assert (len(generate.asked), samples.completion_tokens) == (1, sample.completion_tokens)


@pytest.mark.parametrize("error", [TierUnavailable("gone"), InvalidRequest("text_input has 5000 tokens")])
async def test_an_answer_stays_where_the_model_cannot_go_on(error: Exception) -> None:
    samples = await LiveTiers(DEPLOYMENT, Writes((stopped(BODY, "\ndef "),), error), seed=3).sample(TASK, PlanStep("small", 0))
    assert samples.candidates[0].source == TASK.prompt + BODY
    assert (samples.prompt_tokens, samples.completion_tokens) == (100, 20)


async def test_each_sample_goes_on_for_itself() -> None:
    whole = stopped("    return []\n", "\n```", tokens=5)
    first = (stopped(BODY, "\ndef "), whole, stopped(BODY + "    # or so\n", "\nfrom ", tokens=25))
    generate = Writes(first, (Sample(HELPER, 30, "length"),), (Sample(" sympy import isprime as is_prime", 9),))
    answer = await LiveTiers(DEPLOYMENT, generate, seed=3).solutions(TASK, PlanStep("small", 3, 1))
    assert answer.generation.samples[1] == whole
    assert [sample.completion_tokens for sample in answer.generation.samples] == [50, 5, 34]
    assert [sample.continued_prompt_tokens for sample in answer.generation.samples] == [200, 0, 300]
    assert [sample.finish_reason for sample in answer.generation.samples] == ["length", "stop", "stop"]
    assert answer.generation.samples[2].text.endswith("\nfrom sympy import isprime as is_prime")
    assert [request.seed for request in generate.asked] == [3, sequence_seed(3, 0), sequence_seed(3, 2)]


@pytest.mark.parametrize(("given", "marked"), [((6, 12), (6, 23)), ((6, 8), (6, 8, 12, 23)), ((), (12, 23))])
async def test_what_the_model_wrote_is_marked_as_plain_text(given: tuple[int, ...], marked: tuple[int, ...]) -> None:
    request = GenerateRequest("small", "<user>é = 1", (), 9, 0.0, 1.0, 0, 1, literal_ranges=given)
    assert len(request.text_input.encode()) == 12
    generate = Writes((Sample("", 1),))
    answered = Generation((stopped("x = y", "\nclass ", tokens=1),), prompt_tokens=1)
    await go_on(generate, request, answered, lambda text: text)
    assert generate.asked[0].literal_ranges == marked
