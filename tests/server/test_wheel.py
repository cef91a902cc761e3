"""The built wheel alone, in a fresh environment with the newest NumPy: what an integrator installs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from codecascade_build.paths import PLANS, ROOT
from codecascade_build.server.process import RunningServer

pytestmark = pytest.mark.triton

PROMPT = 'def add(a, b):\n    """The sum of a and b."""\n'
PROGRAM = """
import asyncio, json, sys
import numpy
from codecascade_client import AsyncCascadeClient, Settings

async def main(url, prompt):
    async with AsyncCascadeClient.from_settings(Settings(url=url)) as client:
        done = await client.complete(prompt, seed=2**63, return_trace=True)
        print(json.dumps({"numpy": numpy.__version__, "text": done.text, "tier": done.tier, "steps": len(done.trace["steps"])}))

asyncio.run(main(*sys.argv[1:]))
"""


def run(argv: Sequence[str | Path], folder: Path) -> str:
    """What a program says on stdout, run in `folder`, away from the sources."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "CODECASCADE"))}
    done = subprocess.run(argv, cwd=folder, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT], folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel, what it depends on, and NumPy 2. Its programs are in bin/."""
    folder = tmp_path_factory.mktemp("environment")
    run([sys.executable, "-m", "venv", "--without-pip", folder], folder)
    install(folder, wheel, "numpy>=2")
    return folder


def install(environment: Path, *what: str | Path) -> None:
    python = environment / "bin" / "python"
    run([sys.executable, "-m", "pip", "--python", python, "install", "--only-binary=:all:", *what], environment)


def test_the_wheel_holds_both_packages_and_the_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = [archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA")]
    assert {"codecascade/py.typed", "codecascade_client/py.typed"} <= set(names)
    assert [name for name in names if name.endswith("licenses/LICENSE")]
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"codecascade", "codecascade_client"}
    assert "License-Expression: Apache-2.0\n" in metadata
    assert "Requires-Python: >=3.10\n" in metadata
    assert "Requires-Dist: numpy\n" in metadata


def test_the_client_of_the_wheel_calls_a_server(environment: Path, scripted_server: RunningServer) -> None:
    answer = json.loads(run([environment / "bin" / "python", "-c", PROGRAM, scripted_server.grpc, PROMPT], environment))
    assert answer["numpy"].startswith("2.")
    assert answer["text"].startswith(PROMPT)
    assert (answer["tier"], answer["steps"]) == ("small", 1)


def test_the_command_line_of_the_wheel_calls_a_server(environment: Path, scripted_server: RunningServer) -> None:
    (environment / "add.py").write_text(PROMPT)
    said = run(
        [environment / "bin" / "codecascade", "complete", "--url", scripted_server.grpc, "--prompt-file", "add.py"], environment
    )
    assert said.startswith(PROMPT)


def test_the_extra_offline_works_with_numpy_2(environment: Path, wheel: Path) -> None:
    recording = PLANS / "recordings" / "qwen2.5-coder"
    codecascade = environment / "bin" / "codecascade"
    install(environment, f"{wheel}[offline]", "numpy>=2")
    run([codecascade, "search", recording, "--out", "plans.json"], environment)
    run([codecascade, "report", recording, "--out", "report"], environment)
    assert json.loads((environment / "plans.json").read_text())["family"] == "qwen2.5-coder"
