"""How the virtual environment is made, with and without ensurepip."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from environment import ROOT, commands, conversion_commands, missing_for_numpy

from tests import conversion

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


def locked(name: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9.-]+==\S+(?: ; [^\\]+)?)", (ROOT / name).read_text(), re.MULTILINE))


def names(pins: set[str]) -> set[str]:
    return {pin.split("==")[0] for pin in pins}


def test_the_conversion_extra_is_locked_except_torch() -> None:
    assert conversion_commands(VENV) == [
        ["var/venv/bin/python", "-m", "pip", "install", "--quiet", "--require-hashes", "-r", "requirements-conversion.lock"],
        ["var/venv/bin/python", "-m", "pip", "install", "--quiet", "--no-build-isolation", "--editable", ".[conversion]"],
    ]
    there = names(locked("requirements-conversion.lock"))
    assert {"gguf", "safetensors", "tokenizers", "transformers"} <= there
    assert not [name for name in there if name == "torch" or name.startswith(("nvidia", "cuda", "triton-"))]
    assert re.search(r'^conversion = .*"torch==\d', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)


def test_set_up_and_the_conversion_extra_want_the_same_versions() -> None:
    first, second = locked("requirements.lock"), locked("requirements-conversion.lock")
    shared = names(first) & names(second)
    assert "numpy" in shared
    assert {pin for pin in first if names({pin}) <= shared} == {pin for pin in second if names({pin}) <= shared}


def test_tests_that_need_the_extra_are_skipped_without_it_but_fail_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "PACKAGES", ("json", "no_such_package"))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"^no_such_package not installed"):
        conversion.need_conversion()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"^no_such_package not installed"):
        conversion.need_conversion()
    monkeypatch.setattr(conversion, "PACKAGES", ("json",))
    conversion.need_conversion()
