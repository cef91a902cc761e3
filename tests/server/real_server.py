"""The real Triton of the tests: where it is, and what the fixture `start_server` is."""

from __future__ import annotations

import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from codecascade_build.paths import VAR
from codecascade_build.server.install import TritonInstall, installed
from codecascade_build.server.process import RunningServer
from codecascade_build.server.release import pinned

INTERRUPTIBLE = ("env", "--default-signal=INT")
"""Before a program: Ctrl-C reaches it even where the tests are started in the background, which ignores it."""
UNASKED = ("--ask-s=3600",)
"""The supervisor watches the processes alone: tests count the calls of models."""


class StartServer(Protocol):
    """Starts a real Triton, which the fixture stops."""

    def __call__(
        self, repositories: Sequence[Path], deployment: Path | None = None, supervision: Sequence[str] = UNASKED
    ) -> RunningServer:
        """repositories: folders of models. deployment: the value of CODECASCADE_DEPLOYMENT. Ready when this returns.

        supervision: options of the supervisor.
        """


def unpacked_server() -> TritonInstall:
    """The server that `make setup` unpacked."""
    install = installed(pinned().version, VAR, sysconfig.get_python_version())
    assert install, f"there is no Triton server in {VAR}; `make setup` puts it there"
    return install
