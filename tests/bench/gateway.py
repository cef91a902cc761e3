"""Measures what the gateway costs beside the gRPC call that it makes and beside Triton's own HTTP door, and how soon it cancels.

The first part has a `cascade` that answers at once, so that all the time is that of the doors; rounds of the three alternate. The
second has the cascade and a tier that never comes to an end: the time from a closed connection to the end of the tier's call.
The load comes from this process, on the same cores.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import numpy as np
from codecascade_build.server.process import RunningServer, running
from codecascade_client.client import AsyncCascadeClient
from codecascade_client.terminal import console, new_table

from tests.server.gateway import Gateway, running_gateway
from tests.server.metrics import begun_calls, metric
from tests.server.real_server import unpacked_server
from tests.server.scripted.repository import ScriptedRepository, ScriptedTier, render

CONCURRENCIES = (1, 32)
ROUNDS = 5
REQUESTS = 500  # of each door in each round
CUTS = 20
PROMPT = 'def add(a, b):\n    """The sum of a and b."""\n'
STOPPED = 'scripted_stopped_calls{tier="small"}'
NOOP = Path(__file__).parents[1] / "server" / "scripted" / "noop.py"

Ask = Callable[[], Awaitable[None]]


def main() -> None:
    out = console(sys.stdout)
    out.print(f"{os.cpu_count()} cores, which the load shares; {ROUNDS} alternating rounds of {REQUESTS} requests")
    with serving(noop=True) as (server, gateway):
        for concurrency in CONCURRENCIES:
            table = new_table(f"{concurrency} at a time", "requests/s", "p50 ms", "p99 ms")
            for door, (per_second, latencies_ms) in asyncio.run(measured(server, gateway, concurrency)).items():
                p50, p99 = np.percentile(latencies_ms, (50, 99))
                table.add_row(door, f"{per_second:.0f}", f"{p50:.2f}", f"{p99:.2f}")
            out.print(table)
    with serving(noop=False) as (server, gateway):
        ended_ms = [cut_off(server, gateway) for _ in range(CUTS)]
    out.print(f"closed connection → the tier's call has ended: p50 {np.median(ended_ms):.0f} ms, longest {max(ended_ms):.0f} ms")


async def measured(server: RunningServer, gateway: Gateway, concurrency: int) -> dict[str, tuple[float, list[float]]]:
    """Door → requests per second, and the latency of each."""
    body = json.dumps({"prompt": PROMPT}).encode()
    latencies: dict[str, list[float]] = {}
    wall_s: dict[str, float] = {}
    async with contextlib.AsyncExitStack() as opened:
        client = await opened.enter_async_context(AsyncCascadeClient(server.grpc))

        async def call() -> None:
            await client.complete(PROMPT, return_trace=True)

        http = {
            "gateway": (gateway.port, "/v1/completions"),
            "Triton's generate": (server.ports.http, "/v2/models/cascade/generate"),
        }
        doors: dict[str, list[Ask]] = {"gRPC": [call] * concurrency}
        for door, (port, path) in http.items():
            doors[door] = [await opened.enter_async_context(poster(port, path, body)) for _ in range(concurrency)]
        for number in range(ROUNDS + 1):
            for door, asks in doors.items():
                spent_s, round_ms = await load(asks)
                if number:  # the first round is for warmth
                    wall_s[door] = wall_s.get(door, 0.0) + spent_s
                    latencies.setdefault(door, []).extend(round_ms)
    return {door: (len(latencies[door]) / wall_s[door], latencies[door]) for door in doors}


async def load(asks: list[Ask]) -> tuple[float, list[float]]:
    """Seconds for REQUESTS requests, each caller one after the other, and the milliseconds of each."""
    latencies_ms: list[float] = []

    async def caller(ask: Ask) -> None:
        for _ in range(REQUESTS // len(asks)):
            started = time.perf_counter()
            await ask()
            latencies_ms.append((time.perf_counter() - started) * 1e3)

    started = time.perf_counter()
    await asyncio.gather(*map(caller, asks))
    return time.perf_counter() - started, latencies_ms


@contextlib.asynccontextmanager
async def poster(port: int, path: str, body: bytes) -> AsyncIterator[Ask]:
    """Posts the body over one connection, which stays open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = head(path, body) + body

    async def post() -> None:
        writer.write(request)
        answered = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert b" 200 " in answered.split(b"\r\n")[0], answered
        length = answered.partition(b"content-length: ")[2].split(b"\r\n")[0]
        await (reader.readexactly(int(length)) if length else reader.readuntil(b"\r\n0\r\n\r\n"))

    try:
        yield post
    finally:
        writer.close()


def cut_off(server: RunningServer, gateway: Gateway) -> float:
    """Milliseconds from closing a connection until both calls of the tier have ended."""
    begun, stopped = begun_calls(server, "small"), metric(server, STOPPED)
    body = json.dumps({"prompt": f"# small: stall\n{PROMPT}"}).encode()
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        connection.sendall(head("/v1/completions", body) + body)
        while begun_calls(server, "small") < begun + 2:
            time.sleep(0.01)
    closed = time.perf_counter()
    while metric(server, STOPPED) < stopped + 2:
        time.sleep(0.002)
    return (time.perf_counter() - closed) * 1e3


def head(path: str, body: bytes) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()


@contextlib.contextmanager
def serving(*, noop: bool) -> Iterator[tuple[RunningServer, Gateway]]:
    with tempfile.TemporaryDirectory() as folder:
        repository = rendered(Path(folder), noop=noop)
        log = Path(folder) / "triton.log"
        with (
            running(unpacked_server(), repository.repositories, log=log, deployment=repository.deployment) as server,
            running_gateway(server.grpc) as gateway,
        ):
            yield server, gateway


def rendered(folder: Path, *, noop: bool) -> ScriptedRepository:
    steps = [{"tier": "small", "k": 3, "lines_per_sample": 2, "threshold": 1.0}]
    repository = render(folder, [ScriptedTier("small")], {"one": steps}, default="one")
    if noop:
        shutil.copy(NOOP, repository.repositories[0] / "cascade" / "1" / "model.py")
    return repository


if __name__ == "__main__":
    main()
