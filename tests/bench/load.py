"""Latency, throughput and refusals under open load: requests come at fixed times, however long earlier ones take.

    python -m tests.bench.load [--seconds 10] [--rate 50]

A real Triton with scripted tiers and a plan of two: one greedy answer of `small`, accepted by its log-probability, else
`large`. The tier takes as long as it must for the wanted number of requests to be in flight at the rate; `own` is what a request
takes beyond that. The load comes from a process of its own, and a latency counts from the time at which its request was due, so
that a late one is not left out (no coordinated omission). Every fifth request is also sent to the tier model directly, under the
same load: `overhead` is what the cascade takes beyond that. The last row is above the bound on requests.

Exit code 1 if there is an error or a refusal below the bound, a refusal above it that does not say when to come again, or a
request that went upward because it had to wait.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from codecascade.tiers.contract import GenerateRequest
from codecascade_build.server.process import RunningServer, running
from codecascade_client.attempts import NO_RETRIES
from codecascade_client.client import AsyncCascadeClient
from codecascade_client.errors import MetricsError, Overloaded, RequestFailed
from codecascade_client.live.drift import read_totals
from codecascade_client.live.endpoints import TierEndpoints
from codecascade_client.terminal import WIDE, console, new_table

from tests.server.real_server import unpacked_server
from tests.server.scripted.repository import ScriptedRepository, ScriptedTier, render

IN_FLIGHT = (1, 8, 32, 128, 600)
BOUND = 640
"""max_requests: what the cascade works on at a time. The tier takes as many calls, so that none waits for its turn."""
BEYOND = 800
RATE = 50.0
SECONDS = 10.0
LEAST_S = 0.02  # that a tier takes
DIRECT_EVERY = 5
BODY = "    return a + b\n"
PLAN = [{"tier": "small", "k": 0, "accept_log_prob": -1.0}, {"tier": "large", "k": 0}]


@dataclass(frozen=True, slots=True)
class Result:
    kind: str
    """answered, direct, overloaded, or a sentence that says what else happened."""
    due_s: float
    """Since the first one was."""
    latency_s: float
    """Since it was due."""


@dataclass(frozen=True, slots=True)
class Level:
    """A load, and what it gave."""

    in_flight: int
    rate: float
    service_s: float
    results: Sequence[Result]
    seconds: float
    """That so many were in flight."""
    upward: float
    """Requests that the larger tier was asked about."""

    def latencies_ms(self, kind: str) -> list[float]:
        return [1e3 * one.latency_s for one in self.results if one.kind == kind]

    @property
    def answers_per_s(self) -> float:
        """While so many were in flight."""
        ended = [one.due_s + one.latency_s for one in self.results if one.kind == "answered"]
        return sum(self.service_s < end_s <= self.service_s + self.seconds for end_s in ended) / self.seconds

    @property
    def failures(self) -> list[str]:
        return [one.kind for one in self.results if one.kind not in ("answered", "direct", "overloaded")]

    @property
    def broken(self) -> list[str]:
        """Which promises it breaks."""
        refused = len(self.latencies_ms("overloaded"))
        broken = {
            f"{len(self.failures)} errors, as: {self.failures[:1]}": bool(self.failures),
            f"{self.upward:g} requests went upward": self.upward > 0,
            f"{refused} were refused below the bound of {BOUND}": refused > 0 and self.in_flight < BOUND,
            f"none was refused above the bound of {BOUND}": refused == 0 and self.in_flight > BOUND,
        }
        return [sentence for sentence, holds in broken.items() if holds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that the wanted number is in flight, at each level")
    parser.add_argument("--rate", type=float, default=RATE, help="requests per second, at most")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scripted = repository(Path(folder))
        with running(unpacked_server(), scripted.repositories, log=Path(folder, "log"), deployment=scripted.deployment) as server:
            levels = [level(server, wanted, options.rate, options.seconds) for wanted in (*IN_FLIGHT, BEYOND)]
    show(levels)
    sys.exit(any(one.broken for one in levels))


def repository(folder: Path) -> ScriptedRepository:
    tiers = [ScriptedTier("small", max_in_flight=BOUND), ScriptedTier("large", max_in_flight=32)]
    scripted = render(folder, tiers, {"one": PLAN}, default="one")
    document = json.loads(scripted.deployment.read_text())
    scripted.deployment.write_text(json.dumps(document | {"max_requests": BOUND}))
    return scripted


def level(server: RunningServer, in_flight: int, rate: float, seconds: float) -> Level:
    """The load, from a new process."""
    rate = min(rate, in_flight / LEAST_S)
    service_s = in_flight / rate
    before = upward(server)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        results = pool.submit(send, server.grpc, rate, service_s, service_s + seconds).result()
    time.sleep(1.0)  # metrics come four times a second
    one = Level(in_flight, rate, service_s, results, seconds, upward(server) - before)
    print(f"{in_flight} in flight: {'; '.join(one.broken) or 'well'}", file=sys.stderr, flush=True)
    return one


def upward(server: RunningServer) -> float:
    """Requests in which the tier `large` was asked, as the server's metrics say."""
    try:
        totals = read_totals(f"http://{server.metrics}/metrics")
    except MetricsError:  # before its first request
        return 0.0
    return sum(
        value for (name, labels), value in totals.items() if name == "codecascade_decisions_total" and ("tier", "large") in labels
    )


