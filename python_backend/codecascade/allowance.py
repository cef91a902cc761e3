"""What one request may spend and how long it may take, and what it has spent: a thin layer around its calls.

Every call of a tier and of the sandbox goes through an Allowance. It stops calls at the deadline, makes none that could pass the
ceiling, and counts what each has cost, so that it is known whatever becomes of the request.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from codecascade.errors import CascadeError, DeadlineReached, LimitReached, NotMade, Overloaded, TooDear
from codecascade.prices import PICODOLLARS, Prices, usd
from codecascade.types import Candidate, Sandbox, TestLine, VerdictMatrix

LEAST_TOKENS = 128
"""A ceiling shortens no sequence to fewer tokens than these, unless fewer were asked for: most answers would be cut."""

_MILLION = 1_000_000

T = TypeVar("T")


@dataclass(slots=True)
class Spent:
    """What calls have cost."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    sandbox_s: float = 0.0
    """CPU seconds."""
    unknown_calls: int = 0
    """Calls that failed or were stopped. Nobody told what they cost."""

    def __iadd__(self, more: Spent) -> Spent:
        self.prompt_tokens += more.prompt_tokens
        self.completion_tokens += more.completion_tokens
        self.sandbox_s += more.sandbox_s
        self.unknown_calls += more.unknown_calls
        return self


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a request has to be answered."""

    ms: int
    """As the caller said it."""
    at_s: float
    """On the clock of time.monotonic."""

    @classmethod
    def after(cls, ms: int, arrived_s: float) -> Deadline:
        return cls(ms, arrived_s + ms / 1e3)

    @property
    def left_s(self) -> float:
        return self.at_s - time.monotonic()


@dataclass(frozen=True, slots=True)
class Worst:
    """What a call may cost at most, in picodollars. A sequence's tokens are the part that can be lowered."""

    tier: str
    """Empty: the sandbox."""
    fixed: int
    per_token: float = 0.0
    """For one token of each sequence."""
    tokens: int = 0
    """Of a sequence."""

    def cost(self, tokens: int) -> int:
        return self.fixed + math.ceil(tokens * self.per_token)

    def tokens_for(self, picodollars: float) -> int:
        """The tokens of a sequence that so much pays for; below 0: it does not pay for the rest."""
        if self.cost(self.tokens) <= picodollars:
            return self.tokens
        return int((picodollars - self.fixed) / self.per_token) if picodollars >= self.fixed else -1

    @property
    def least_tokens(self) -> int:
        return min(self.tokens, LEAST_TOKENS)


