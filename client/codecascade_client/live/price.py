"""What a token costs on the machine of a tier: seconds per token at its best throughput, times dollars per hour."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from codecascade.deployment import Tier
from codecascade.errors import InvalidRequest
from codecascade.texts.prompts import solution_prompt
from codecascade.tiers.contract import Generate, GenerateRequest
from codecascade.tiers.live import TEMPERATURE, TOP_P
from codecascade.types import Task

CONCURRENCIES = (1, 2, 4, 8, 16, 32)
GENERATED_TOKENS = 128  # limit of a call
WORTH_IT = 1.05  # try a higher concurrency while the last one raised the throughput by this factor
_SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Load:
    """One measurement."""

    concurrency: int  # calls at a time
    prompt_tokens: int
    generated_tokens: int
    seconds: float  # wall time until all calls had answered


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds per 1,000 tokens at a concurrency."""

    concurrency: int
    prompt: float
    generated: float
    generated_only: float  # the paper's way: all time is charged to the generated tokens


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per 1M tokens."""

    speed: Speed  # the fastest one
    prompt_per_mtok: float
    generated_per_mtok: float
    generated_only_per_mtok: float  # the paper's way


async def measure_speeds(
    generate: Generate,
    tier: Tier,
    tasks: Sequence[Task],
    on_speed: Callable[[Speed], None],
    clock: Callable[[], float] = time.perf_counter,
) -> list[Speed]:
    """Speeds at rising concurrency, until a higher one gains nothing. Raises TierUnavailable, InvalidRequest.

    Each concurrency is measured twice: with calls that generate one token, and with calls that generate many.
    """
    await _load(generate, tier, tasks, 1, 1, clock)  # the first call reads the weights from disk
    speeds: list[Speed] = []
    for concurrency in CONCURRENCIES:
        fresh = tasks[2 * concurrency % len(tasks) :] or tasks  # other prompts: the tier may have cached the first ones
        reading = await _load(generate, tier, tasks, concurrency, 1, clock)
        writing = await _load(generate, tier, fresh, concurrency, GENERATED_TOKENS, clock)
        speeds.append(speed_of(reading, writing))
        on_speed(speeds[-1])
        if len(speeds) > 1 and speeds[-1].generated_only * WORTH_IT > speeds[-2].generated_only:
            break
    return speeds


def speed_of(reading: Load, writing: Load) -> Speed:
    """Solve seconds = p · prompt tokens + g · generated tokens for both loads. Raises InvalidRequest if that is impossible."""
    determinant = reading.prompt_tokens * writing.generated_tokens - writing.prompt_tokens * reading.generated_tokens
    if determinant <= 0:
        raise InvalidRequest("the tier generated too few tokens to measure what one takes")
    prompt = (reading.seconds * writing.generated_tokens - writing.seconds * reading.generated_tokens) / determinant
    prompt = max(0.0, prompt)  # noise can turn a share negative
    generated = max(0.0, (writing.seconds - prompt * writing.prompt_tokens) / writing.generated_tokens)
    return Speed(writing.concurrency, 1e3 * prompt, 1e3 * generated, 1e3 * writing.seconds / writing.generated_tokens)


def price_of(speeds: Sequence[Speed], dollars_per_hour: float) -> Price:
    """dollars_per_hour: price of all devices that the tier runs on."""
    fastest = min(speeds, key=lambda speed: speed.generated_only)
    per_mtok = 1e3 * dollars_per_hour / _SECONDS_PER_HOUR  # dollars per 1M tokens, at 1 second per 1,000 tokens
    return Price(fastest, fastest.prompt * per_mtok, fastest.generated * per_mtok, fastest.generated_only * per_mtok)


def sandbox_usd_per_cpu_s(dollars_per_hour: float, cores: int) -> float:
    """dollars_per_hour: price of a machine with so many cores."""
    return dollars_per_hour / cores / _SECONDS_PER_HOUR


def speed_in_words(speed: Speed) -> str:
    """`4 calls at a time: 0.52 s per 1,000 prompt tokens, 33.90 s per 1,000 generated (36.20 s, prompts included)`."""
    calls = "1 call" if speed.concurrency == 1 else f"{speed.concurrency} calls"
    return (
        f"{calls} at a time: {speed.prompt:.2f} s per 1,000 prompt tokens, {speed.generated:.2f} s per 1,000 generated "
        f"({speed.generated_only:.2f} s, prompts included)"
    )


def price_cells(price: Price, paper: bool) -> tuple[str, str, str, str, str]:
    """Concurrency, seconds per 1,000 prompt and generated tokens, dollars per 1M of both."""
    speed = price.speed
    if paper:
        return str(speed.concurrency), "–", f"{speed.generated_only:.2f}", "–", f"{price.generated_only_per_mtok:.4f}"
    seconds = (f"{speed.prompt:.2f}", f"{speed.generated:.2f}")
    return str(speed.concurrency), *seconds, f"{price.prompt_per_mtok:.4f}", f"{price.generated_per_mtok:.4f}"


async def _load(
    generate: Generate, tier: Tier, tasks: Sequence[Task], concurrency: int, max_tokens: int, clock: Callable[[], float]
) -> Load:
    """Run 2 · concurrency calls, each with its own prompt if there are enough tasks."""
    requests = [_request(tier, tasks[number % len(tasks)], number, max_tokens) for number in range(2 * concurrency)]
    turn = asyncio.Semaphore(concurrency)

    async def ask(request: GenerateRequest) -> tuple[int, int]:
        async with turn:
            generation = await generate(request)
        return generation.prompt_tokens, sum(sample.completion_tokens for sample in generation.samples)

    started = clock()
    answers = await asyncio.gather(*(ask(request) for request in requests))
    seconds = clock() - started
    return Load(concurrency, sum(prompt for prompt, _ in answers), sum(written for _, written in answers), seconds)


def _request(tier: Tier, task: Task, seed: int, max_tokens: int) -> GenerateRequest:
    prompt = solution_prompt(tier.style, task)
    return GenerateRequest(
        tier=tier.name,
        text_input=prompt.text,
        literal_ranges=prompt.literal_ranges,
        stop_words=(),
        max_tokens=min(max_tokens, tier.max_completion_tokens),
        temperature=TEMPERATURE,
        top_p=TOP_P,
        seed=seed,
        num_return_sequences=1,
    )
