"""`plan-gpus` runs the planner of the checkout in the current folder: it reads the recipes there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from codecascade.errors import CascadeError

SOURCE = Path("build") / "codecascade_build" / "plan_gpus.py"


def run_planner(arguments: Sequence[str], root: Path) -> int:
    """The planner's exit code. root: a checkout of the project. Raises CascadeError for any other folder."""
    if not (root / SOURCE).is_file():
        raise CascadeError(f"plan-gpus has to be run in a checkout of the project: there is no {SOURCE} in {root}")
    return subprocess.run(
        [sys.executable, "-m", "codecascade_build.plan_gpus", *arguments],
        env={**os.environ, "PYTHONPATH": str(root / "build")},
        check=False,
    ).returncode