class Allowance:
    """The deadline, the ceiling and the account of one request.

    The most that a call may cost is reserved before it is made, and what it did not cost is given back. Of a call that failed or
    was stopped nobody knows what it cost, so all stays reserved. Once a queue was full, no tier is asked any more.
    sandbox_cpu_s: CPU seconds that the sandbox spends on one candidate at most.
    """

    def __init__(
        self,
        prices: Prices,
        *,
        deadline: Deadline | None = None,
        max_cost_usd: float | None = None,
        sandbox_cpu_s: float = 0.0,
    ) -> None:
        self.limit: LimitReached | None = None
        """The first limit that was met since `begin`."""
        self.shortened = False
        """Whether a ceiling lowered the tokens of a call."""
        self._prices = prices
        self._deadline = deadline
        self._ceiling: float = math.inf if max_cost_usd is None else math.floor(max_cost_usd * PICODOLLARS)
        self._free = self._ceiling
        self._sandbox_cpu_s = sandbox_cpu_s
        self._spent = Spent()
        self._under_way: set[asyncio.Future[None]] = set()

    def take(self) -> Spent:
        """What was spent since the last time."""
        spent, self._spent = self._spent, Spent()
        return spent

    def begin(self) -> None:
        """A step begins. A call that was too dear for an earlier one is no longer of interest."""
        self.limit = None

    def around(self, sandbox: Sandbox) -> Sandbox:
        """The sandbox, within this allowance."""
        return _Within(sandbox, self)

    def tokens(self, tier: str, prompt_tokens: int, sequences: int, max_tokens: int) -> Worst:
        """The most that a tier's call may cost. prompt_tokens: at most."""
        fixed = self._prices.step(tier, prompt_tokens, 0, 0.0) + 1  # for what is rounded
        return Worst(tier, fixed, sequences * self._prices.step(tier, 0, _MILLION, 0.0) / _MILLION, max_tokens)

    def sandbox(self, candidates: int) -> Worst:
        """The most that the sandbox's verdicts on so many candidates may cost."""
        return Worst("", self._cost("", Spent(sandbox_s=candidates * self._sandbox_cpu_s)))

    async def call(self, worst: Worst, make: Callable[[int], Awaitable[T]], spent: Callable[[T], Spent]) -> T:
        """What a call gives that is made with the tokens that a sequence may have. spent: what it has cost.

        Raises LimitReached, and what the call raises.
        """
        try:
            self._check(worst)
            return await self._in_time(self._paid(worst, make, spent))
        except LimitReached as error:
            self.reached(error)
            raise

    def reached(self, limit: LimitReached) -> None:
        """What ends the request stands before what only one call was too dear for."""
        if self.limit is None or isinstance(self.limit, TooDear):
            self.limit = limit

    @property
    def over(self) -> bool:
        """Whether no more calls are made."""
        return isinstance(self.limit, (DeadlineReached, Overloaded))

    def _cost(self, tier: str, spent: Spent) -> int:
        tokens = self._prices.step(tier, spent.prompt_tokens, spent.completion_tokens, 0.0) if tier else 0
        return tokens + math.ceil(PICODOLLARS * spent.sandbox_s * self._prices.sandbox_price_per_cpu_s)

    def _check(self, worst: Worst) -> None:
        """Raises what refuses a call before anything is waited for."""
        if worst.tier and isinstance(self.limit, Overloaded):  # what is drawn can still be judged
            raise self.limit
        if self._deadline and self._deadline.left_s <= 0:
            raise _passed(self._deadline)

    async def _in_time(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` gives. At the deadline it is cancelled. (asyncio.wait_for of Python 3.10 may lose a cancellation.)"""
        if self._deadline is None:
            return await work
        running = asyncio.ensure_future(work)
        try:
            await asyncio.wait({running}, timeout=self._deadline.left_s)
            if not running.done():
                raise _passed(self._deadline)
            return running.result()
        finally:
            running.cancel()  # changes nothing where it has ended
            await asyncio.gather(running, return_exceptions=True)

    async def _paid(self, worst: Worst, make: Callable[[int], Awaitable[T]], spent: Callable[[T], Spent]) -> T:
        """What a call gives, after its worst case is reserved. Then only what it cost stays reserved."""
        while worst.tokens_for(self._free) < worst.tokens and self._under_way:  # they will give back what they do not need
            await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
        tokens = self._affordable(worst)
        self.shortened |= tokens < worst.tokens
        reserved = worst.cost(tokens)
        self._free -= reserved
        ended = asyncio.get_running_loop().create_future()
        self._under_way.add(ended)
        try:
            answer = await make(tokens)
        except BaseException as error:
            if isinstance(error, NotMade) or (isinstance(error, CascadeError) and error.cost_nothing):
                self._free += reserved
            else:
                self._spent.unknown_calls += 1
            raise
        else:
            paid = spent(answer)
            self._spent += paid
            self._free += reserved - self._cost(worst.tier, paid)
            return answer
        finally:
            self._under_way.discard(ended)
            ended.set_result(None)

    def _affordable(self, worst: Worst) -> int:
        """The tokens that a sequence may have. Raises TooDear."""
        tokens = worst.tokens_for(self._free)
        if tokens < worst.least_tokens:
            ceiling = usd(self._ceiling)
            least = worst.cost(worst.least_tokens)
            where = f"tier {worst.tier}" if worst.tier else "the sandbox"
            raise TooDear(
                f"max_cost of {ceiling:g} USD leaves {usd(self._free):.3g}, a call of {where} may cost {usd(least):.3g}",
                ceiling,
                usd(self._ceiling - self._free + least),
            )
        return tokens


class _Within:
    """A sandbox within an allowance."""

    def __init__(self, sandbox: Sandbox, allowance: Allowance) -> None:
        self._sandbox = sandbox
        self._allowance = allowance

    async def run(self, candidates: Sequence[Candidate], test_lines: Sequence[TestLine]) -> VerdictMatrix:
        """Raises SandboxUnavailable, LimitReached."""
        worst = self._allowance.sandbox(len(candidates))
        return await self._allowance.call(worst, lambda _: self._sandbox.run(candidates, test_lines), _judged)


def _judged(matrix: VerdictMatrix) -> Spent:
    return Spent(sandbox_s=float(matrix.cpu_s.sum()))


def _passed(deadline: Deadline) -> DeadlineReached:
    return DeadlineReached(f"deadline exceeded: {deadline.ms} ms have passed")
