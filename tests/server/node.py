"""Programs that are not ours, and packages for Node.js that they need."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent / "clients"


def run(argv: list[Any], folder: Path, **environ: str) -> str:
    """What a program says on stdout."""
    base = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "CODECASCADE", "OPENAI"))}
    done = subprocess.run(argv, cwd=folder, env={**base, **environ}, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def install_packages(folder: Path, program: str) -> None:
    """Put a program of tests/server/clients into the folder, with the packages that it needs. Skips without Node.js."""
    if shutil.which("npm") is None:
        pytest.skip("this machine has no Node.js")
    for name in (program, "package.json", "package-lock.json"):
        shutil.copy(HERE / name, folder)
    run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], folder)
