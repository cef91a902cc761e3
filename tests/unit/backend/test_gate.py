"""Bounds, the queue and the circuit breaker before a model. The model here answers when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from codecascade.allowance import Allowance, Spent, Worst
from codecascade.errors import InvalidRequest, Overloaded, TierUnavailable
from codecascade.prices import Prices, TokenPrice
from codecascade.tiers.contract import DEFAULT_PRIORITY
from codecascade.triton.calls.breaker import FAILURES, OPEN_S
from codecascade.triton.calls.failures import CallFailed
from codecascade.triton.calls.gate import Arrays, Gate, Slot

from tests.unit.backend.test_breaker import Clock

DEAD = CallFailed("its process has ended", dead=True)
FAILED = CallFailed("told to fail")
REFUSED = CallFailed("invalid request: the prompt is too long")
FULL = CallFailed(str(Overloaded("it is full", 3)))


class Model:
    """Calls under way, in the order in which they were made."""

    def __init__(self) -> None:
        self.hangs = False
        """Whether it goes on with a call that its caller has given up."""
        self.calls: list[tuple[str, asyncio.Future[Arrays], Slot]] = []

    async def __call__(self, arrays: Arrays, slot: Slot) -> Arrays:
        answer: asyncio.Future[Arrays] = asyncio.get_running_loop().create_future()
        self.calls.append((str(arrays["name"]), answer, slot))
        try:
            return await answer
        finally:
            if not answer.cancelled() and not self.hangs:
                slot.leave()

    @property
    def names(self) -> list[str]:
        return [name for name, _, _ in self.calls]

    def answer(self, number: int = 0, error: Exception | None = None) -> None:
        answer = self.calls[number][1]
        answer.set_exception(error) if error else answer.set_result({})


class Asked:
    """A gate, its model, and what is asked of it."""

    def __init__(self, max_in_flight: int = 1, max_queue: int = 100) -> None:
        self.clock, self.model = Clock(), Model()
        self.gate = Gate("tier small", max_in_flight, max_queue, self.clock)

    async def ask(self, name: str, priority: int = DEFAULT_PRIORITY, read: Callable[[Arrays], Any] = bool) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(self.gate.ask(self.model, {"name": np.array(name)}, read, priority))
        await settle()
        return task

    async def fail(self, error: Exception, times: int = FAILURES) -> None:
        for _ in range(times):
            task = await self.ask("fails")
            self.model.answer(-1, error)
            await asyncio.wait({task})
            assert task.exception() is error


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_as_many_calls_as_allowed_are_made_and_the_next_ones_wait_their_turn() -> None:
    asked = Asked(max_in_flight=2)
    tasks = [await asked.ask(name) for name in "abcd"]
    assert (asked.model.names, asked.gate.in_flight, asked.gate.queued) == (["a", "b"], 2, 2)
    asked.model.answer(1)
    await settle()
    assert (asked.model.names, asked.gate.in_flight, asked.gate.queued) == (["a", "b", "c"], 2, 1)
    for number in (0, 2, 3):
        asked.model.answer(number)
        await settle()
    await asyncio.gather(*tasks)
    assert (asked.gate.in_flight, asked.gate.queued, asked.gate.refused) == (0, 0, 0)


async def test_higher_priority_goes_first_then_who_came_first() -> None:
    asked = Asked()
    tasks = [await asked.ask(name, priority) for name, priority in [("a", 5), ("b", 5), ("c", 0), ("d", 9), ("e", 5)]]
    for number in range(5):
        asked.model.answer(number)
        await settle()
    await asyncio.gather(*tasks)
    assert asked.model.names == ["a", "d", "b", "e", "c"]


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_again() -> None:
    asked = Asked(max_in_flight=1, max_queue=2)
    first = await asked.ask("a")
    asked.clock.now += 4.0
    asked.model.answer()
    await first
    tasks = [await asked.ask(name) for name in "bcd"]
    with pytest.raises(Overloaded) as refused:
        await asked.gate.ask(asked.model, {"name": np.array("e")}, bool)
    assert refused.value.retry_after_s == 4.0 * 3
    assert str(refused.value) == (
        "overloaded: tier small has 1 calls under way and 2 waiting, must have 1 and 2 or fewer; retry after 12 s"
    )
    assert (asked.gate.refused, asked.gate.breaker.state) == (1, "closed")
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_who_goes_away_while_waiting_makes_no_call_and_no_room_is_lost() -> None:
    asked = Asked()
    tasks = [await asked.ask(name) for name in "abc"]
    tasks[1].cancel()
    asked.model.answer()
    await settle()
    assert tasks[1].cancelled()
    assert asked.model.names == ["a", "c"]
    asked.model.answer(1)
    await tasks[2]
    assert (asked.gate.in_flight, asked.gate.queued) == (0, 0)


async def test_who_goes_away_when_it_is_let_in_hands_its_place_on() -> None:
    asked = Asked()
    tasks = [await asked.ask(name) for name in "abc"]
    asked.model.calls[0][2].leave()  # lets b in, whose task has not run yet
    tasks[1].cancel()
    await settle()
    assert asked.model.names == ["a", "c"]
    asked.model.answer(1)
    await tasks[2]
    assert asked.gate.in_flight == 0
    tasks[0].cancel()


async def test_who_goes_away_while_waiting_has_spent_nothing_and_a_call_that_is_stopped_may_have() -> None:
    asked, allowance = Asked(), Allowance(Prices({"small": TokenPrice(1.0)}))

    async def paid(name: str) -> asyncio.Task[Any]:
        call = allowance.call(
            Worst("small", fixed=0), lambda _: asked.gate.ask(asked.model, {"name": np.array(name)}, bool), lambda _: Spent()
        )
        task = asyncio.ensure_future(call)
        await settle()
        return task

    under_way, waiting = await paid("under way"), await paid("waiting")
    for task, unknown_calls in ((waiting, 0), (under_way, 1)):
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert allowance.take().unknown_calls == unknown_calls


async def test_a_place_is_free_when_the_model_ends_the_call_and_not_when_the_caller_goes() -> None:
    asked = Asked()
    first, second = await asked.ask("a"), await asked.ask("b")
    first.cancel()
    await settle()
    assert asked.model.names == ["a"]
    asked.model.calls[0][2].leave()
    await settle()
    assert asked.model.names == ["a", "b"]
    asked.model.answer(1)
    await second


async def test_the_breaker_opens_for_failures_and_nobody_waits_any_more() -> None:
    asked = Asked(max_in_flight=FAILURES)
    tasks = [await asked.ask(str(number)) for number in range(FAILURES + 3)]
    for number in range(FAILURES):
        asked.model.answer(number, FAILED)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert outcomes[:FAILURES] == [FAILED] * FAILURES
    assert asked.gate.breaker.state == "open"
    later = await asked.ask("later")
    with pytest.raises(CallFailed, match="not asked for a moment, because its last calls failed: told to fail"):
        await later
    assert "later" not in asked.model.names


async def test_nobody_waits_for_calls_that_have_timed_out_and_do_not_end() -> None:
    asked = Asked(max_in_flight=FAILURES)
    asked.model.hangs = True
    tasks = [await asked.ask(str(number)) for number in range(FAILURES + 3)]
    for number in range(FAILURES):
        asked.model.answer(number, CallFailed("no answer within 3 s"))
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert len(asked.model.calls) == asked.gate.in_flight == FAILURES
    assert asked.gate.queued == 0
    assert all("not asked for a moment" in str(outcome) for outcome in outcomes[FAILURES:])


async def test_after_a_while_one_call_tries_again_and_closes_it() -> None:
    asked = Asked()
    await asked.fail(FAILED)
    asked.clock.now += OPEN_S
    probe, other = await asked.ask("probe"), await asked.ask("other")
    with pytest.raises(CallFailed, match="not asked"):
        await other
    asked.model.answer(-1)
    await probe
    again = await asked.ask("again")
    asked.model.answer(-1)
    await again
    assert asked.model.names[-2:] == ["probe", "again"]


async def test_a_model_that_hangs_is_not_waited_for_by_the_probe_either() -> None:
    asked = Asked(max_in_flight=1)
    hanging, waiting = await asked.ask("hangs"), await asked.ask("waits")
    asked.gate.trip("a call to it cannot be ended")
    with pytest.raises(CallFailed, match="cannot be ended"):
        await waiting
    asked.clock.now += OPEN_S
    with pytest.raises(CallFailed, match="cannot be ended"):
        await (await asked.ask("probe"))
    hanging.cancel()


async def test_a_lost_call_gives_its_place_back_and_opens_the_breaker() -> None:
    asked = Asked()
    hanging = await asked.ask("hangs")
    asked.model.calls[0][2].lose()
    asked.model.calls[0][2].leave()
    assert (asked.gate.in_flight, asked.gate.breaker.state) == (0, "open")
    hanging.cancel()


@pytest.mark.parametrize("error", [REFUSED, FULL], ids=["refused", "overloaded"])
async def test_a_model_that_refuses_or_is_full_is_alive(error: CallFailed) -> None:
    asked = Asked()
    await asked.fail(FAILED, FAILURES - 1)
    await asked.fail(error, 3 * FAILURES)
    await asked.fail(FAILED, FAILURES - 1)
    assert asked.gate.breaker.state == "closed"


async def test_a_dead_model_is_not_asked_five_times() -> None:
    asked = Asked()
    await asked.fail(DEAD, 1)
    assert (asked.gate.breaker.state, asked.gate.breaker.opened) == ("open", 1)


async def test_an_answer_that_cannot_be_read_is_a_failure() -> None:
    def read(arrays: Arrays) -> None:
        raise TierUnavailable("malformed")

    asked = Asked()
    for _ in range(FAILURES):
        task = await asked.ask("garbled", read=read)
        asked.model.answer(-1)
        await asyncio.wait({task})
    assert asked.gate.breaker.state == "open"


async def test_a_door_refuses_without_waiting() -> None:
    asked = Asked(max_in_flight=2, max_queue=0)
    slots = [asked.gate.enter_now() for _ in range(2)]
    with pytest.raises(Overloaded, match=r"tier small has 2 calls under way, must have 2 or fewer; retry after 1 s$"):
        asked.gate.enter_now()
    slots[0].leave()
    slots[0].leave()
    asked.gate.enter_now()
    assert asked.gate.in_flight == 2


def test_a_failure_is_told_as_what_it_is() -> None:
    told = [error.told_as("tier small", TierUnavailable, " at far:1") for error in (DEAD, REFUSED, FULL)]
    assert [type(error) for error in told] == [TierUnavailable, InvalidRequest, Overloaded]
    assert [str(error) for error in told] == [
        "tier small at far:1: its process has ended",
        "tier small: the prompt is too long",
        "overloaded: it is full; retry after 3 s",
    ]
    assert isinstance(told[2], Overloaded)
    assert told[2].retry_after_s == 3.0
