"""The project's virtual environment: every locked dependency, hash by hash, and the project itself, editable.

Runs with the machine's own Python and nothing but the standard library:  python3 build/environment.py var/venv
With --conversion it adds torch and transformers to the environment that is there, for converting and checking checkpoints.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(venv: Path) -> None:
    """Make or repair the environment. Exits with one sentence if this machine's Python cannot."""
    ensurepip = importlib.util.find_spec("ensurepip") is not None
    pip = importlib.util.find_spec("pip")
    machine_pip = Path(pip.origin).parent if pip and pip.origin else None
    if not ensurepip and machine_pip is None:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        sys.exit(f"error: {sys.executable} can make no virtual environment: run `apt-get install {version}-venv` as root.")
    if sys.version_info >= (3, 13) and not _usable(venv):
        missing = missing_for_numpy(Path(sysconfig.get_path("include")) / "Python.h", shutil.which)
        if missing:
            sys.exit(
                f"error: with Python 3.13 NumPy 1 is built from source, for which {' and '.join(missing)} are missing: "
                "run `apt-get install build-essential python3.13-dev` as root, or use make PYTHON=python3.12."
            )
        print("Python 3.13: NumPy 1 is built from source, which takes some minutes …", file=sys.stderr)
    failed = _run(commands(sys.executable, venv, None if ensurepip else machine_pip, keep=_usable(venv)))
    if failed:
        sys.exit(f"error: set-up stopped at `{failed}`, see above; run it again to go on.")


def add_conversion(venv: Path) -> None:
    """Add the extra `conversion`. Exits with one sentence if it cannot be had here."""
    failed = _run(conversion_commands(venv))
    if failed:
        sys.exit(
            f"error: torch and transformers were not installed: `{failed}` failed, see above; "
            "`make conversion` tries again, and until then the tests that need them are skipped (in CI they fail)."
        )


def commands(python: str, venv: Path, machine_pip: Path | None, keep: bool) -> list[list[str]]:
    """What to run, in order. keep: an environment of this Python is there already.

    machine_pip: the folder of the pip package of a Python that lacks ensurepip (Debian without python3-venv): that pip
    then fills the environment, which gets its own pip from the lock.
    """
    inside = str(venv / "bin" / "python")
    create = [python, "-m", "venv", "--clear", *(["--without-pip"] if machine_pip else []), str(venv)]
    pip = [inside, str(machine_pip)] if machine_pip and not keep else [inside, "-m", "pip"]
    options = ["--quiet"] if keep else ["--ignore-installed"] if machine_pip else []
    return [
        *([] if keep else [create]),
        [*pip, "install", *options, "--require-hashes", "-r", "requirements.lock"],
        [inside, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", "."],
    ]


def conversion_commands(venv: Path) -> list[list[str]]:
    """What to run, in order: all but torch from the second lock, then torch at the version that pyproject.toml pins.

    torch has no hash: the package index has one build, a machine whose pip is configured to find a CPU build gets that.
    """
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    return [
        [*pip, "--require-hashes", "-r", "requirements-conversion.lock"],
        [*pip, "--no-build-isolation", "--editable", ".[conversion]"],
    ]


def missing_for_numpy(header: Path, which: Callable[[str], str | None]) -> list[str]:
    """What building NumPy 1 needs and is not there. Triton's Python models need it; nobody offers it built for Python 3.13."""
    return [tool for tool in ("cc", "c++") if which(tool) is None] + ([] if header.exists() else [str(header)])


def _run(argvs: Sequence[Sequence[str]]) -> str | None:
    """Run commands in order. The first one that failed, if one did."""
    for argv in argvs:
        if subprocess.run(argv, cwd=ROOT, stdout=sys.stderr, check=False).returncode:
            return " ".join(argv)
    return None


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
    (add_conversion if "--conversion" in sys.argv[2:] else main)(Path(sys.argv[1]))
