"""The manifest beside an engine says what it was built for, and is checked against what this server can run.

For an engine of another version or GPU, TensorRT itself only says that it cannot be deserialized. An engine whose ranks do not
match the GPUs hangs. With the manifest a tier says what is wrong, before the engine is loaded.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from codecascade.errors import EngineError

FORMAT = 1
NAME = "codecascade.json"


@dataclass(frozen=True, slots=True)
class BuiltFile:
    """A file's size and SHA-256 when the engine was built."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Source:
    """Where the weights are from."""

    repository: str
    revision: str
    commit: str | None
    """What `revision` was at the download; None if the hub did not say."""
    files: Mapping[str, BuiltFile]


@dataclass(frozen=True, slots=True)
class EngineManifest:
    """What an engine was built for and from."""

    tier: str
    family: str
    gpu: str
    sm: int
    """Compute capability, 90 for 9.0."""
    tensorrt_llm: str
    tensorrt: str
    tensor_parallel: int
    dtype: str
    quantization: str
    limits: Mapping[str, int]
    """The most that the engine was built to take, by name."""
    source: Source
    files: Mapping[str, BuiltFile]
    """The engine's files, by name."""
    commands: Sequence[Sequence[str]]
    """The argvs that made the engine."""
    built: str
    """UTC, ISO 8601."""
    rebuild: str
    """The command for a person."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What an engine is to run on."""

    tensorrt_llm: str
    tensorrt: str
    sms: Sequence[int]
    """The compute capability of each GPU that the engine gets, in order."""


def check_engine(folder: Path, machine: Machine) -> EngineManifest:
    """The manifest of the engine in a folder. Raises EngineError if it cannot run on this machine."""
    manifest = read_manifest(folder)
    for package, built_with, installed in (
        ("TensorRT-LLM", manifest.tensorrt_llm, machine.tensorrt_llm),
        ("TensorRT", manifest.tensorrt, machine.tensorrt),
    ):
        if built_with != installed:
            raise EngineError(
                f"{_built(folder, manifest)} with {package} {built_with}, and this server has {installed}; {_again(manifest)}"
            )
    if len(machine.sms) != manifest.tensor_parallel:
        raise EngineError(
            f"{_built(folder, manifest)} for a group of {manifest.tensor_parallel} GPU(s), and it is given {len(machine.sms)}; "
            f"give it {manifest.tensor_parallel}, or change tensor_parallel in the recipe of {manifest.family} and "
            f"{_again(manifest)}"
        )
    other = [sm for sm in machine.sms if sm != manifest.sm]
    if other:
        raise EngineError(
            f"{_built(folder, manifest)} for {manifest.gpu} (SM {manifest.sm}), and it is given a GPU of SM {other[0]}; "
            f"{_again(manifest, this_kind=True)}"
        )
    for name, built in manifest.files.items():
        size = _size(folder / name)
        if size != built.bytes:
            state = "is missing" if size is None else f"has {size} bytes"
            raise EngineError(f"The engine file {folder / name} {state}, and {built.bytes} bytes were built; {_again(manifest)}")
    return manifest


def read_manifest(folder: Path) -> EngineManifest:
    """Raises EngineError if the manifest is missing or incomplete."""
    path = folder / NAME
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EngineError(f"{folder} has no {NAME}: it holds no engine that `make engines` finished; run it.") from error
    except (OSError, ValueError) as error:
        raise EngineError(f"The manifest {path} cannot be read ({error}); build the engine again with `make engines`.") from error
    try:
        return _parse(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise EngineError(f"The manifest {path} is invalid: {what}; build the engine again with `make engines`.") from error


def manifest_text(manifest: EngineManifest) -> str:
    """The content of the manifest's file."""
    return json.dumps({"format": FORMAT} | asdict(manifest), indent=2) + "\n"


def this_machine(gpu_device_ids: Sequence[int]) -> Machine:
    """What is installed here, and the GPUs with these ids. Raises EngineError naming what is missing."""
    sms = gpu_capabilities(_compute_caps(), gpu_device_ids)
    return Machine(tensorrt_llm=_version("tensorrt_llm"), tensorrt=_version("tensorrt"), sms=sms)


def gpu_capabilities(listing: str, gpu_device_ids: Sequence[int]) -> tuple[int, ...]:
    """The compute capabilities of some GPUs. listing: `index, 9.0` lines, as nvidia-smi prints them. Raises EngineError."""
    known = {
        int(line["id"]): int(line["major"]) * 10 + int(line["minor"])
        for line in re.finditer(r"^(?P<id>\d+), (?P<major>\d+)\.(?P<minor>\d)\s*$", listing, re.MULTILINE)
    }
    for gpu in gpu_device_ids:
        if gpu not in known:
            ids = f"it has {', '.join(map(str, known))}" if known else "nvidia-smi shows none"
            raise EngineError(f"This machine has no GPU with the id {gpu}; {ids}.")
    return tuple(known[gpu] for gpu in gpu_device_ids)


def _parse(data: Any) -> EngineManifest:
    if data["format"] != FORMAT:
        raise ValueError(f"its format is {data['format']!r}, this version reads format {FORMAT}")
    values = {field.name: data[field.name] for field in fields(EngineManifest)}
    source = values["source"]
    values["source"] = Source(source["repository"], source["revision"], source["commit"], _files(source["files"]))
    values["files"] = _files(values["files"])
    if not values["files"]:
        raise ValueError("it lists no file of the engine")
    for name in ("sm", "tensor_parallel"):
        if not isinstance(values[name], int):
            raise ValueError(f"{name} is {values[name]!r}, must be an integer")
    return EngineManifest(**values)


def _files(data: Any) -> dict[str, BuiltFile]:
    return {name: BuiltFile(int(file["bytes"]), str(file["sha256"])) for name, file in data.items()}


def _built(folder: Path, manifest: EngineManifest) -> str:
    return f"The engine of {manifest.tier} in {folder} was built"


def _again(manifest: EngineManifest, this_kind: bool = False) -> str:
    command = manifest.rebuild
    if this_kind:
        command = re.sub(r"\bGPU=\S+", "GPU=<this machine's kind>", command)
    return f"build it on this machine: {command}"


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _version(package: str) -> str:
    try:
        return metadata.version(package).partition(".post")[0]
    except metadata.PackageNotFoundError as error:
        raise EngineError(f"{package} is not installed here; engines run in the TensorRT-LLM image alone.") from error


def _compute_caps() -> str:
    try:
        command = ["nvidia-smi", "--query-gpu=index,compute_cap", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise EngineError(f"nvidia-smi does not say which GPUs this machine has: {error}.") from error
