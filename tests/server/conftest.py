"""Real Triton servers for the tests, on free ports. They live as long as the test session."""

from __future__ import annotations

import contextlib
import itertools
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from codecascade_build.paths import VAR
from codecascade_build.progress import Progress
from codecascade_build.server.install import TritonInstall, installed
from codecascade_build.server.process import RunningServer, running
from codecascade_build.server.release import pinned
from codecascade_build.stack import prepare

from tests.server.real_server import StartServer


@pytest.fixture(scope="session")
def triton_install() -> TritonInstall:
    """The server that `make setup` unpacked."""
    install = installed(pinned().version, VAR, sysconfig.get_python_version())
    assert install, f"there is no Triton server in {VAR}; `make setup` puts it there"
    return install


@pytest.fixture(scope="session")
def start_server(triton_install: TritonInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Starts a server that is stopped at the end of the session. Call it from a session or module fixture."""
    logs = tmp_path_factory.mktemp("triton-logs")
    numbers = itertools.count(1)
    with contextlib.ExitStack() as servers:

        def start(repositories: Sequence[Path], deployment: Path | None = None) -> RunningServer:
            log = logs / f"triton-{next(numbers)}.log"
            return servers.enter_context(running(triton_install, repositories, log=log, deployment=deployment))

        yield start


@pytest.fixture(scope="session")
def qwen_server(start_server: StartServer) -> RunningServer:
    """The deployment that `make run` starts: real weights, the real sandbox, the shipped plans."""
    stack = prepare("qwen2.5-coder", Progress())
    return start_server(stack.repositories, stack.rendered.deployment)
