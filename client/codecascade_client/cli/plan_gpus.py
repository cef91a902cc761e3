"""`plan-gpus`: the planner reads the recipes of a checkout, so the checkout in the current folder runs it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from codecascade.errors import CascadeError

SCRIPT = Path("build") / "plan_gpus.py"


def run_planner(arguments: Sequence[str], root: Path) -> int:
    """The planner's exit code. root: a checkout of the project. Raises CascadeError if it is none."""
    if not (root / SCRIPT).is_file():
        raise CascadeError(f"plan-gpus has to be run in a checkout of the project: there is no {SCRIPT} in {root}")
    return subprocess.run([sys.executable, root / SCRIPT, *arguments], check=False).returncode
