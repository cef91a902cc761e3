"""What stands before every model that a cascade calls, and before the cascade itself: a bound, a queue, a circuit breaker."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from numpy.typing import NDArray

from codecascade.errors import NotMade, Overloaded, SandboxUnavailable, TierUnavailable
from codecascade.tiers.contract import DEFAULT_PRIORITY
from codecascade.triton.calls.breaker import Breaker
from codecascade.triton.calls.failures import CallFailed

_LONGEST_RETRY_S = 60.0
_WEIGHT = 0.1  # of the newest call in the mean time of a call

Arrays = Mapping[str, NDArray[Any]]
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Slot:
    """One of the calls that may be under way. Who makes the call leaves the slot when the model no longer works on it."""

    gate: Gate
    started_s: float
    probe: bool
    _left: bool = False

    def leave(self) -> None:
        if not self._left:
            self._left = True
            self.gate.left(self.started_s)

    def lose(self) -> None:
        """The model does not even end the call: it hangs."""
        if not self._left:
            self.gate.trip("a call to it cannot be ended")
            self.leave()


Model = Callable[[Arrays, Slot], Awaitable[Arrays]]
"""Makes a call: input tensors by name to output tensors by name. Raises CallFailed."""


class Gate:
    """Lets `max_in_flight` calls through at a time. Up to `max_queue` wait, by priority, then by arrival; more are Overloaded.

    A call that waits is not yet made: its timeout has not begun. Once the breaker opens, nobody waits any more.
    `in_flight`, `queued`, `breaker.state`, and the totals `refused` and `breaker.opened` are for metrics.
    """

    def __init__(self, name: str, max_in_flight: int, max_queue: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.max_in_flight = max_in_flight
        self.max_queue = max_queue
        self.breaker = Breaker(clock)
        self.in_flight = 0
        self.queued = 0
        self.refused = 0
        """Calls that found the queue full."""
        self._clock = clock
        self._mean_s = 0.0
        self._problem = ""
        self._waiting: dict[int, dict[asyncio.Future[None], None]] = {}  # by priority; in the order of arrival

    async def ask(self, model: Model, arrays: Arrays, read: Callable[[Arrays], T], priority: int = DEFAULT_PRIORITY) -> T:
        """What the model answers, as `read` understands it. priority: higher goes first.

        Raises Overloaded, CallFailed, and what `read` raises: an answer that cannot be read is a failure of the model.
        """
        slot = await self._enter(priority)
        try:
            answer = read(await model(arrays, slot))
        except (CallFailed, TierUnavailable, SandboxUnavailable) as error:
            self._failed(error, slot.probe)
            raise
        except BaseException:
            self.breaker.undecided(slot.probe)
            raise
        self.breaker.succeeded()
        return answer

    def enter_now(self) -> Slot:
        """Without waiting. Raises Overloaded."""
        if self.in_flight >= self.max_in_flight:
            raise self._overloaded()
        self.in_flight += 1
        return Slot(self, self._clock(), probe=False)

    def left(self, started_s: float) -> None:
        """A call that started then is over."""
        took_s = self._clock() - started_s
        self._mean_s += (took_s - self._mean_s) * (_WEIGHT if self._mean_s else 1.0)
        self._give_back()

    def trip(self, problem: str) -> None:
        """Ask no more for a while, because of this."""
        self._problem = problem
        self.breaker.trip()
        self._fail_waiting()

    async def _enter(self, priority: int) -> Slot:
        if not self.breaker.allows:
            raise self._not_asked()
        if self.in_flight < self.max_in_flight:  # then nobody waits
            self.in_flight += 1
        elif self.breaker.state != "closed":
            raise self._not_asked()
        elif self.queued >= self.max_queue:
            raise self._overloaded()
        else:
            await self._wait(priority)
        if not self.breaker.allows:  # any more
            self._give_back()
            raise self._not_asked()
        return Slot(self, self._clock(), self.breaker.begin())

    async def _wait(self, priority: int) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line = self._waiting.setdefault(priority, {})
        line[place] = None
        self.queued += 1
        try:
            await place
        except asyncio.CancelledError:
            if place in line:
                del line[place]
                self.queued -= 1
            elif not place.cancelled() and place.exception() is None:  # let in at the same moment
                self._give_back()
            raise NotMade from None

    def _give_back(self) -> None:
        """To the next one that waits."""
        self.in_flight -= 1
        for line in (self._waiting[priority] for priority in sorted(self._waiting, reverse=True)):
            place = next((place for place in line if not place.done()), None)  # done: its caller has just gone
            if place is not None:
                del line[place]
                self.queued -= 1
                self.in_flight += 1
                place.set_result(None)
                return

    def _fail_waiting(self) -> None:
        waiting = [place for line in self._waiting.values() for place in line]
        self._waiting.clear()
        self.queued = 0
        for place in waiting:
            if not place.done():
                place.set_exception(self._not_asked())

    def _failed(self, error: Exception, probe: bool) -> None:
        if isinstance(error, CallFailed) and not error.failed:
            self.breaker.succeeded()
            return
        self._problem = str(error)
        self.breaker.failed(probe)
        if isinstance(error, CallFailed) and error.dead:
            self.breaker.trip()
        if self.breaker.state != "closed":
            self._fail_waiting()

    def _not_asked(self) -> CallFailed:
        return CallFailed(f"it is not asked for a moment, because its last calls failed: {self._problem}", asked=False)

    def _overloaded(self) -> Overloaded:
        self.refused += 1
        waiting = f" and {self.queued} waiting" if self.max_queue else ""
        wait_s = self._mean_s * (1 + self.queued / self.max_in_flight)
        return Overloaded(
            f"{self.name} has {self.in_flight} calls under way{waiting}, must have {self.max_in_flight}"
            f"{f' and {self.max_queue}' if self.max_queue else ''} or fewer",
            min(max(1, math.ceil(wait_s)), _LONGEST_RETRY_S),
        )
