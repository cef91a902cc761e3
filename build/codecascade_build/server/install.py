"""Unpacks the Triton server from its wheel. Nothing of the wheel is installed or imported."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import sys
import sysconfig
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from codecascade_build.errors import BuildError
from codecascade_build.fetch.failures import disk_errors

_SERVER = "pytriton/tritonserver"
_LIBRARIES = "nvidia_pytriton.libs"
_STUB = "triton_python_backend_stub"
_GLIBC = (2, 35)
# The wheel holds a libpython for these Pythons. For the others the stub needs this machine's.
_BUNDLED_LIBPYTHON = ("3.13",)


@dataclass(frozen=True, slots=True)
class TritonInstall:
    """An unpacked server for one Python version."""

    folder: Path

    @property
    def program(self) -> Path:
        return self.folder / _SERVER / "bin" / "tritonserver"

    @property
    def backends(self) -> Path:
        return self.folder / _SERVER / "backends"


def installed(version: str, var: Path, python: str) -> TritonInstall | None:
    """The server that was unpacked before, if it was."""
    folder = _folder(version, var, python)
    return TritonInstall(folder) if folder.exists() else None


def install(wheel: Path, version: str, var: Path, python: str) -> TritonInstall:
    """Unpack a verified wheel below `var`, all of it or nothing. Raises BuildError.

    python: the version of the Python models, as X.Y.
    """
    folder = _folder(version, var, python)
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    with disk_errors(folder):
        shutil.rmtree(unfinished, ignore_errors=True)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unfinished, members(archive.namelist(), python))
        server = unfinished / _SERVER
        stub = server / "backends" / "python" / _STUB
        shutil.move(server / "python_backend_stubs" / python / _STUB, stub)
        shutil.rmtree(server / "python_backend_stubs")
        for program in (stub, server / "bin" / "tritonserver"):
            program.chmod(0o755)
        unfinished.replace(folder)
    return TritonInstall(folder)


def _folder(version: str, var: Path, python: str) -> Path:
    return var / f"triton-{version}-python{python}"


def members(names: Iterable[str], python: str) -> list[str]:
    """The wheel's files that a server for this Python needs, and the licences. Raises BuildError if this Python has no stub."""
    stub = f"{_SERVER}/python_backend_stubs/{python}/{_STUB}"
    wanted = tuple(f"{_SERVER}/{part}/" for part in ("bin", "backends", "caches"))
    chosen = [name for name in names if name.startswith((*wanted, f"{_LIBRARIES}/")) or name == stub or "/licenses/" in name]
    if stub not in chosen:
        raise BuildError(f"The Triton server has no Python backend for Python {python}; use Python 3.10 to 3.13.")
    return chosen


def check_machine(machine: str = platform.machine(), libc: tuple[str, str] = platform.libc_ver()) -> None:
    """Raises BuildError if the server cannot run here. machine: as `uname -m` says. libc: its name and version."""
    name, version = libc
    numbers = tuple(int(part) for part in version.split(".") if part.isdigit())
    if machine != "x86_64" or name != "glibc" or numbers < _GLIBC:
        raise BuildError(
            f"The Triton server needs Linux on x86-64 with glibc {_GLIBC[0]}.{_GLIBC[1]} or newer (Debian 12, Ubuntu 22.04); "
            f"this is {machine} with {' '.join(filter(None, libc)) or 'no glibc'}."
        )


def check_openmp(library: str = "libgomp.so.1") -> None:
    """Raises BuildError if this machine lacks OpenMP, which llama.cpp's wheel does not hold."""
    try:
        ctypes.CDLL(library)
    except OSError as error:
        raise BuildError(
            f"llama.cpp needs {library}, which this machine lacks: run `apt-get install libgomp1` as root."
        ) from error


def python_library_dir(python: str = sysconfig.get_python_version()) -> Path | None:
    """The folder of the libpython that the stub loads, or None if the wheel holds it. Raises BuildError if it is missing."""
    if python in _BUNDLED_LIBPYTHON:
        return None
    library = f"libpython{python}.so.1.0"
    folders = (Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib"), Path(sys.base_prefix) / "lib")
    for folder in (*folders, *(folder / (sysconfig.get_config_var("MULTIARCH") or "") for folder in folders)):
        if (folder / library).exists():
            return folder
    raise BuildError(
        f"Triton needs {library}, which {sys.base_prefix} does not have: "
        f"run `apt-get install libpython{python}` as root, or use a Python built with --enable-shared."
    )
