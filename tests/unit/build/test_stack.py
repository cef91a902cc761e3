"""The commands around a server, as far as they need none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from codecascade_build.recipes import families
from codecascade_build.server.process import Ports, RunningServer
from codecascade_build.stack import client_environ


def stack(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "codecascade_build.stack", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_a_command_is_told_where_the_server_is_and_finds_this_environment_s_programs() -> None:
    with subprocess.Popen(["true"]) as process:
        server = RunningServer("127.0.0.1", Ports(http=1, grpc=2, metrics=3, health=4), Path("log"), process, "secret")
    assert client_environ({"PATH": "/bin", "HOME": "/home"}, server) == {
        "PATH": f"{sys.prefix}/bin:/bin",
        "HOME": "/home",
        "CODECASCADE_URL": "127.0.0.1:2",
        "CODECASCADE_INNER_TOKEN": "secret",
    }


@pytest.mark.parametrize("command", [("fetch",), ("serve",), ("run", "--", "true")], ids=str)
def test_what_stands_in_the_way_is_one_sentence_on_stderr(command: tuple[str, ...]) -> None:
    done = stack(command[0], "--family", "tiny", *command[1:])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: There is no recipe for the family 'tiny'; there are {', '.join(families())}.\n"
