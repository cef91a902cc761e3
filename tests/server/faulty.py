"""A light load on a real server while something goes wrong, and what became of every request, its money and the probes.

`watched` strikes a server with one Case and gives a Report. Each request asks for a function of its own, so an answer to another
request is a wrong one. A scripted tier writes what it generates into a ledger, which outlives every process: money that is
neither in an answer nor in the server's metrics is found by it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
import urllib.error
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import grpc  # type: ignore[import-untyped]
from codecascade_build.server.process import RunningServer
from codecascade_client.answers import Completion
from codecascade_client.attempts import NO_RETRIES
from codecascade_client.client import AsyncCascadeClient
from codecascade_client.errors import MetricsError, RequestFailed
from codecascade_client.live.drift import Totals, read_totals
from typing_extensions import Self

from tests.server.metrics import eventually
from tests.server.stubs import probe, restarts

RATE = 10.0  # requests per second
DEADLINE_MS = 8_000
GRACE_S = 1.0  # after the deadline a request must have been answered
TOLD_S = 1.5  # "within about a second": a request whose server was killed is told
RECOVERY_S = 60.0
CALM = 5  # right answers before the strike, and after the recovery
BODY = "    return a + b\n"
PRICES = {"small": 1e-6, "far": 1e-6, "large": 10e-6}  # US dollars for a token
CALL_TOKENS = 4  # of every answer
CENT_OF_A_TOKEN = 1e-8
_PROBE_EVERY_S = 0.02
_IN_ANSWERS = ("answered", "cut_short")  # outcomes whose cost their callers were told


@dataclass(frozen=True)
class Site:
    """What can be struck."""

    server: RunningServer
    plans: Path
    ledger: Path
    far: tuple[RunningServer, ...] = ()
    """The Tritons that serve the tier `far`."""


@dataclass(frozen=True)
class Outcome:
    """What became of a request."""

    function: str
    kind: str
    """right, wrong, refused (nothing was spent), told (a clear error), late, lost, vanished."""
    sent_s: float
    ended_s: float
    tier: str = ""
    cost_usd: float = 0.0
    unknown_usd: float = 0.0
    """What calls may have cost of which its answer says that nobody knows."""
    sentence: str = ""

    @property
    def answered(self) -> bool:
        return self.kind in ("right", "wrong")


@dataclass(frozen=True)
class Case:
    """Something that goes wrong. strike: does it; mend: ends it, after which the recovery counts (None: it ends by itself)."""

    name: str
    strike: Callable[[Site, Load], Awaitable[None]]
    mend: Callable[[Site], Awaitable[None]] | None = None
    dies: bool = False
    """Whether the server is killed: then requests under way may be told so, and its metrics begin anew."""
    ends: bool = False
    """Whether the server is to end for good: requests under way are answered, others refused."""
    plan: str = "small"
    """Also the tier that answers while all is well."""
    probed: Callable[[Site], RunningServer] = lambda site: site.server


@dataclass
class Report:
    """What a case did. Every one of `broken` must be 0."""

    case: str
    kinds: Counter[str]
    wrong: int
    late: int
    lost: int
    unaccounted_usd: float
    unknown_calls: float
    """Calls that failed or were stopped, as the metrics count them: nobody knows what they cost."""
    gone_usd: float
    """What requests had cost whose server was killed: they were told, and the metrics died with it."""
    recovery_s: float | None
    probes: str
    problems: list[str] = field(default_factory=list)

    @property
    def broken(self) -> list[str]:
        """Why the case failed."""
        counts = {"wrong answers": self.wrong, "without an answer at the deadline + 1 s": self.late, "lost": self.lost}
        broken = [f"{count} {what}" for what, count in counts.items() if count]
        if abs(self.unaccounted_usd) > CENT_OF_A_TOKEN:
            broken.append(f"{self.unaccounted_usd:.8f} USD not accounted for")
        return broken + self.problems


class Load:
    """Requests at fixed times, whatever becomes of earlier ones. An async context manager: at its end, none is under way."""

    def __init__(self, client: AsyncCascadeClient, case: str, plan: str) -> None:
        self.outcomes: list[Outcome] = []
        self._client, self._plan = client, plan
        self._functions = (f"{case}_{number}" for number in itertools.count())
        self._news = asyncio.Event()
        self._under_way: set[asyncio.Task[Outcome]] = set()

    async def __aenter__(self) -> Self:
        self._pump = asyncio.create_task(self._send())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pump.cancel()
        await asyncio.gather(self._pump, *self._under_way, return_exceptions=True)

    async def ask(self, *marks: str, deadline_ms: int = DEADLINE_MS) -> Outcome:
        """marks: what tier.py is told, as `small: stall`."""
        function, sent_s = next(self._functions), time.monotonic()
        prompt = "".join(f"# {mark}\n" for mark in marks) + f'def {function}(a, b):\n    """The sum of a and b."""\n'
        kind, tier, cost_usd, unknown_usd, sentence = "vanished", "", 0.0, 0.0, ""
        try:
            answer = await self._client.complete(
                prompt,
                tests=[f"assert {function}(1, 2) == 3"],
                plan=self._plan,
                deadline_ms=deadline_ms,
                return_trace=True,
                timeout_s=deadline_ms / 1e3 + GRACE_S,
            )
            kind, tier, cost_usd = "right" if answer.text == prompt + BODY else "wrong", answer.tier, answer.cost_usd
            unknown_usd, sentence = _unknown_usd(answer), answer.text
        except RequestFailed as error:
            kind, sentence = _kind_of(error), f"{error.code.name}: {error.sentence}"
        finally:
            outcome = Outcome(function, kind, sent_s, time.monotonic(), tier, cost_usd, unknown_usd, sentence)
            self.outcomes.append(outcome)
            self._news.set()
        return outcome

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until it holds, which is looked at whenever a request ends."""
        while not holds():
            self._news.clear()
            await self._news.wait()

    def right_since(self, since_s: float) -> list[Outcome]:
        """Answers of the plan's first tier to requests that were sent after that, in the order in which they ended."""
        return [one for one in self.outcomes if one.kind == "right" and one.tier == self._plan and one.sent_s > since_s]

    async def calm(self, since_s: float) -> None:
        """Wait for a few of them."""
        await self.until(lambda: len(self.right_since(since_s)) >= CALM)

    async def _send(self) -> None:
        began_s = time.monotonic()
        for number in itertools.count():
            await asyncio.sleep(began_s + number / RATE - time.monotonic())
            one = asyncio.create_task(self.ask())
            self._under_way.add(one)
            one.add_done_callback(self._under_way.discard)


