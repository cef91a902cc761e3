"""How the virtual environment is made, with and without ensurepip."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from environment import ROOT, PackageCount, commands, conversion_commands, failure, missing_for_numpy, pins

from tests import conversion

VENV = Path("var/venv")
LOCK = ["--require-hashes", "-r", "requirements.lock"]
EDITABLE = ["var/venv/bin/python", "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--editable", "."]


def test_a_fresh_environment_is_made_filled_and_gets_the_project() -> None:
    assert commands("python3", VENV, None, keep=False) == [
        ["python3", "-m", "venv", "--clear", "var/venv"],
        ["var/venv/bin/python", "-m", "pip", "install", "--progress-bar=off", *LOCK],
        EDITABLE,
    ]


def test_an_environment_that_is_there_is_only_brought_up_to_date() -> None:
    assert commands("python3", VENV, None, keep=True) == [
        ["var/venv/bin/python", "-m", "pip", "install", "--progress-bar=off", *LOCK],
        EDITABLE,
    ]


def test_without_ensurepip_the_machine_s_pip_fills_the_environment() -> None:
    assert commands("python3", VENV, Path("/usr/lib/python3/dist-packages/pip"), keep=False) == [
        ["python3", "-m", "venv", "--clear", "--without-pip", "var/venv"],
        [
            "var/venv/bin/python",
            "/usr/lib/python3/dist-packages/pip",
            "install",
            "--progress-bar=off",
            "--ignore-installed",
            *LOCK,
        ],
        EDITABLE,
    ]


def test_what_building_numpy_needs_is_named(tmp_path: Path) -> None:
    header = tmp_path / "Python.h"
    assert missing_for_numpy(header, {"cc": "/bin/cc"}.get) == ["c++", str(header)]
    header.touch()
    assert missing_for_numpy(header, {"cc": "/bin/cc", "c++": "/bin/c++"}.get) == []


PIP_SAYS = [
    "Ignoring annotated-doc: markers 'python_full_version < \"3.11\"' don't match your environment",
    "Looking in indexes: https://an.index/simple",
    "Collecting certifi==2026.1 (from -r requirements.lock (line 4))",
    "  Downloading certifi-2026.1-py3-none-any.whl (153 kB)",
    "WARNING: Location 'file:///somewhere' is ignored: it is neither a file nor a directory.",
    "Collecting numpy==1.26.4 (from -r requirements.lock (line 9))",
    "  Downloading numpy-1.26.4-cp311-cp311-manylinux_2_17_x86_64.whl (18.3 MB)",
    "Requirement already satisfied: pip==26.3 in ./var/venv (from -r requirements.lock (line 20)) (26.3)",
]


def test_the_packages_that_pip_speaks_of_are_counted() -> None:
    count = PackageCount(5)
    for line in PIP_SAYS:
        count.read(line)
    assert str(count) == "3 of 4 packages, 18 MB"
    count.read("Installing collected packages: certifi, numpy")
    assert str(count) == "installing 3 packages"


def test_without_a_lock_nobody_knows_how_many_packages_there_will_be() -> None:
    count = PackageCount(0)
    count.read("Collecting torch==2.13.0 (from codecascade)")
    assert str(count) == "1 packages"


def test_a_lock_s_packages_are_counted() -> None:
    assert pins("a==1 ; python_full_version < '3.11' \\\n    --hash=sha256:00\n    # via b\nb-c==2 \\\n") == 2


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "Collecting a==1\nERROR: No version of a\nERROR: No matching distribution found for a==1\n",
            "No matching distribution found for a==1",
        ),
        ("Traceback\nOSError: full.\n\n", "OSError: full"),
        ("", "it said nothing"),
    ],
    ids=["pip", "python", "nothing"],
)
def test_pip_s_last_error_says_why_it_failed(said: str, reason: str) -> None:
    assert failure(said) == reason


def locked(name: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9.-]+==\S+(?: ; [^\\]+)?)", (ROOT / name).read_text(), re.MULTILINE))


def names(pins: set[str]) -> set[str]:
    return {pin.split("==")[0] for pin in pins}


def test_the_conversion_extra_is_locked_except_torch() -> None:
    assert conversion_commands(VENV) == [
        [
            "var/venv/bin/python",
            "-m",
            "pip",
            "install",
            "--progress-bar=off",
            "--no-deps",
            "--require-hashes",
            "-r",
            "requirements-conversion.lock",
        ],
        [
            "var/venv/bin/python",
            "-m",
            "pip",
            "install",
            "--progress-bar=off",
            "--no-build-isolation",
            "--editable",
            ".[conversion]",
        ],
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
