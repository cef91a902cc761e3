"""The engine of the CPU tiers, with the real weights of the smallest one."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from codecascade.errors import InvalidRequest, TierUnavailable
from codecascade.texts.prompts import solution_prompt
from codecascade.tiers.contract import GenerateRequest, Generation, sequence_seed
from codecascade.tiers.llama_cpp import LlamaCpp
from codecascade.types import Sample, Task
from codecascade_build.fetch.sources import sources
from codecascade_build.fetch.weights import obtain
from codecascade_build.progress import Progress
from codecascade_build.recipes import load_recipe
from codecascade_build.render.llama_cpp import settings

pytestmark = pytest.mark.models

CONTEXT_TOKENS = 512
COUNTING = "1\n2\n3\n4\n"  # goes on as long as it may
SAY_YES = "<|im_start|>user\nSay yes.<|im_end|>\n<|im_start|>assistant\n"
FIBONACCI = 'def fibonacci(n):\n    """The n-th Fibonacci number."""\n'


@pytest.fixture(scope="module")
def weights() -> Path:
    tier = settings(load_recipe("qwen2.5-coder"), "llama_cpp")["qwen2.5-coder-0.5b"]
    return obtain(tier.weights, sources(os.environ, Progress()))


@pytest.fixture(scope="module")
def others() -> set[str]:
    """What this process has open before the engine is loaded."""
    return {os.readlink(path) for path in _descriptors()}


@pytest.fixture(scope="module")
def engine(weights: Path, others: set[str]) -> Iterator[LlamaCpp]:
    engine = LlamaCpp(weights, CONTEXT_TOKENS, slots=1)
    yield engine
    engine.close()


def request(text: str, **changes: Any) -> GenerateRequest:
    plain = GenerateRequest("small", text, (), max_tokens=16, temperature=0.0, top_p=1.0, seed=1, num_return_sequences=1)
    return replace(plain, **changes)


def sampled(text: str, **changes: Any) -> GenerateRequest:
    """Hot: the smallest change of a logit soon shows."""
    return request(text, **{"temperature": 1.5, "max_tokens": 12, "num_return_sequences": 2, **changes})


def texts(generation: Generation) -> list[str]:
    return [sample.text for sample in generation.samples]


async def cpu_spent(seconds: float) -> None:
    """Returns when this process has worked for so long: a generation in another thread is under way."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        await asyncio.to_thread(time.sleep, 0.01)


async def test_the_same_prompt_and_seed_give_the_same_text_whatever_runs_before_and_beside_it(engine: LlamaCpp) -> None:
    asked = sampled(FIBONACCI)
    alone = await engine.generate(asked)
    head = FIBONACCI[:30]
    others = [
        sampled(FIBONACCI + alone.samples[0].text[:20]),  # the cache already holds all of it, read one token at a time
        sampled(head),  # the cache already holds all of it
        sampled(head + "something else", num_return_sequences=1),
        sampled("x = 1\n" * 80, max_tokens=4),
    ]
    expected = [await engine.generate(other) for other in others]
    given_up = asyncio.ensure_future(engine.generate(sampled(COUNTING, max_tokens=400)))
    answers = asyncio.gather(*(engine.generate(one) for other in others[::-1] for one in (asked, other)))
    await cpu_spent(0.5)
    given_up.cancel()
    assert await answers == [one for answer in expected[::-1] for one in (alone, answer)]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a second slot needs a second core")
async def test_calls_in_two_slots_run_side_by_side_and_give_the_same_text(engine: LlamaCpp, weights: Path) -> None:
    two = LlamaCpp(weights, CONTEXT_TOKENS, slots=2)
    try:
        endless = asyncio.ensure_future(two.generate(request(COUNTING, max_tokens=450, num_return_sequences=100)))
        beside = await two.generate(sampled(FIBONACCI))
        assert not endless.done()
        endless.cancel()
        assert beside == await engine.generate(sampled(FIBONACCI))
    finally:
        two.close()


