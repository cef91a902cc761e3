"""The processes of a running server's Python models: which they are, and the end of one."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from typing import Any

from codecascade.supervision.processes import stubs
from codecascade_build.server.process import RunningServer

from tests.server.metrics import value_of


def stub_pid(server: RunningServer, model: str) -> int:
    """Of a model with one instance."""
    (pid,) = (stub.pid for stub in stubs(server.process.pid) if stub.model == model)
    return pid


def kill_stub(server: RunningServer, model: str, with_signal: int = signal.SIGKILL) -> None:
    os.kill(stub_pid(server, model), with_signal)


def probe(server: RunningServer, path: str) -> tuple[int, dict[str, Any]]:
    """The status and the JSON of a probe: live or ready."""
    try:
        with urllib.request.urlopen(f"http://{server.health}/health/{path}", timeout=5) as answer:
            return int(answer.status), json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def supervisor_metric(server: RunningServer, name: str) -> float:
    """The value of a series of the supervisor's own metrics; 0 if there is none."""
    return value_of(_supervisor_metrics(server), name)


def restarts(server: RunningServer) -> float:
    """How often its supervisor has started it again, whatever the reason."""
    lines = _supervisor_metrics(server).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("codecascade_server_restarts_total{"))


def _supervisor_metrics(server: RunningServer) -> str:
    with urllib.request.urlopen(f"http://{server.health}/metrics", timeout=5) as answer:
        return str(answer.read().decode())