def send(address: str, rate: float, service_s: float, seconds: float) -> list[Result]:
    """In the process of the load."""
    return asyncio.run(_send(address, rate, service_s, seconds))


async def _send(address: str, rate: float, service_s: float, seconds: float) -> list[Result]:
    prompt = f"# small takes: {service_s}\n" + 'def add(a, b):\n    """The sum of a and b."""\n'
    request = GenerateRequest("small", prompt, (), max_tokens=64, temperature=0.0, top_p=1.0, seed=0, num_return_sequences=1)
    async with AsyncCascadeClient(address, retries=NO_RETRIES) as client, TierEndpoints([address]) as tier:
        began_s = time.monotonic()

        async def cascade(due_s: float) -> Result:
            try:
                answer = await client.complete(prompt)
            except Overloaded:
                kind = "overloaded"
            except RequestFailed as error:
                kind = f"{error.code.name}: {error.sentence}"
            else:
                kind = "answered" if answer.text == prompt + BODY and answer.tier == "small" else f"wrong: {answer}"
            return Result(kind, due_s, time.monotonic() - began_s - due_s)

        async def direct(due_s: float) -> Result:
            await tier.generate(request)
            return Result("direct", due_s, time.monotonic() - began_s - due_s)

        await asyncio.gather(cascade(0.0), direct(0.0))  # connections
        began_s = time.monotonic()
        under_way = []
        for number in range(round(rate * seconds)):
            due_s = number / rate
            await asyncio.sleep(began_s + due_s - time.monotonic())
            under_way.append(asyncio.create_task(cascade(due_s)))
            if number % DIRECT_EVERY == 0:
                under_way.append(asyncio.create_task(direct(due_s)))
        return await asyncio.gather(*under_way)


def show(levels: Sequence[Level]) -> None:
    figures = (
        "answers/s",
        "p50",
        "p95",
        "p99",
        "own p50",
        "own p99",
        "direct p50",
        "overhead p50",
        "errors",
        "refused",
        "upward",
    )
    table = new_table("in flight", right=("arrivals/s", "tier takes", *figures))
    for one in levels:
        answered = one.latencies_ms("answered")
        p50, p95, p99 = np.percentile(answered, (50, 95, 99))
        direct = np.percentile(one.latencies_ms("direct"), 50)
        own = 1e3 * one.service_s
        milliseconds = (p50, p95, p99, p50 - own, p99 - own, direct, p50 - direct)
        table.add_row(
            str(one.in_flight),
            f"{one.rate:.0f}",
            f"{one.service_s:.2f} s",
            f"{one.answers_per_s:.1f}",
            *(f"{figure:.1f}" for figure in milliseconds),
            *(str(len(one.failures)), str(len(one.latencies_ms("overloaded"))), f"{one.upward:g}"),
        )
    out = console(sys.stdout, WIDE)
    out.print(
        f"{os.cpu_count()} cores, which the load shares; milliseconds from the time at which a request was due; bound {BOUND}"
    )
    out.print(table)


if __name__ == "__main__":
    main()