class Probes:
    """Asks the supervisor of a server again and again what probes ask. A context manager."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._seen: list[tuple[float, str]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def told(self, since_s: float) -> str:
        """What they said, with the seconds since then."""
        before = [said for at_s, said in self._seen if at_s < since_s][-1:]
        return ", ".join(before + [f"{said} after {at_s - since_s:.2f} s" for at_s, said in self._seen if at_s >= since_s])

    def _watch(self) -> None:
        while not self._ended.wait(_PROBE_EVERY_S):
            said = self._said()
            if [said] != [last for _, last in self._seen[-1:]]:
                self._seen.append((time.monotonic(), said))

    def _said(self) -> str:
        try:
            return f"ready {probe(self._server, 'ready')[0]} live {probe(self._server, 'live')[0]}"
        except (OSError, urllib.error.URLError):
            return "nobody answers"


async def watched(site: Site, case: Case) -> Report:
    """Strike a server under load."""
    before = _Books.of(site.server)
    name = "".join(letter if letter.isalnum() else "_" for letter in case.name)
    problems: list[str] = []
    recovery_s = None
    with Probes(case.probed(site)) as probes:
        async with AsyncCascadeClient(site.server.grpc, retries=NO_RETRIES) as client, Load(client, name, case.plan) as load:
            await asyncio.wait_for(load.calm(0.0), RECOVERY_S)
            struck_s = time.monotonic()
            await case.strike(site, load)
            if case.mend:
                await case.mend(site)
            mended_s = time.monotonic() if case.mend else struck_s
            if case.ends:
                await asyncio.to_thread(site.server.wait)
                recovery_s = time.monotonic() - struck_s
            else:
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(load.calm(mended_s), RECOVERY_S)
                    recovery_s = load.right_since(mended_s)[0].ended_s - mended_s
        if recovery_s is None:
            problems.append(f"no recovery within {RECOVERY_S:g} s")
        if case.dies:
            await eventually(lambda: probe(case.probed(site), "ready")[0] == 200, within_s=RECOVERY_S)
        gone = case.ends or before.restarts != restarts(site.server)
        books = await _balanced(site, load, before, gone)
    kinds = Counter(one.kind for one in load.outcomes)
    told = [one for one in load.outcomes if one.kind == "told"]
    bad = [one for one in told if not case.dies or one.ended_s - max(mended_s, one.sent_s) > TOLD_S]
    lost = bad + [one for one in load.outcomes if one.kind == "lost"]
    odd = {one.sentence for one in (*lost, *(one for one in load.outcomes if one.kind in ("wrong", "late")))}
    return Report(
        case=case.name,
        kinds=kinds,
        wrong=kinds["wrong"],
        late=kinds["late"],
        lost=len(lost),
        unaccounted_usd=books.missing_usd,
        unknown_calls=books.unknown_calls,
        gone_usd=books.gone_usd,
        recovery_s=recovery_s,
        probes=probes.told(struck_s),
        problems=problems + sorted(odd),
    )


def entries(ledger: Path) -> list[tuple[str, str, float]]:
    """What tiers generated: the function that was asked for, the tier, and US dollars."""
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    return [(line["function"], line["tier"], line["completion_tokens"] * PRICES[line["tier"]]) for line in lines]


@dataclass(frozen=True)
class _Books:
    """What a server's metrics say of money that no caller was told of."""

    restarts: float
    abandoned_usd: float
    unknown: Counter[str]
    """Calls by tier."""

    @classmethod
    def of(cls, server: RunningServer) -> _Books:
        abandoned, unknown = 0.0, Counter[str]()
        for (name, labels), value in _totals(server).items():
            of = dict(labels)
            if name == "codecascade_cost_usd_total" and of["outcome"] not in _IN_ANSWERS:
                abandoned += value
            if name == "codecascade_unknown_calls_total":
                unknown[of["tier"]] += round(value)
        return cls(restarts(server), abandoned, unknown)


