"""`codecascade gateway` as a process beside a server of the tests."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

from codecascade_build.server.process import free_ports

PROGRAM = Path(sys.prefix) / "bin" / "codecascade"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Message
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def error(self) -> tuple[int, str]:
        return self.status, self.json["error"]["message"]


@dataclass(frozen=True, slots=True)
class Gateway:
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return _answer(urllib.request.Request(self.url + path, headers=dict(headers or {})))

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
        """body: JSON, or bytes to send as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **(headers or {})}
        return _answer(urllib.request.Request(self.url + path, data, headers))


@contextlib.contextmanager
def running_gateway(grpc: str, **settings: str) -> Iterator[Gateway]:
    """settings: names of variables without CODECASCADE_GATEWAY_. Stopped at the end."""
    gateway = Gateway(free_ports().http)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CODECASCADE")}
    environ |= {f"CODECASCADE_GATEWAY_{name.upper()}": value for name, value in settings.items()}
    process = subprocess.Popen([PROGRAM, "gateway", "--port", str(gateway.port), "--url", grpc], env=environ)
    try:
        wait_until_it_listens(gateway, process)
        yield gateway
    finally:
        process.terminate()
        assert process.wait(30) in (0, -15)


def wait_until_it_listens(gateway: Gateway, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(urllib.error.URLError):
            gateway.get("/openapi.json")
            return
        assert process.poll() is None, "the gateway ended"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _answer(request: urllib.request.Request) -> Answer:
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return Answer(answer.status, answer.headers, answer.read().decode())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, error.read().decode())
