"""Reads what a running server counts."""

from __future__ import annotations

import asyncio
import re
import time
import urllib.request
from collections.abc import Callable

from codecascade_build.server.process import RunningServer


def metric(server: RunningServer, name: str) -> float:
    """The value of a series, its labels in any order; 0 if there is none. Fails with the log of a server that has ended."""
    return value_of(scraped(server), name)


def value_of(text: str, name: str) -> float:
    """The value of a series in the text of a /metrics; 0 if there is none."""
    series = [line.rpartition(" ")[::2] for line in text.splitlines()]
    return sum(float(value) for written, value in series if _labels(written) == _labels(name))


def begun_calls(server: RunningServer, model: str) -> float:
    """Calls of a model that have begun, whether they have ended or not."""
    return metric(server, f'nv_inference_count{{model="{model}",version="1"}}')


def scraped(server: RunningServer) -> str:
    """Its /metrics. Fails with the log of a server that has ended."""
    ended = server.process.poll()
    assert ended is None, f"the server ended with {ended}:\n{server.log_text()[-4000:]}"
    with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


async def eventually(holds: Callable[[], bool], within_s: float, otherwise: Callable[[], object] = lambda: "") -> None:
    """Wait until it holds: a server updates its metrics a few times a second. Fails after `within_s`; otherwise: says why."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, otherwise()
        await asyncio.sleep(0.05)


def _labels(series: str) -> tuple[str, frozenset[str]]:
    name, _, inside = series.partition("{")
    return name, frozenset(re.findall(r'\w+="[^"]*"', inside))
