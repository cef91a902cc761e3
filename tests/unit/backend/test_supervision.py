"""What the supervisor decides and says, without a server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from codecascade.supervision.__main__ import http_address
from codecascade.supervision.bounds import Bounds
from codecascade.supervision.probes import answer_probes
from codecascade.supervision.processes import descendants, ended
from codecascade.supervision.questions import question
from codecascade.supervision.state import SERVER, State, Trouble
from codecascade_build.server.process import LOOPBACK, free_ports

DEAD = Trouble("small", "ended")


def test_the_first_restart_is_at_once_and_each_further_one_waits_twice_as_long() -> None:
    bounds = Bounds(restarts=9, window_s=600)
    assert [bounds.wait_s(now=0.0) for _ in range(10)] == [0, 1, 2, 4, 8, 16, 30, 30, 30, None]


def test_restarts_are_forgotten_after_the_window() -> None:
    bounds = Bounds(restarts=2, window_s=600)
    assert [bounds.wait_s(now) for now in (0.0, 300.0, 599.0, 601.0, 602.0)] == [0, 1, None, 1, None]
    assert str(bounds) == "2 of at most 2 restarts within 600 s"


def test_it_is_ready_only_while_it_serves_and_every_model_answers() -> None:
    state = State()
    assert (state.ready, state.live) == (False, True)
    state.serving(["small", "sandbox"])
    assert (state.ready, state.live) == (True, True)
    state.models["small"] = "no answer within 10 s"
    assert (state.ready, state.live) == (False, True)
    assert state.document()["models"] == {
        "sandbox": {"ready": True, "reason": None},
        "small": {"ready": False, "reason": "no answer within 10 s"},
    }
    state.restarting(DEAD)
    assert (state.ready, state.live) == (False, True)
    state.serving(["small", "sandbox"])
    assert (state.ready, state.live) == (True, True)


def test_after_one_restart_too_many_it_is_not_even_live() -> None:
    state = State()
    state.serving(["small", "sandbox"])
    state.failed(DEAD)
    assert (state.ready, state.live) == (False, False)
    assert state.document() == {
        "ready": False,
        "phase": "failed",
        "latest_trouble": "Model small: its process ended",
        "models": {
            "sandbox": {"ready": False, "reason": "the server is failed"},
            "small": {"ready": False, "reason": "its process ended"},
        },
    }


def test_metrics_count_restarts_from_0_by_the_model_that_caused_them() -> None:
    state = State()
    state.serving(["small"])
    assert 'codecascade_server_restarts_total{model="small",reason="ended"} 0' in state.metrics().splitlines()
    state.restarting(DEAD)
    assert 'codecascade_model_up{model="small"} 0' in state.metrics().splitlines()
    state.recovered(1.5)
    state.serving(["small"])
    state.restarting(Trouble(SERVER, "ended"))
    state.recovered(2.0)
    state.serving(["small"])
    assert {
        "codecascade_ready 1",
        'codecascade_model_up{model="small"} 1',
        'codecascade_server_restarts_total{model="small",reason="ended"} 1',
        'codecascade_server_restarts_total{model="(server)",reason="ended"} 1',
        "codecascade_server_recovery_seconds_sum 3.500",
        "codecascade_server_recovery_seconds_count 2",
    } < set(state.metrics().splitlines())


def test_probes_are_answered_with_the_status_and_the_reasons() -> None:
    state, port = State(), free_ports().health
    answer_probes(state, LOOPBACK, port)

    def status(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{port}{path}", timeout=5) as answer:
                return int(answer.status), answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    assert status("/health/ready")[0] == 503
    assert status("/health/live") == (200, '{"live": true, "phase": "starting"}')
    state.serving(["small"])
    assert (status("/health/ready")[0], json.loads(status("/health/ready")[1])) == (200, state.document())
    assert status("/metrics") == (200, state.metrics())
    assert status("/v2/health/ready") == (404, '{"error": "/v2/health/ready must be /health/live, /health/ready or /metrics"}')


def test_a_question_has_every_obligatory_input_empty_and_in_the_model_s_shape() -> None:
    tensors = [
        {"name": "text", "data_type": "TYPE_STRING", "dims": [1]},
        {"name": "lists", "data_type": "TYPE_INT32", "dims": [2, -1]},
        {"name": "seed", "data_type": "TYPE_UINT64", "dims": [1], "optional": True},
    ]
    asked = question({"name": "m", "max_batch_size": 1, "input": tensors})
    assert asked.model == "m"
    assert json.loads(asked.body) == {
        "inputs": [
            {"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": [""]},
            {"name": "lists", "shape": [1, 2, 1], "datatype": "INT32", "data": [0, 0]},
        ],
        "parameters": {"alive": True},
    }


@pytest.mark.parametrize(
    ("command", "address"),
    [
        (["tritonserver"], "127.0.0.1:8000"),
        (["tritonserver", "--http-port=9000", "--http-address=0.0.0.0"], "127.0.0.1:9000"),
        (["mpirun", "-n", "2", "start", "--http-address=10.0.0.1", "--http-port=1", "--http-port=2"], "10.0.0.1:2"),
    ],
)
def test_triton_answers_where_its_flags_say(command: list[str], address: str) -> None:
    assert http_address(command) == address


CHILD = "import subprocess; child = subprocess.Popen(['cat'], stdin=subprocess.PIPE); print(child.pid, flush=True); input()"


def test_descendants_are_all_generations_and_their_ends_are_noticed() -> None:
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        assert parent.stdin
        grandchild = int(parent.stdout.readline())
        assert {parent.pid, grandchild} <= set(descendants(os.getpid()))
        assert descendants(parent.pid) == [grandchild]
        parent.stdin.close()
        for pid in (grandchild, parent.pid):
            asyncio.run(asyncio.wait_for(ended(pid), 30))
    assert not Path(f"/proc/{parent.pid}").exists()
    asyncio.run(asyncio.wait_for(ended(parent.pid), 30))


def run_supervised(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "codecascade.supervision", f"--address={LOOPBACK}", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_a_server_that_does_not_start_is_not_started_again() -> None:
    done = run_supervised(f"--port={free_ports().health}", "--", "sh", "-c", "echo out; echo log >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\nlog\n", "")


def test_a_port_in_use_is_one_sentence() -> None:
    state, port = State(), free_ports().health
    answer_probes(state, LOOPBACK, port)
    done = run_supervised(f"--port={port}", "--", "true")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Address already in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_command_is_needed() -> None:
    assert run_supervised().stderr.endswith("error: there is no command, it must follow --\n")


def test_the_token_is_drawn_at_every_start_unless_it_is_set_even_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def token() -> str:
        return run_supervised(f"--port={free_ports().health}", "--", "sh", "-c", "echo $CODECASCADE_INNER_TOKEN").stdout.strip()

    monkeypatch.delenv("CODECASCADE_INNER_TOKEN", raising=False)
    first, second = token(), token()
    assert len(first) == len(second) == 32
    assert first != second
    for given in ("mine", ""):
        monkeypatch.setenv("CODECASCADE_INNER_TOKEN", given)
        assert token() == given
