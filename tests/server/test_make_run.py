"""What `make run` and `make serve` do after set-up, with real weights on a real server."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest
from codecascade_build.paths import ROOT

pytestmark = [pytest.mark.triton, pytest.mark.models]

PROMPT = ROOT / "build" / "example.prompt"


def stack(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "codecascade_build.stack", *arguments]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def test_one_prompt_becomes_code_on_stdout_and_a_table_on_stderr_and_the_exit_code_is_the_command_s() -> None:
    done = stack("run", "--", "sh", "-c", f"codecascade complete --prompt-file '{PROMPT}' && exit 7")
    assert done.returncode == 7, done.stderr
    assert done.stdout.startswith(PROMPT.read_text())
    names: dict[str, object] = {}
    exec(compile(done.stdout, "finished.py", "exec"), names)
    assert callable(names["longest_rising_run"])
    for column in ("tier", "answers", "given tests", "own tests", "log-prob", "decision", "tokens", "cost", "ms"):
        assert column in done.stderr


def test_a_port_in_use_stops_serve_before_triton_starts() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        done = stack("serve", "--grpc-port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"error: Port {port} on 127.0.0.1 cannot be used (Address already in use)" in done.stderr
