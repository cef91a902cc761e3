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
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checksum import sha256_of
from engine_steps import IMAGE, MANIFEST, Places, Step, relative
from errors import BuildError
from gpus import MIB, Gpu
from paths import ROOT, VAR
from progress import Progress
from trtllm_contract import VERSION

LOGS = VAR / "log" / "engines"
_FULL_BYTES = 64 * MIB
_LOADABLE = 0.9  # of the GPUs' memory; the rest is for activations
_TAIL_BYTES = 20_000
_PACKAGES = ("tensorrt_llm", "tensorrt", "torch", "transformers", "nvidia-modelopt")
_MODULES = ("tensorrt_llm", "torch", "transformers", "safetensors", "typer", "rich")
_PROBE = f"""
import importlib.metadata, importlib.util, json
versions = {{}}
for package in {_PACKAGES!r}:
    try:
        versions[package] = importlib.metadata.version(package).partition(".post")[0]
    except importlib.metadata.PackageNotFoundError:
        pass
missing = [module for module in {_MODULES!r} if importlib.util.find_spec(module) is None]
print(json.dumps({{"versions": versions, "missing": missing}}))
"""


@dataclass(frozen=True, slots=True)
class Toolchain:
    """What runs the steps. versions: of the image's packages, by name. sm: of the GPUs. gpu_bytes: memory of all of them."""

    versions: Mapping[str, str]
    sm: int
    gpu_bytes: int

    def of(self, step: Step) -> dict[str, Any]:
        """What of it a step's outputs depend on."""
        if step.where == "here":
            return {}
        return {**self.versions, **({"sm": self.sm} if step.where == "gpu" else {})}


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


def toolchain(gpu: Gpu, places: Places, run: Callable[[Sequence[str]], str] | None = None) -> Toolchain:
    """What this machine has to build with. Raises BuildError if that is not the pinned image with that kind of GPU.

    run: runs a command and returns its output.
    """
    run = run or _output
    dry = "`make engines DRY_RUN=1` prints the commands without running them"
    try:
        found = json.loads(run([places.python, "-c", _PROBE]))
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise BuildError(f"{places.python} does not run ({error}); {dry}.") from error
    if "tensorrt_llm" in found["missing"]:
        raise BuildError(
            f"{places.python} cannot import tensorrt_llm: engines are built inside the image {IMAGE} or one made from it; {dry}."
        )
    if found["missing"]:
        raise BuildError(
            f"{places.python} cannot import {', '.join(found['missing'])}, which build steps need: use the image of "
            "build/images/Dockerfile.tensorrt_llm, which has them."
        )
    version = found["versions"].get("tensorrt_llm")
    if version != VERSION:
        raise BuildError(f"TensorRT-LLM {version} is installed here, and the recipes are for {VERSION}: use the image {IMAGE}.")
    try:
        listing = run(["nvidia-smi", "--query-gpu=compute_cap,memory.total", "--format=csv,noheader,nounits"])
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(f"nvidia-smi shows no GPU here ({error}); engines are built on the GPU they run on; {dry}.") from error
    gpus = re.findall(r"^\s*(\d+)\.(\d), (\d+)\s*$", listing, re.MULTILINE)
    sms = [int(major) * 10 + int(minor) for major, minor, _ in gpus]
    if set(sms) != {gpu.sm}:
        has = f"have SM {', '.join(map(str, sms))}" if sms else "are none"
        raise BuildError(
            f"GPU={gpu.name} is {gpu.title} (SM {gpu.sm}), and the GPUs here {has}; "
            f"engines are built on the kind of GPU that they run on; {dry}."
        )
    return Toolchain(found["versions"], gpu.sm, sum(int(mib) for _, _, mib in gpus) * MIB)


def count_gpus() -> int:
    """The GPUs of this machine. Raises BuildError if there are none to be seen."""
    try:
        return len(_output(["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]).split())
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(f"nvidia-smi shows no GPU here ({error}); say how many the server has: GPUS=…") from error


def check_quantizer(steps: Sequence[Step], places: Places, tools: Toolchain) -> None:
    """Raises BuildError if a step needs ModelOpt's script and it is not where it should be, or more memory than there is."""
    for step in steps:
        if step.gpu_bytes > tools.gpu_bytes * _LOADABLE:
            raise BuildError(
                f"The {step} loads {step.gpu_bytes / 1e9:,.0f} GB of weights before it makes them small, and the GPUs here have "
                f"{tools.gpu_bytes / 1e9:,.0f} GB together; run it on a machine with more GPUs of this kind."
            )
    if any(step.name == "quantize" for step in steps) and not places.quantize.is_file():
        other = "/app/tensorrt_llm/examples/quantization/quantize.py"
        raise BuildError(f"{places.quantize} is not there; name it with QUANTIZE=… (some images have {other}).")


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


def _output(argv: Sequence[str]) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout
