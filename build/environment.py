"""The project's virtual environment: every locked dependency, hash by hash, and the project itself, editable.

Runs with the machine's own Python and the standard library alone:  python3 build/environment.py var/venv
--conversion adds torch and transformers to that environment, for converting and checking checkpoints.
--deploy adds the packages that read images and chart in the tests.
What pip says goes to var/log/environment.log.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / "var" / "log" / "environment.log"
_CLEAR_LINE = "\r\033[K"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def main(venv: Path) -> None:
    """Make or repair the environment. Exits with one sentence if this machine's Python cannot."""
    ensurepip = importlib.util.find_spec("ensurepip") is not None
    pip = importlib.util.find_spec("pip")
    machine_pip = Path(pip.origin).parent if pip and pip.origin else None
    if not ensurepip and machine_pip is None:
        sys.exit(f"error: {sys.executable} can make no virtual environment: run `apt-get install python{VERSION}-venv` as root.")
    keep = _usable(venv)
    if sys.version_info >= (3, 13) and not keep:
        missing = missing_for_numpy(Path(sysconfig.get_path("include")) / "Python.h", shutil.which)
        if missing:
            sys.exit(
                f"error: with Python 3.13 NumPy 1 is built from source, for which {' and '.join(missing)} are missing: "
                "run `apt-get install build-essential python3.13-dev` as root, or use make PYTHON=python3.12."
            )
        _say("Python 3.13: NumPy 1 is built from source, which takes some minutes.")
    what = f"Bringing {venv} up to date" if keep else f"Setting up {venv} with Python {VERSION}"
    failed = _run(what, commands(sys.executable, venv, None if ensurepip else machine_pip, keep))
    if failed:
        sys.exit(f"error: {failed}; run it again to go on.")


def add_conversion(venv: Path) -> None:
    """Add the extra `conversion`. Exits with one sentence if it cannot be had here."""
    failed = _run(f"Adding torch and transformers to {venv}", conversion_commands(venv))
    if failed:
        sys.exit(
            f"error: torch and transformers were not installed: {failed}; "
            "`make conversion` tries again, and until then the tests that need them are skipped (in CI they fail)."
        )


def add_deploy(venv: Path) -> None:
    """Add the dependency group `deploy`. Exits with one sentence if it cannot be had here."""
    failed = _run(f"Adding what reads images and chart to {venv}", [_install(venv, "requirements-deploy.lock")])
    if failed:
        sys.exit(f"error: {failed}; run it again to go on.")