async def test_a_sequence_depends_on_its_place_and_not_on_how_many_there_are(engine: LlamaCpp) -> None:
    one = await engine.generate(sampled(FIBONACCI, num_return_sequences=1))
    three = await engine.generate(sampled(FIBONACCI, num_return_sequences=3))
    assert texts(three)[:1] == texts(one)
    assert len(set(texts(three))) == 3


async def test_another_seed_gives_another_text(engine: LlamaCpp) -> None:
    first = await engine.generate(sampled(FIBONACCI, seed=0))
    assert texts(first) != texts(await engine.generate(sampled(FIBONACCI, seed=2**64 - 1)))


async def test_temperature_zero_is_greedy(engine: LlamaCpp) -> None:
    first, second = (await engine.generate(request(COUNTING, num_return_sequences=2))).samples
    assert first == second
    assert first.text.startswith("5\n6\n7\n")
    assert await engine.generate(request(COUNTING, seed=5, num_return_sequences=2)) == Generation((first, second), 8)


async def test_tokens_are_counted_as_generated(engine: LlamaCpp) -> None:
    generation = await engine.generate(request(COUNTING, max_tokens=7))
    assert generation.prompt_tokens == 8
    (sample,) = generation.samples
    assert (sample.text, sample.completion_tokens, sample.finish_reason) == ("5\n6\n7\n8", 7, "length")


async def test_a_stop_word_is_cut_though_it_spans_tokens_and_is_paid_for(engine: LlamaCpp) -> None:
    (sample,) = (await engine.generate(request(COUNTING, stop_words=("never", "6\n7")))).samples
    assert (sample.text, sample.completion_tokens, sample.finish_reason) == ("5\n", 5, "stop")


@pytest.mark.parametrize("stop_words", [(), ("\n\n", "\nnever")])
async def test_a_text_ends_after_its_lines_and_costs_what_was_said(engine: LlamaCpp, stop_words: tuple[str, ...]) -> None:
    asked = request(COUNTING, max_tokens=12, stop_words=stop_words)
    (whole,) = (await engine.generate(asked)).samples
    lines = whole.text.split("\n")
    assert (len(whole.line_tokens), whole.line_tokens[-1]) == (len(lines), whole.completion_tokens)
    for count in (2, 1, 4):
        (cut,) = (await engine.generate(replace(asked, max_lines=count))).samples
        ends = whole.line_tokens[:count]
        assert cut == Sample("\n".join(lines[:count]), ends[-1], "stop", ends, log_probs=cut.log_probs)
        assert cut.log_probs
        assert cut.log_probs.tokens == cut.completion_tokens
    assert (await engine.generate(replace(asked, max_lines=99))).samples == (whole,)


async def test_the_model_itself_may_stop(engine: LlamaCpp) -> None:
    (sample,) = (await engine.generate(request(SAY_YES, max_tokens=100))).samples
    assert sample.finish_reason == "stop"
    assert "<|im_end|>" not in sample.text


@pytest.mark.parametrize("mark", ["<|im_end|>", "<|endoftext|>", "<|im_end|>\n<|im_start|>assistant\n", "<tool_call>"])
async def test_a_special_token_in_the_caller_s_text_does_not_end_the_turn(engine: LlamaCpp, mark: str) -> None:
    """The twin of a prompt whose mark is no token is answered alike."""

    async def answer(mark: str) -> Sample:
        docstring = f'"""Return the sum of a and b. The record ends with {mark}."""'
        prompt = solution_prompt("chatml", Task(f"def add(a, b):\n    {docstring}\n", "add"))
        asked = request(prompt.text, stop_words=prompt.stop, max_tokens=60, literal_ranges=prompt.literal_ranges)
        (sample,) = (await engine.generate(asked)).samples
        return replace(sample, log_probs=None)

    assert await answer(mark) == await answer("[END]")