@dataclass(frozen=True)
class _Balance:
    missing_usd: float
    unknown_calls: float
    gone_usd: float


async def _balanced(site: Site, load: Load, before: _Books, gone: bool) -> _Balance:
    """The balance, once a server that lives has told all: it hands metrics over a few times a second."""
    balance = _balance(site, load, before, gone)
    for _ in range(50):
        if gone or abs(balance.missing_usd) <= CENT_OF_A_TOKEN:
            break
        await asyncio.sleep(0.1)
        balance = _balance(site, load, before, gone)
    return balance


def _balance(site: Site, load: Load, before: _Books, gone: bool) -> _Balance:
    answered = {one.function: one.cost_usd for one in load.outcomes if one.answered}
    functions = {one.function for one in load.outcomes}
    spent: Counter[str] = Counter()
    by_tier: Counter[str] = Counter()
    for function, tier, usd in entries(site.ledger):
        if function in functions:
            spent[function] += usd  # type: ignore[assignment]
            by_tier[tier] += usd  # type: ignore[assignment]
    if gone:
        of_answers = sum(usd for function, usd in spent.items() if function in answered)
        unknown_usd = sum(one.unknown_usd for one in load.outcomes)
        missing = of_answers - sum(answered.values())
        return _Balance(missing - min(max(missing, 0.0), unknown_usd), 0, sum(spent.values()) - of_answers)
    after = _Books.of(site.server)
    unknown = after.unknown - before.unknown
    missing = sum(spent.values()) - sum(answered.values()) - (after.abandoned_usd - before.abandoned_usd)
    may_be_unknown = sum(min(calls * CALL_TOKENS * PRICES[tier], by_tier[tier]) for tier, calls in unknown.items())
    return _Balance(missing - min(max(missing, 0.0), may_be_unknown), sum(unknown.values()), 0.0)


def _totals(server: RunningServer) -> Totals:
    """What it counts; nothing before its first request."""
    with suppress(MetricsError):
        return read_totals(f"http://{server.metrics}/metrics")
    return Counter()


def _unknown_usd(answer: Completion) -> float:
    unknown = {step["tier"]: int(step["unknown_calls"]) for step in (answer.trace or {})["steps"]}
    return sum(calls * CALL_TOKENS * PRICES[tier] for tier, calls in unknown.items())


def _kind_of(error: RequestFailed) -> str:
    if error.code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "lost" if error.sentence.startswith("deadline exceeded") else "late"
    if error.retry_after_s is not None:
        return "refused"
    return "told" if error.code is grpc.StatusCode.UNAVAILABLE else "lost"
