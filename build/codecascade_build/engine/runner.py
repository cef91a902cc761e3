"""Runs the steps of an engine build: a finished step does not run again, a killed one begins again.

A step is finished when each output has a stamp with the key of what would run now (command, contents of the inputs, versions of
the tools) and the files that the stamp lists. Stamps are written last, so a killed step has none.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codecascade_build.engine.steps import MANIFEST, Step, relative
from codecascade_build.engine.toolchain import Toolchain
from codecascade_build.errors import BuildError
from codecascade_build.fetch.checksum import sha256_of
from codecascade_build.gpus import MIB
from codecascade_build.paths import ROOT, VAR
from codecascade_build.progress import Progress

LOGS = VAR / "log" / "engines"
_FULL_BYTES = 64 * MIB
_TAIL_BYTES = 20_000


@dataclass(frozen=True, slots=True)
class StoredFile:
    bytes: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs steps with one toolchain."""

    toolchain: Toolchain
    progress: Progress
    logs: Path = LOGS
    """The folder of the steps' outputs, a file each."""

    def run(self, steps: Sequence[Step]) -> None:
        """Raises BuildError, in one sentence with the log's path, when a step fails."""
        for number, step in enumerate(steps, start=1):
            self._run(step, f"{number} of {len(steps)}", steps[number:])

    def _run(self, step: Step, place: str, later: Sequence[Step]) -> None:
        key = self._key(step)
        if step.outputs and all(_is_whole(path, key) for path in step.outputs):
            self.progress.say(f"{place}: {step} is done.")
            return
        log = self.logs / f"{step.tier}-{step.name}.log"
        self.progress.say(f"{place}: {step} (log: {relative(log)}) …")
        _forget(step, later)
        _execute(step, log)
        for path in step.outputs:
            if not path.exists():
                raise BuildError(f"The {step} ended well, but {relative(path)} is not there; its log is {log}.")
        for path in step.outputs:
            _write_stamp(path, key, step.argv)

    def _key(self, step: Step) -> str:
        inputs = {relative(path): {name: file.sha256 for name, file in contents(path).items()} for path in step.inputs}
        what = {"argv": step.argv, "inputs": inputs, "versions": self.toolchain.of(step)}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def contents(path: Path) -> dict[str, StoredFile]:
    """The files of a folder by name, or the file itself. Hashes only what changed since the stamp. Raises BuildError for none.

    The notes of the hub's client are no part of a checkpoint.
    """
    known = _stamp(path).get("files", {})
    files = {path.name: path} if path.is_file() else {str(file.relative_to(path)): file for file in sorted(path.rglob("*"))}
    stored = {}
    for name, file in files.items():
        if file.is_file() and not name.startswith(".cache/"):
            stat = file.stat()
            *same, sha256 = known.get(name, [None])
            if same != [stat.st_size, stat.st_mtime_ns]:
                sha256 = sha256_of(file)
            stored[name] = StoredFile(stat.st_size, stat.st_mtime_ns, sha256)
    if not stored:
        raise BuildError(f"{path} is not there or is empty; run `make engines` again.")
    return stored


def stamp_path(output: Path) -> Path:
    """Beside the output, so that an engine's folder holds nothing foreign."""
    return output.with_name(f".{output.name}.stamp.json")


def check_disk(steps: Sequence[Step], free: Callable[[Path], int] | None = None) -> None:
    """Raises BuildError if the outputs that are not there yet would not fit. free: bytes left where a path is or will be."""
    needed: dict[int, int] = {}
    folders: dict[int, Path] = {}
    for step in steps:
        if step.outputs and not all(path.exists() for path in step.outputs):
            folder = _existing(step.outputs[0])
            disk = folder.stat().st_dev
            needed[disk] = needed.get(disk, 0) + step.bytes
            folders.setdefault(disk, folder)
    for disk, folder in folders.items():
        left = (free or (lambda path: shutil.disk_usage(path).free))(folder)
        if needed[disk] > left:
            raise BuildError(
                f"About {needed[disk] / 1e9:,.0f} GB are needed on the disk of {folder}, and {left / 1e9:,.0f} GB are free; "
                "make room, build some tiers only (TIER=…), or set CODECASCADE_CACHE to a larger disk."
            )


@contextlib.contextmanager
def exclusively(folder: Path) -> Iterator[None]:
    """One build at a time. Raises BuildError if another one is under way."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BuildError(f"Another `make engines` is building in {folder}; wait for it.") from error
        yield


def _execute(step: Step, log: Path) -> None:
    """Runs a command to its end, its output into the log. Ends the command if the build is ended."""
    log.parent.mkdir(parents=True, exist_ok=True)
    for path in step.outputs:
        path.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as output:
        output.write(f"$ {shlex.join(step.argv)}\n")
        output.flush()
        try:
            process = subprocess.Popen(
                step.argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        except OSError as error:
            raise BuildError(f"The {step} could not start: {step.argv[0]}: {error.strerror}.") from error
        try:
            code = process.wait()
        except BaseException:
            _kill(process)
            raise
    if code:
        raise BuildError(_failure(step, code, log))


def _failure(step: Step, code: int, log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    place = _existing(step.outputs[0]) if step.outputs else ROOT
    if any("No space left on device" in line for line in lines) or shutil.disk_usage(place).free < _FULL_BYTES:
        return f"The {step} stopped because the disk of {place} is full; make room and run it again; its log is {log}."
    if code < 0:
        ended = f"was killed by {signal.Signals(-code).name}"
        memory = ", which a machine without memory left does" if code == -signal.SIGKILL else ""
        return f"The {step} {ended}{memory}; its log is {log}."
    said = f" ({lines[-1][:200].rstrip('.')})" if len(lines) > 1 else ""
    return f"The {step} failed with exit code {code}{said}; its log is {log}."


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _forget(step: Step, later: Sequence[Step]) -> None:
    """Removes the outputs of a step, and the manifests of all that is made from them, so that no server loads a part."""
    gone = set(step.outputs)
    for path in step.outputs:
        stamp_path(path).unlink(missing_ok=True)
        if not step.resumes:
            _remove(path)
    for other in later:
        if gone.intersection(other.inputs):
            gone.update(other.outputs)
            for path in other.outputs:
                if path.name == MANIFEST:
                    _remove(path)


def _write_stamp(path: Path, key: str, argv: Sequence[str]) -> None:
    files = {name: [file.bytes, file.mtime_ns, file.sha256] for name, file in contents(path).items()}
    unfinished = stamp_path(path).with_suffix(".partial")
    unfinished.write_text(json.dumps({"key": key, "argv": argv, "files": files}, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(stamp_path(path))


def _stamp(path: Path) -> dict[str, Any]:
    """An output's stamp; empty if there is none that can be read."""
    try:
        stamp = json.loads(stamp_path(path).read_text(encoding="utf-8"))
        return stamp if all(len(file) == 3 for file in stamp["files"].values()) else {}
    except (AttributeError, LookupError, OSError, TypeError, ValueError):
        return {}


def _is_whole(path: Path, key: str) -> bool:
    """Whether an output's stamp has this key, and the output holds what it did when the stamp was written."""
    stamp = _stamp(path)
    if stamp.get("key") != key:
        return False
    with contextlib.suppress(BuildError):  # nothing is there
        files = {name: file.sha256 for name, file in contents(path).items()}
        return files == {name: sha256 for name, (_, _, sha256) in stamp["files"].items()}
    return False


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return path if path.exists() else _existing(path.parent)