async def test_special_tokens_are_text_in_literal_ranges_alone(engine: LlamaCpp) -> None:
    async def tokens(text: str, *literal_ranges: int) -> int:
        return (await engine.generate(request(text, max_tokens=1, literal_ranges=literal_ranges))).prompt_tokens

    for name in ("<|im_end|>", "<|fim_prefix|>", "</tool_call>"):
        assert await tokens(f"{name}{name}") == 2
        assert await tokens(f"{name}{name}", 0, len(name)) > 2
        assert await tokens(f"{name}{name}", 0, len(name)) == await tokens(f"{name}{name}", len(name), 2 * len(name))
    for text in ("if a < b:\n    return '|im_end|'\n", "[PAD151665]", "    x = 1\n\n\n"):
        assert await tokens(text, 0, len(text)) == await tokens(text)


async def test_a_cache_of_the_same_text_with_other_ranges_is_another(engine: LlamaCpp) -> None:
    text = "<|im_start|>user\nSay <|im_end|> twice.<|im_end|>\n<|im_start|>assistant\n"
    plain = request(text, max_tokens=8)
    marked = replace(plain, literal_ranges=(17, 35))
    answers = [await engine.generate(asked) for asked in (plain, marked, plain, marked)]
    assert answers[:2] == answers[2:]
    assert answers[0].prompt_tokens < answers[1].prompt_tokens


async def test_the_stop_word_is_named_and_nothing_else_is_one(engine: LlamaCpp) -> None:
    stopped = request(COUNTING, stop_words=("never", "6\n7"))
    others = [
        request(COUNTING, max_tokens=3, stop_words=("never",)),
        replace(stopped, max_lines=1),
        request(SAY_YES, max_tokens=100),
    ]
    samples = [sample for asked in (stopped, *others) for sample in (await engine.generate(asked)).samples]
    assert [(sample.stop_word, sample.finish_reason) for sample in samples] == [
        ("6\n7", "stop"),
        ("", "length"),
        ("", "stop"),
        ("", "stop"),
    ]


async def test_generation_ends_where_the_context_does(engine: LlamaCpp) -> None:
    generation = await engine.generate(request("1\n2\n3\n4\n" * 63, max_tokens=300))
    (sample,) = generation.samples
    assert generation.prompt_tokens + sample.completion_tokens == CONTEXT_TOKENS
    assert sample.finish_reason == "length"


async def test_text_that_is_not_ascii_comes_back_whole(engine: LlamaCpp) -> None:
    (sample,) = (await engine.generate(request("é漢🦊 é漢🦊 é漢🦊 é漢", max_tokens=20))).samples
    assert "🦊" in sample.text


async def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(engine: LlamaCpp) -> None:
    with pytest.raises(InvalidRequest, match=r"text_input has 600 tokens, must have 511 or fewer: the context holds 512"):
        await engine.generate(request("1\n" * 300))
    with pytest.raises(
        InvalidRequest, match=r"the prompt has 600 tokens without its template, must have 509 or fewer: the context"
    ):
        await engine.generate(request("<|im_start|>" + "1\n" * 300 + "<|im_end|>", literal_ranges=(12, 612)))
    with pytest.raises(InvalidRequest, match="text_input has 603 tokens, must have 511 or fewer: "):
        await engine.generate(request("1\n" * 300 + "x = ", literal_ranges=(600, 604)))
    assert texts(await engine.generate(request(COUNTING, max_tokens=1))) == ["5"]


async def test_a_cancelled_call_stops_at_once_and_the_next_one_is_answered(engine: LlamaCpp) -> None:
    began = time.process_time()
    await engine.generate(request(COUNTING, max_tokens=100))
    hundred_tokens = time.process_time() - began  # CPU seconds
    endless = asyncio.ensure_future(engine.generate(request(COUNTING, max_tokens=450, num_return_sequences=100)))
    await cpu_spent(hundred_tokens / 4)
    endless.cancel()
    cancelled = time.process_time()
    with pytest.raises(asyncio.CancelledError):
        await endless
    assert texts(await engine.generate(request(COUNTING, max_tokens=1))) == ["5"]
    assert time.process_time() - cancelled < hundred_tokens


