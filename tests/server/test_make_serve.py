"""`make serve`: a real Triton with real weights, and the gateway in front of it."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest
from codecascade_build.paths import ROOT
from codecascade_build.server.process import free_ports

from tests.server.gateway import Gateway
from tests.server.real_server import INTERRUPTIBLE

pytestmark = [pytest.mark.triton, pytest.mark.models]


@contextlib.contextmanager
def serving(log: Path) -> Iterator[Gateway]:
    ports, gateway = free_ports(), Gateway(free_ports().grpc)
    argv = [*INTERRUPTIBLE, sys.executable, "-m", "codecascade_build.stack", "serve", "--http-port", str(ports.http)]
    argv += ["--grpc-port", str(ports.grpc), "--metrics-port", str(ports.metrics), "--health-port", str(ports.health)]
    argv += ["--gateway-port", str(gateway.port)]
    with log.open("wb") as said:
        process = subprocess.Popen(argv, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 240
        while not answers(gateway):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield gateway
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, log.read_text()


def answers(gateway: Gateway) -> bool:
    with contextlib.suppress(urllib.error.URLError):
        return gateway.get("/healthz").status == 200
    return False


def test_it_fills_in_what_curl_sends_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """The example of the README."""
    body = {
        "prompt": 'def add(a, b):\n    """Add two numbers.\n\n    >>> add(2, 3)\n    5\n    """\n',
        "suffix": "\n\nprint(add(40, 2))\n",
    }
    log = tmp_path / "serve.log"
    with serving(log) as gateway:
        argv = ["curl", "-s", f"{gateway.url}/v1/completions", "-H", "Content-Type: application/json", "-d", json.dumps(body)]
        answer = json.loads(subprocess.run(argv, capture_output=True, text=True, timeout=300, check=True).stdout)
        program = body["prompt"] + answer["choices"][0]["text"] + body["suffix"]
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "42\n"
    assert answer["codecascade"]["tier"].startswith("qwen2.5-coder-")
    assert f"Gateway {gateway.url}/v1" in log.read_text()
    assert not answers(gateway)
