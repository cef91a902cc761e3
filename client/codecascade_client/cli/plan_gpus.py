"""`plan-gpus`: the planner reads the recipes of a checkout, so the checkout in the current folder runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from codecascade.errors import CascadeError

SOURCE = Path("build") / "codecascade_build" / "plan_gpus.py"


def run_planner(arguments: Sequence[str], root: Path) -> int:
    """The planner's exit code. root: a checkout of the project. Raises CascadeError if it is none."""
    if not (root / SOURCE).is_file():
        raise CascadeError(f"plan-gpus has to be run in a checkout of the project: there is no {SOURCE} in {root}")
    return subprocess.run(
        [sys.executable, "-m", "codecascade_build.plan_gpus", *arguments],
        env={**os.environ, "PYTHONPATH": str(root / "build")},
        check=False,
    ).returncode
