"""How long a server takes to recover from the death of one of its processes, and how long callers wait to be told.

    python -m tests.bench.recovery [--rounds 3] [--load 8]

A real Triton with scripted tiers and the real sandbox, under a light load. Each round kills one process and waits for the first
right answer. `told` is the longest wait of a caller whose request was under way, `not ready` when the probe first said so.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from codecascade_build.server.process import RunningServer, running
from codecascade_client.client import AsyncCascadeClient
from codecascade_client.errors import RequestFailed
from codecascade_client.terminal import console, new_table

from tests.server.real_server import unpacked_server
from tests.server.scripted.repository import ScriptedTier, render
from tests.server.stubs import kill_stub, probe

PROMPT = 'def add(a, b):\n    """The sum of a and b."""\n'
RIGHT = "return a + b\n"
PLANS = {"one": [{"tier": "small", "k": 1, "lines_per_sample": 1, "threshold": 1.0}]}
MODELS = ("cascade", "small", "sandbox")


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds since the process was killed."""

    told: float
    not_ready: float
    right: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--load", type=int, default=8, help="requests under way")
    options = parser.parse_args()
    table = new_table("killed", right=("told", "not ready", "first right answer"))
    with tempfile.TemporaryDirectory() as folder:
        scripted = render(Path(folder), [ScriptedTier("small", delay_s=0.5)], PLANS, default="one", real_sandbox=True)
        log = Path(folder, "log")
        window = ["--window-s=0.5"]  # every restart counts as the first, which does not wait
        with running(
            unpacked_server(), scripted.repositories, log=log, deployment=scripted.deployment, supervision=window
        ) as server:
            for model in MODELS * options.rounds:
                one = asyncio.run(recovery(server, model, options.load))
                table.add_row(model, *(f"{seconds:.2f} s" for seconds in (one.told, one.not_ready, one.right)))
    console(sys.stdout).print(table)


async def recovery(server: RunningServer, model: str, load: int) -> Recovery:
    """Kill a model's process under load."""
    under_way = [asyncio.create_task(ask(server)) for _ in range(load)]
    await asyncio.sleep(0.25)  # half of what the tier takes
    killed = time.monotonic()
    kill_stub(server, model)
    not_ready = asyncio.create_task(asyncio.to_thread(first_not_ready, server))
    answers = await asyncio.gather(*under_way)
    told = time.monotonic() - killed
    assert not any(answers), "a request was answered by a process that had been killed"
    while not await ask(server):  # noqa: ASYNC110 - another process sets no event
        await asyncio.sleep(0.02)
    right = time.monotonic() - killed
    return Recovery(told, await not_ready - killed, right)


async def ask(server: RunningServer) -> bool:
    """Whether there was an answer, which must be right."""
    async with AsyncCascadeClient(server.grpc) as client:
        try:
            answer = await client.complete(PROMPT, timeout_s=60)
        except RequestFailed:
            return False
    assert answer.text.endswith(RIGHT)
    return True


def first_not_ready(server: RunningServer) -> float:
    """When the readiness probe first fails."""
    while probe(server, "ready")[0] == 200:
        time.sleep(0.01)
    return time.monotonic()


if __name__ == "__main__":
    main()
