"""What this machine can run and what is missing, in words. It downloads and changes nothing."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from codecascade.deployment import load_deployment
from codecascade.errors import CascadeError, DeploymentError
from codecascade.sandbox import SandboxPool, probe_levels
from codecascade.sandbox.modules import CLOSED
from codecascade.types import Verdict
from rich.text import Text

from codecascade_client.client import AsyncCascadeClient
from codecascade_client.errors import RequestFailed
from codecascade_client.settings import Settings
from codecascade_client.terminal import console, new_table

_PYTHONS = ((3, 10), (3, 13))
_GLIBC = (2, 35)
_MEMORY_GB = 4
_DISK_GB = 6
_IMPORT_CPU_S = 10.0


class State(Enum):
    OK = "ok"
    MISSING = "missing"  # the CPU deployment cannot run without it
    INFORMATION = "–"


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    state: State
    words: str


async def examine(settings: Settings, root: Path) -> bool:
    """Print every finding on stdout. True if the CPU deployment can run. root: a checkout of the project."""
    findings = [
        _machine(),
        _python(),
        _glibc(),
        _cores(),
        _memory(),
        _disk(root),
        _triton(root),
        *_weights(root),
        _llama_cpp(),
        await _sandbox(),
        await _sandbox_modules(root),
        _gpu(),
        await _server(settings),
    ]
    rows = new_table("", "what", "found")
    rows.columns[2].no_wrap = False
    for finding in findings:
        rows.add_row(finding.state.value, finding.what, Text(finding.words))
    missing = [finding.what for finding in findings if finding.state is State.MISSING]
    out = console(sys.stdout)
    out.print(rows)
    out.print(
        Text(f"The CPU deployment cannot run here: see {', '.join(missing)}." if missing else "The CPU deployment can run here.")
    )
    return not missing


def _needed(holds: bool, what: str, words: str, otherwise: str = "") -> Finding:
    return Finding(what, State.OK if holds else State.MISSING, words if holds or not otherwise else f"{words}; {otherwise}")


def _machine() -> Finding:
    holds = platform.system() == "Linux" and platform.machine() == "x86_64"
    return _needed(holds, "machine", f"{platform.system()} on {platform.machine()}", "Linux on x86_64 is needed")


def _python() -> Finding:
    low, high = _PYTHONS
    holds = low <= sys.version_info[:2] <= high
    return _needed(holds, "Python", platform.python_version(), "3.10 to 3.13 is needed")


def _glibc() -> Finding:
    name, version = platform.libc_ver()
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    return _needed(
        name == "glibc" and numbers >= _GLIBC,
        "C library",
        f"{name} {version}".strip() or "unknown",
        "glibc 2.35 or newer is needed",
    )


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0))
    return _needed(cores >= 1, "cores", f"{cores}" + ("" if cores >= 2 else ": it will be slow, 2 are advised"))


def _memory() -> Finding:
    limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    group = Path("/sys/fs/cgroup/memory.max")
    if group.exists() and (text := group.read_text().strip()).isdigit():
        limit = min(limit, int(text))
    return _needed(limit >= _MEMORY_GB * 0.95e9, "memory", f"{limit / 1e9:.1f} GB", f"{_MEMORY_GB} GB are needed")


def _disk(root: Path) -> Finding:
    free = shutil.disk_usage(root).free / 1e9
    if (root / "var").exists():
        return Finding("disk", State.INFORMATION, f"{free:.0f} GB free at {root}")
    return _needed(free >= _DISK_GB, "disk", f"{free:.0f} GB free at {root}", f"{_DISK_GB} GB are needed")


def _triton(root: Path) -> Finding:
    python = sysconfig.get_python_version()
    servers = sorted(root.glob(f"var/triton-*-python{python}/pytriton/tritonserver/bin/tritonserver"))
    if servers:
        return _needed(True, "Triton server", f"unpacked for Python {python} in {servers[-1].parents[3]}")
    return _needed(False, "Triton server", f"not unpacked for Python {python}", "`make setup` does it")


def _weights(root: Path) -> Iterator[Finding]:
    cache = Path(os.environ.get("CODECASCADE_CACHE") or root / "var" / "cache").expanduser()
    recipes = sorted(root.glob("build/families/*.toml"))
    if not recipes:
        yield _needed(False, "weights", f"no recipes in {root / 'build' / 'families'}", "run this in a checkout of the project")
    named = os.environ.get("CODECASCADE_WEIGHTS")
    folders = [*([Path(named).expanduser()] if named else []), cache / "weights"]
    for recipe in recipes:
        for tier in _toml(recipe)["tiers"]:
            if "llama_cpp" in tier:
                yield _weight_file(tier["name"], tier["llama_cpp"]["weights"], folders, cache / "checked")


def _weight_file(tier: str, weights: dict[str, Any], folders: list[Path], checked: Path) -> Finding:
    what = f"weights of {tier}"
    path = next((folder / weights["file"] for folder in folders if (folder / weights["file"]).exists()), None)
    if path is None:
        return _needed(False, what, f"{weights['file']} is not in {', '.join(map(str, folders))}", "`make setup` downloads it")
    size = path.stat().st_size
    if size != weights["bytes"]:
        return _needed(False, what, f"{path} has {size:,} bytes, not {weights['bytes']:,}", "remove it and run `make setup`")
    if _hash_is_known(path, checked / f"{weights['sha256']}.json"):
        return _needed(True, what, f"{path}, SHA-256 verified")
    return _needed(True, what, f"{path}, SHA-256 not verified yet: `make setup` does it before use")


def _hash_is_known(path: Path, note: Path) -> bool:
    """Whether this very file (size, time, inode) was hashed before, with the right hash."""
    try:
        noted = json.loads(note.read_text())
    except (OSError, ValueError):
        return False
    stat = path.stat()
    return bool(noted == {"path": str(path.resolve()), "bytes": stat.st_size, "inode": stat.st_ino, "mtime_ns": stat.st_mtime_ns})


def _toml(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _llama_cpp() -> Finding:
    what = "llama.cpp"
    if find_spec("xllamacpp") is None:
        return _needed(False, what, "xllamacpp is not installed: pip install 'codecascade[cpu]'")
    try:
        ctypes.CDLL("libgomp.so.1")  # the wheel needs it and does not bring it
    except OSError:
        return _needed(False, what, "libgomp.so.1 is missing: apt-get install libgomp1")
    return _needed(True, what, f"xllamacpp {version('xllamacpp')}")


async def _sandbox() -> Finding:
    try:
        levels = await probe_levels()
    except (CascadeError, OSError) as error:
        return _needed(False, "sandbox", str(error))
    words = "\n".join(str(level) for level in levels)
    return _needed(any(level.available for level in levels), "sandbox", words)


async def _sandbox_modules(root: Path) -> Finding:
    """What programs can import there: of the library, and of the packages that the deployments here list."""
    what = "sandbox modules"
    try:
        listed = _listed_modules(root)
    except DeploymentError as error:
        return _needed(False, what, str(error))
    failing = {name: why for name in listed if (why := await _import_failure(name))}
    words = [f"the standard library without {', '.join(sorted(CLOSED))}"]
    words.append(f"packages (sandbox_modules of the deployment): {', '.join(listed) or 'none'}")
    words += [f"{name} fails: {why}" for name, why in failing.items()]
    return _needed(not failing, what, "\n".join(words))


def _listed_modules(root: Path) -> list[str]:
    """Raises DeploymentError."""
    deployments = [load_deployment(file) for file in sorted(root.glob("var/model_repository/*.json"))]
    return list(dict.fromkeys(name for deployment in deployments for name in deployment.sandbox_modules))


async def _import_failure(module: str) -> str | None:
    """Why the sandbox does not offer a package, in words; None if it does."""
    try:
        async with SandboxPool(workers=1, modules=(module,)) as pool:
            verdict = await pool.run_program(f"import {module}", timeout_s=_IMPORT_CPU_S)
    except (CascadeError, OSError) as error:
        return str(error)
    return None if verdict is Verdict.PASS else f"its import ends in {verdict.name}"


def _gpu() -> Finding:
    lister = shutil.which("nvidia-smi")
    listed = subprocess.run([lister, "-L"], capture_output=True, text=True, timeout=30, check=False) if lister else None
    cards = listed.stdout.strip().splitlines() if listed and listed.returncode == 0 else []
    engine = "TensorRT-LLM is installed" if find_spec("tensorrt_llm") else "TensorRT-LLM is not installed"
    return Finding("GPU", State.INFORMATION, f"{'; '.join(cards) or 'none'}; {engine}; the CPU deployment needs neither")


async def _server(settings: Settings) -> Finding:
    try:
        async with AsyncCascadeClient.from_settings(settings) as client:
            models = (await client.health()).models
    except (RequestFailed, OSError) as error:
        return Finding("server", State.INFORMATION, f"{error} (`make serve` starts one)")
    states = ", ".join(f"{name} {'ready' if ready else 'not ready'}" for name, ready in sorted(models.items()))
    return Finding("server", State.INFORMATION, f"{settings.url}: {states}")
