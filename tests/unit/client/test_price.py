import asyncio

import pytest
from codecascade.deployment import Tier
from codecascade.errors import InvalidRequest
from codecascade.tiers.contract import GenerateRequest, Generation
from codecascade.types import Sample, Task
from codecascade_client.live.price import Load, Speed, measure_speeds, price_of, sandbox_usd_per_cpu_s, speed_in_words, speed_of
from codecascade_client.recording.published_prices import PUBLISHED

TIER = Tier("small", "base", context_tokens=2048, max_completion_tokens=64, price_per_mtok=0.0)
TASKS = [Task(f"def f_{n}(a):\n", f"f_{n}") for n in range(40)]
PROMPT_S, GENERATED_S = 0.001, 0.05  # per token, of one call alone
PARALLEL = 4  # calls that the machine below does at once


class Machine:
    """A tier on a clock of its own: `PARALLEL` calls at a time, each taking what its tokens take."""

    def __init__(self) -> None:
        self.busy_s = 0.0

    async def generate(self, request: GenerateRequest) -> Generation:
        prompt = 10 * len(request.text_input)
        self.busy_s += PROMPT_S * prompt + GENERATED_S * request.max_tokens
        await asyncio.sleep(0)
        return Generation((Sample("x", request.max_tokens, "length"),), prompt)


def test_two_loads_tell_what_prompt_and_generated_tokens_take() -> None:
    reading = Load(4, prompt_tokens=1000, generated_tokens=10, seconds=1000 * 0.002 + 10 * 0.03)
    writing = Load(4, prompt_tokens=900, generated_tokens=500, seconds=900 * 0.002 + 500 * 0.03)
    speed = speed_of(reading, writing)
    assert (speed.prompt, speed.generated) == pytest.approx((2.0, 30.0))
    assert speed.generated_only == pytest.approx(1e3 * writing.seconds / 500)


def test_a_tier_that_writes_nothing_has_no_price() -> None:
    load = Load(1, prompt_tokens=100, generated_tokens=1, seconds=1.0)
    with pytest.raises(InvalidRequest, match="generated too few tokens"):
        speed_of(load, load)


class ColdMachine(Machine):
    """Its first call takes a minute more: the weights come from the disk."""

    async def generate(self, request: GenerateRequest) -> Generation:
        self.busy_s += 0.0 if self.busy_s else 60.0
        return await super().generate(request)


async def test_what_the_first_call_takes_longer_is_not_measured() -> None:
    machine = ColdMachine()
    seen: list[Speed] = []
    first, *_ = await measure_speeds(machine.generate, TIER, TASKS, seen.append, Ticks(machine, seen))
    assert first.prompt == pytest.approx(1e3 * PROMPT_S)
    assert first.generated == pytest.approx(1e3 * GENERATED_S)


def test_a_speed_is_told_in_words() -> None:
    assert speed_in_words(Speed(1, 0.5, 33.0, 36.0)) == (
        "1 call at a time: 0.50 s per 1,000 prompt tokens, 33.00 s per 1,000 generated (36.00 s, prompts included)"
    )
    assert speed_in_words(Speed(4, 0.5, 33.0, 36.0)).startswith("4 calls at a time: ")


async def test_concurrency_rises_until_it_brings_nothing() -> None:
    machine = Machine()
    seen: list[Speed] = []
    speeds = await measure_speeds(machine.generate, TIER, TASKS, seen.append, Ticks(machine, seen))
    assert speeds == seen
    assert [speed.concurrency for speed in speeds] == [1, 2, 4, 8]
    assert speeds[0].prompt == pytest.approx(1e3 * PROMPT_S)
    assert speeds[0].generated == pytest.approx(1e3 * GENERATED_S)
    assert price_of(speeds, 3.6).speed.concurrency in (4, 8)


class Ticks:
    """The machine's clock: it works on as many calls at once as are asked for, up to PARALLEL."""

    def __init__(self, machine: Machine, seen: list[Speed]) -> None:
        self._machine, self._seen = machine, seen
        self._now = self._counted = 0.0

    def __call__(self) -> float:
        asked = 2 ** len(self._seen)
        self._now += (self._machine.busy_s - self._counted) / min(asked, PARALLEL)
        self._counted = self._machine.busy_s
        return self._now


def test_dollars_follow_from_seconds() -> None:
    speeds = [
        Speed(1, prompt=2.0, generated=30.0, generated_only=40.0),
        Speed(4, prompt=1.0, generated=10.0, generated_only=15.0),
    ]
    price = price_of(speeds, dollars_per_hour=3.6)
    assert price.speed.concurrency == 4
    assert price.generated_per_mtok == pytest.approx(10.0 * 1000 * 3.6 / 3600)
    assert price.prompt_per_mtok == pytest.approx(1.0)
    assert price.generated_only_per_mtok == pytest.approx(15.0)
    assert sandbox_usd_per_cpu_s(0.1, cores=2) == pytest.approx(0.1 / 2 / 3600)


def test_the_papers_prices_rise_with_the_tier() -> None:
    for datasets in PUBLISHED.values():
        assert set(datasets) == {"humaneval", "mbpp", "apps"}
        for prices in datasets.values():
            assert list(prices.values()) == sorted(prices.values())
