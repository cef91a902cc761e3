"""Measures what the cascade itself costs, on a real Triton with tiers that answer at once, against a floor.

A request makes three nested calls: solutions and tests from one tier at the same time, then the sandbox (k = 3, 2 test lines
of each sample, accepted). `floor` is an empty model that makes the same three calls with constant contents. Rounds of both
alternate. Both are measured with a sandbox that runs nothing and with the real one. The difference between the two floors is
the sandbox's own time.
"""

from __future__ import annotations

import asyncio
import os
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
from codecascade.texts.prompts import solution_prompt, tests_prompt
from codecascade.types import Task
from codecascade_build.paths import VAR
from codecascade_build.server.install import installed
from codecascade_build.server.process import RunningServer, running
from codecascade_build.server.release import pinned
from codecascade_client.terminal import console, new_table
from rich.text import Text
from tritonclient.grpc import service_pb2

from tests.server.scripted.repository import ScriptedRepository, ScriptedTier, render

GOAL = 1.3
CONCURRENCIES = (1, 32)
ROUNDS = 10
REQUESTS = 200  # of each model in each round
K, LINES = 3, 2
# As long as a task of HumanEval.
PROMPT = '''from typing import List, Tuple


def add(a: int, b: int) -> int:
    """ Given two integers, return their sum. The sum of two integers is what is left in hand after counting
    first the one and then the other; it does not matter which comes first.
    >>> add(1, 2)
    3
    >>> add(-1, 5)
    4
    """
'''


@dataclass
class Load:
    """What one model did at one concurrency, over all rounds."""

    latencies_ms: list[float] = field(default_factory=list)
    """One per request."""
    wall_s: float = 0.0
    client_cpu_s: float = 0.0

    @property
    def per_second(self) -> float:
        return len(self.latencies_ms) / self.wall_s

    def percentile(self, q: float) -> float:
        return float(np.percentile(self.latencies_ms, q))


Loads = dict[tuple[str, int], Load]


def main() -> None:
    out = console(sys.stdout)
    out.print(f"{os.cpu_count()} cores; {ROUNDS} alternating rounds of {REQUESTS} requests; k = {K}, {K * LINES} test lines")
    empty = _measured(real_sandbox=False, models=("cascade", "floor", "sandbox"))
    _print(out, "sandbox that runs nothing", empty)
    real = _measured(real_sandbox=True, models=("cascade", "floor"))
    _print(out, "real sandbox", real)
    for concurrency in CONCURRENCIES:
        own = 1e3 / real["floor", concurrency].per_second - 1e3 / empty["floor", concurrency].per_second
        out.print(Text(f"the sandbox's own time at concurrency {concurrency}: {own:.2f} ms of throughput per request"))
    for concurrency in CONCURRENCIES:
        alone, cascade = empty["sandbox", concurrency], empty["cascade", concurrency]
        out.print(
            Text(
                f"the load generator at concurrency {concurrency}: {alone.per_second:,.0f} requests/s to one empty model, "
                f"{alone.per_second / cascade.per_second:.1f} × what it got from the cascade; "
                f"{1e3 * cascade.client_cpu_s / len(cascade.latencies_ms):.2f} ms of CPU for one request to the cascade"
            )
        )


def _measured(real_sandbox: bool, models: Sequence[str]) -> Loads:
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder), real_sandbox) as server:
        return asyncio.run(_loads(server.grpc, models))


@contextmanager
def _server(folder: Path, real_sandbox: bool) -> Iterator[RunningServer]:
    plan = [{"tier": "small", "k": K, "lines_per_sample": LINES, "threshold": 1.0}]
    tiers = [ScriptedTier("small", max_in_flight=2 * max(CONCURRENCIES))]  # rendered tiers have a limit too
    scripted: ScriptedRepository = render(folder / "repository", tiers, {"one": plan}, "one", real_sandbox, _floor_calls())
    install = installed(pinned().version, VAR, sysconfig.get_python_version())
    if install is None:
        sys.exit("error: Triton is not installed; `make setup` installs it")
    with running(install, scripted.repositories, log=folder / "triton.log", deployment=scripted.deployment) as server:
        yield server


def _floor_calls() -> dict[str, Any]:
    """The calls of a cascade request, with contents of the same size."""
    task = Task(PROMPT, "add")
    solutions, tests = solution_prompt("base", task), tests_prompt("base", task, LINES)
    common = {"temperature": 0.8, "top_p": 0.95, "num_return_sequences": K, "seed": 0}
    return {
        "threads": 256,
        "tier": "small",
        "solutions": {"text_input": solutions.text, "stop_words": solutions.stop, "max_tokens": 512, **common},
        "tests": {"text_input": tests.text, "stop_words": tests.stop, "max_tokens": 256, "max_lines": 2, **common},
        "candidates": [f"{PROMPT}    # draft {10**9 + j}\n    return a + b\n" for j in range(K)],
        "test_lines": ["assert add(1, 2) == 3", "assert add(3, 4) == 7"] * K,
    }


async def _loads(address: str, models: Sequence[str]) -> Loads:
    loads: Loads = {(model, concurrency): Load() for model in models for concurrency in CONCURRENCIES}
    async with grpc.aio.insecure_channel(address) as channel:
        for model in models:
            await _load(channel, model, max(CONCURRENCIES), REQUESTS, Load())  # threads, caches, zygotes: not measured
        for _ in range(ROUNDS):
            for concurrency in CONCURRENCIES:
                for model in models:
                    await _load(channel, model, concurrency, REQUESTS, loads[model, concurrency])
    return loads


async def _load(channel: grpc.aio.Channel, model: str, concurrency: int, requests: int, load: Load) -> None:
    """Run `concurrency` callers, each with one request at a time. Bytes go in and out; nothing is parsed."""
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    body = _request(model)
    left = iter(range(requests))

    async def caller() -> None:
        for _ in left:
            started = time.perf_counter()
            await call(body)
            load.latencies_ms.append((time.perf_counter() - started) * 1e3)

    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    load.wall_s += time.perf_counter() - started
    load.client_cpu_s += time.process_time() - cpu


def _request(model: str) -> bytes:
    request = service_pb2.ModelInferRequest(model_name=model)
    for name in ("candidates", "test_lines") if model == "sandbox" else ("prompt",):
        text = PROMPT.encode()
        request.inputs.add(name=name, datatype="BYTES", shape=[1])
        request.raw_input_contents.append(len(text).to_bytes(4, "little") + text)
    return bytes(request.SerializeToString())


def _print(out: Any, title: str, loads: Loads) -> None:
    rows = new_table("model", right=("concurrency", "requests/s", "p50 ms", "p95 ms", "p99 ms", "× floor, mean", "× floor, p50"))
    for concurrency in CONCURRENCIES:
        for model in ("cascade", "floor"):
            load, floor = loads[model, concurrency], loads["floor", concurrency]
            rows.add_row(
                model,
                str(concurrency),
                f"{load.per_second:,.0f}",
                *(f"{load.percentile(q):.2f}" for q in (50, 95, 99)),
                f"{floor.per_second / load.per_second:.2f}",
                f"{load.percentile(50) / floor.percentile(50):.2f}",
            )
    out.print(Text(f"\n{title} (goal: at most {GOAL} × floor)"))
    out.print(rows)


if __name__ == "__main__":
    main()
