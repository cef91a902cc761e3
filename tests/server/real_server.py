"""What the fixture `start_server` is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from codecascade_build.server.process import RunningServer


class StartServer(Protocol):
    """Starts a real Triton that lives as long as the test session."""

    def __call__(self, repositories: Sequence[Path], deployment: Path | None = None) -> RunningServer:
        """repositories: folders of models. deployment: the value of CODECASCADE_DEPLOYMENT. Ready when this returns."""
