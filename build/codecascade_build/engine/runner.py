"""Runs the steps of an engine build: what is done is not done again, what was killed is begun again.

A step is done when its stamp has the key of what would be run now (command, contents of what it reads, versions of what runs it)
and its outputs are those that the stamp lists. The stamp is written last, so a killed step has none.
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
    """logs: where each step's output goes."""

    toolchain: Toolchain
    progress: Progress
    logs: Path = LOGS

    def run(self, steps: Sequence[Step]) -> None:
        """Raises BuildError, in one sentence with the log's path, when a step fails."""
        for number, step in enumerate(steps, start=1):
            self._run(step, f"{number} of {len(steps)}", steps[number:])

    def _run(self, step: Step, place: str, later: Sequence[Step]) -> None:
        key = self._key(step)
        if step.outputs and done(step, key):
            self.progress.say(f"{place}: {step} is done.")
            return
        log = self.logs / f"{step.tier}-{step.name}.log"
        self.progress.say(f"{place}: {step} (log: {relative(log)}) …")
        _forget(step, later)
        _execute(step, log)
        absent = [path for path in step.outputs if not path.exists()]
        if absent:
            raise BuildError(f"The {step} ended well, but {relative(absent[0])} is not there; its log is {log}.")
        if step.outputs:
            _write_stamp(step, key)

    def _key(self, step: Step) -> str:
        inputs = {relative(path): digest(path) for path in step.inputs}
        what = {"argv": step.argv, "inputs": inputs, "versions": self.toolchain.of(step)}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def done(step: Step, key: str) -> bool:
    """Its stamp has this key, and its outputs are as they were when it was written."""
    stamp = _read(stamp_path(step.outputs[0]))
    if stamp is None or stamp.get("key") != key:
        return False
    return all(_read(stamp_path(path)) is not None and _unchanged(path) for path in step.outputs)


def digest(path: Path) -> str:
    """The hash of what a file or folder holds. Taken from its stamp where it has one and has not changed since."""
    listing = {name: file.sha256 for name, file in contents(path).items()}
    return hashlib.sha256(json.dumps(listing, sort_keys=True).encode()).hexdigest()


def contents(path: Path) -> dict[str, StoredFile]:
    """File by file, by name inside the folder; a file is its own one. Raises BuildError if there is nothing."""
    known = _stamped(path)
    found = {}
    for name, file in _files(path).items():
        stat = file.stat()
        before = known.get(name)
        same = before is not None and (before.bytes, before.mtime_ns) == (stat.st_size, stat.st_mtime_ns)
        sha256 = before.sha256 if before is not None and same else sha256_of(file)
        found[name] = StoredFile(stat.st_size, stat.st_mtime_ns, sha256)
    if not found:
        raise BuildError(f"{path} is not there or is empty; run `make engines` again.")
    return found


def stamp_path(output: Path) -> Path:
    """Beside what it is about, so that nothing foreign is in an engine's folder but what is named."""
    return output.with_name(f".{output.name}.stamp.json")


def check_disk(steps: Sequence[Step], free: Callable[[Path], int] | None = None) -> None:
    """Raises BuildError if the outputs that are not there yet would not fit. free: bytes left where a path is or will be."""
    needed: dict[int, int] = {}
    example: dict[int, Path] = {}
    for step in steps:
        if step.outputs and not all(path.exists() for path in step.outputs):
            there = _existing(step.outputs[0])
            device = there.stat().st_dev
            needed[device] = needed.get(device, 0) + step.bytes
            example.setdefault(device, there)
    for device, total in needed.items():
        left = (free or (lambda path: shutil.disk_usage(path).free))(example[device])
        if total > left:
            raise BuildError(
                f"About {total / 1e9:,.0f} GB are needed on the disk of {example[device]}, and {left / 1e9:,.0f} GB are free; "
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
    """Runs a command to its end, its output into the log. A killed build takes its command with it."""
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
    """Removes what a step is about to make, and the manifests of what is made of it: until it is whole, no server takes it."""
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


def _write_stamp(step: Step, key: str) -> None:
    for path in reversed(step.outputs):  # the first output's counts, and comes last
        files = {name: [file.bytes, file.mtime_ns, file.sha256] for name, file in contents(path).items()}
        unfinished = stamp_path(path).with_suffix(".partial")
        unfinished.write_text(json.dumps({"key": key, "argv": step.argv, "files": files}, indent=2) + "\n", encoding="utf-8")
        unfinished.replace(stamp_path(path))


def _unchanged(path: Path) -> bool:
    known = _stamped(path)
    try:
        found = contents(path)
    except BuildError:
        return False
    return {name: file.sha256 for name, file in known.items()} == {name: file.sha256 for name, file in found.items()}


def _stamped(path: Path) -> dict[str, StoredFile]:
    stamp = _read(stamp_path(path)) or {}
    try:
        return {name: StoredFile(*file) for name, file in stamp.get("files", {}).items()}
    except (AttributeError, TypeError):
        return {}


def _files(path: Path) -> dict[str, Path]:
    """Name inside the folder → file. What the hub's client notes for itself is no part of a checkpoint."""
    if path.is_file():
        return {path.name: path}
    files = {str(file.relative_to(path)): file for file in sorted(path.rglob("*")) if file.is_file()}
    return {name: file for name, file in files.items() if not name.startswith(".cache/")}


def _read(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return path if path.exists() else _existing(path.parent)
