"""How the virtual environment is made, with and without ensurepip."""

from __future__ import annotations

from pathlib import Path

from environment import commands, missing_for_numpy

VENV = Path("var/venv")
LOCK = ["--require-hashes", "-r", "requirements.lock"]
EDITABLE = ["var/venv/bin/python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", "."]


def test_a_fresh_environment_is_made_filled_and_gets_the_project() -> None:
    assert commands("python3", VENV, None, keep=False) == [
        ["python3", "-m", "venv", "--clear", "var/venv"],
        ["var/venv/bin/python", "-m", "pip", "install", *LOCK],
        EDITABLE,
    ]


def test_an_environment_that_is_there_is_only_brought_up_to_date() -> None:
    assert commands("python3", VENV, None, keep=True) == [
        ["var/venv/bin/python", "-m", "pip", "install", "--quiet", *LOCK],
        EDITABLE,
    ]


def test_without_ensurepip_the_machine_s_pip_fills_the_environment() -> None:
    assert commands("python3", VENV, Path("/usr/lib/python3/dist-packages/pip"), keep=False) == [
        ["python3", "-m", "venv", "--clear", "--without-pip", "var/venv"],
        ["var/venv/bin/python", "/usr/lib/python3/dist-packages/pip", "install", "--ignore-installed", *LOCK],
        EDITABLE,
    ]


def test_what_building_numpy_needs_is_named(tmp_path: Path) -> None:
    header = tmp_path / "Python.h"
    assert missing_for_numpy(header, {"cc": "/bin/cc"}.get) == ["c++", str(header)]
    header.touch()
    assert missing_for_numpy(header, {"cc": "/bin/cc", "c++": "/bin/c++"}.get) == []