def commands(python: str, venv: Path, machine_pip: Path | None, keep: bool) -> list[list[str]]:
    """What to run, in order. keep: an environment of this Python is there already.

    machine_pip: the folder of the pip package of a Python that lacks ensurepip (Debian without python3-venv): that pip
    then fills the environment, which gets its own pip from the lock.
    """
    inside = str(venv / "bin" / "python")
    create = [python, "-m", "venv", "--clear", *(["--without-pip"] if machine_pip else []), str(venv)]
    pip = [inside, str(machine_pip)] if machine_pip and not keep else [inside, "-m", "pip"]
    options = ["--ignore-installed"] if machine_pip and not keep else []
    return [
        *([] if keep else [create]),
        [*pip, "install", "--progress-bar=off", *options, "--require-hashes", "-r", "requirements.lock"],
        [inside, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--editable", "."],
    ]


def conversion_commands(venv: Path) -> list[list[str]]:
    """What to run, in order: all but torch from the second lock, then torch at the version that pyproject.toml pins.

    torch has no hash: the package index has one build, a machine whose pip is configured to find a CPU build gets that.
    """
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--progress-bar=off"]
    return [
        _install(venv, "requirements-conversion.lock"),
        [*pip, "--no-build-isolation", "--editable", ".[conversion]"],
    ]


def missing_for_numpy(header: Path, which: Callable[[str], str | None]) -> list[str]:
    """What building NumPy 1 needs and is not there. Triton's Python models need it; nobody offers it built for Python 3.13."""
    return [tool for tool in ("cc", "c++") if which(tool) is None] + ([] if header.exists() else [str(header)])


class PackageCount:
    """How far pip is with a lock, read from the lines that it prints.

    pins: the packages that the lock names, 0 without a lock. pip first names those that it ignores on this machine.
    """

    def __init__(self, pins: int) -> None:
        self.pins = pins
        self.packages = 0
        self.downloaded = 0.0
        self.installing = False

    def read(self, line: str) -> None:
        size = re.match(r"  Downloading .*\((\d+(?:\.\d+)?) (\w+)\)$", line)
        if line.startswith("Ignoring "):
            self.pins -= 1
        elif line.startswith(("Collecting ", "Processing ", "Requirement already satisfied: ")):
            self.packages += 1
        elif line.startswith("Installing collected packages: "):
            self.installing = True
        elif size:
            self.downloaded += float(size[1]) * {"bytes": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3}.get(size[2], 0)

    def __str__(self) -> str:
        if self.installing:
            return f"installing {self.packages} packages"
        of = f" of {self.pins}" if self.pins > 0 else ""
        return f"{self.packages}{of} packages" + (f", {self.downloaded:.0f} MB" if self.downloaded else "")


def pins(lock: str) -> int:
    """The packages that a lock names. lock: its text."""
    return len(re.findall(r"^[A-Za-z0-9._-]+==", lock, re.MULTILINE))


def failure(output: str) -> str:
    """Why pip failed, without a full stop. output: everything it said."""
    lines = output.strip().splitlines() or ["it said nothing"]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines)[-1].strip().rstrip(".")


def _install(venv: Path, lock: str) -> list[str]:
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--progress-bar=off"]
    return [*pip, "--no-deps", "--require-hashes", "-r", lock]  # the lock is whole, but for torch, which others need


def _run(what: str, argvs: Sequence[Sequence[str]]) -> str | None:
    """Run commands in order, with a line before and one after them. What went wrong, if something did."""
    started = time.monotonic()
    log = LOG.relative_to(ROOT)
    _say(f"{what} (log: {log}) …")
    counts = ""
    for argv in argvs:
        locks = [ROOT / argument for argument in argv if argument.endswith(".lock")]
        count = PackageCount(sum(pins(lock.read_text()) for lock in locks))
        code, output = _logged(argv, count)
        if code:
            return f"`{' '.join(argv)}` failed: {failure(output)} (log: {log})"
        counts = f"{count.packages} packages, " if locks else counts
    _say(f"… done: {counts}{time.monotonic() - started:.0f} s.")
    return None


def _logged(argv: Sequence[str], count: PackageCount) -> tuple[int, str]:
    """Run a command. On a terminal the count of its packages moves. Its exit code and what it said."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    said = []
    shown = ""
    with (
        LOG.open("a", buffering=1, encoding="utf-8") as log,
        subprocess.Popen(
            argv, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process,
    ):
        assert process.stdout
        log.write(f"$ {' '.join(argv)}\n")
        for line in process.stdout:
            said.append(line)
            log.write(line)
            count.read(line)
            if count.packages and str(count) != shown and sys.stderr.isatty():
                shown = str(count)
                print(f"{_CLEAR_LINE}  {shown}", end="", file=sys.stderr, flush=True)
    if shown:
        print(_CLEAR_LINE, end="", file=sys.stderr, flush=True)
    return process.returncode, "".join(said)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _usable(venv: Path) -> bool:
    """An environment of this very Python, with a pip that runs."""
    return _answers(
        [str(venv / "bin" / "python"), "-c", f"import sys, pip; assert sys.version_info[:2] == {sys.version_info[:2]}"]
    )


def _answers(argv: Sequence[str]) -> bool:
    try:
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


if __name__ == "__main__":
    {"--conversion": add_conversion, "--deploy": add_deploy}.get(sys.argv[-1], main)(Path(sys.argv[1]))