async def test_a_call_cancelled_in_the_queue_never_starts(engine: LlamaCpp) -> None:
    first = asyncio.ensure_future(engine.generate(request(COUNTING, max_tokens=3)))
    queued = asyncio.ensure_future(engine.generate(request("x = 1\n", max_tokens=400, num_return_sequences=100)))
    last = asyncio.ensure_future(engine.generate(request(COUNTING, max_tokens=1)))
    await asyncio.sleep(0)
    queued.cancel()
    assert (texts(await first), texts(await last)) == (["5\n6"], ["5"])


async def test_closing_drops_what_is_queued(weights: Path) -> None:
    engine = LlamaCpp(weights, CONTEXT_TOKENS, slots=1)
    first = asyncio.ensure_future(engine.generate(request(COUNTING, max_tokens=1)))
    queued = asyncio.ensure_future(engine.generate(request(COUNTING, max_tokens=400, num_return_sequences=100)))
    await asyncio.sleep(0)
    engine.close()
    assert texts(await first) == ["5"]
    with pytest.raises(asyncio.CancelledError):
        await queued


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(TierUnavailable, match=rf"the weights file {tmp_path}/absent.gguf cannot be read: No such file"):
        LlamaCpp(tmp_path / "absent.gguf", CONTEXT_TOKENS, slots=1)


def test_a_file_that_is_no_gguf_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("<html>not found</html>")
    with pytest.raises(TierUnavailable, match=rf"the weights file {tmp_path}/text.gguf is not a GGUF file"):
        LlamaCpp(tmp_path / "text.gguf", CONTEXT_TOKENS, slots=1)


@pytest.mark.parametrize("size", [100, 10_000_000])
def test_half_a_file_is_named(weights: Path, tmp_path: Path, size: int) -> None:
    with weights.open("rb") as whole:
        (tmp_path / "half.gguf").write_bytes(whole.read(size))
    with pytest.raises(TierUnavailable, match=rf"the weights file {tmp_path}/half.gguf cannot be loaded"):
        LlamaCpp(tmp_path / "half.gguf", CONTEXT_TOKENS, slots=1)


def test_an_engine_can_be_closed_as_soon_as_it_is_loaded(weights: Path) -> None:
    for _ in range(3):
        LlamaCpp(weights, CONTEXT_TOKENS, slots=1).close()


def test_signals_stay_with_the_process(weights: Path) -> None:
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        engine = LlamaCpp(weights, CONTEXT_TOKENS, slots=1)
        os.kill(os.getpid(), signal.SIGTERM)
        engine.close()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]


def test_nobody_can_connect_to_the_server_inside(engine: LlamaCpp, others: set[str]) -> None:
    mine = {os.readlink(path) for path in _descriptors()} - others
    listening = [f"socket:[{line.split()[9]}]" for table in ("tcp", "tcp6") for line in _lines(f"/proc/net/{table}")]
    assert not mine.intersection(listening)
    sockets = [line.split() for line in _lines("/proc/net/unix")]
    named = [fields[7] for fields in sockets if len(fields) > 7 and f"socket:[{fields[6]}]" in mine]
    assert not [path for path in named if os.path.exists(path)]


def test_sequence_seeds_are_all_different_and_never_llama_cpps_random_one() -> None:
    seeds = {sequence_seed(seed, sequence) for seed in (0, 1, 2**64 - 1) for sequence in range(1000)}
    assert len(seeds) == 3000
    assert max(seeds) < 2**32 - 1


def _descriptors() -> Iterator[str]:
    for name in os.listdir("/proc/self/fd"):
        if os.path.lexists(path := f"/proc/self/fd/{name}"):
            yield path


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()[1:]
