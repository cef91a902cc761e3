"""Downloads the pinned Triton server into the cache and unpacks it into var/."""

from __future__ import annotations

import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from codecascade_build.errors import BuildError
from codecascade_build.fetch.failures import SourceFailed, disk_errors
from codecascade_build.fetch.package_index import Wheel, download_wheel
from codecascade_build.fetch.sources import Sources
from codecascade_build.paths import ROOT, VAR
from codecascade_build.progress import megabytes
from codecascade_build.server.install import TritonInstall, install, installed

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True, slots=True)
class TritonRelease:
    """The wheel that holds the server. file: its name. sha256: in hex."""

    package: str
    version: str
    file: str
    bytes: int
    sha256: str


def pinned() -> TritonRelease:
    return TritonRelease(**tomllib.loads((ROOT / "build" / "triton.toml").read_text(encoding="utf-8")))


def triton(sources: Sources, release: TritonRelease, var: Path = VAR) -> TritonInstall:
    """The server, ready to start. Needs no network once it is unpacked. Raises BuildError."""
    python = sysconfig.get_python_version()
    return installed(release.version, var, python) or install(wheel(sources, release), release.version, var, python)


def wheel(sources: Sources, release: TritonRelease) -> Path:
    """The verified wheel, from the cache or the package index. Raises BuildError."""
    path = sources.cache / "wheels" / release.file
    try:
        if not path.exists():
            with (
                disk_errors(path),
                sources.lock(release.file),
                sources.progress.step(
                    f"Downloading the Triton server, {release.file} ({megabytes(release.bytes)}) from the package index"
                ),
                sources.progress.of("so far", release.bytes) as report,
            ):
                package = Wheel(release.package, release.version, release.sha256)
                download_wheel(package, path.parent, sources.pip_log, report)
    except SourceFailed as reason:
        raise BuildError(
            f"The Triton server could not be downloaded from the package index: {reason}; "
            f"put {release.file} (SHA-256 {release.sha256}) into {path.parent} by hand and run this again."
        ) from reason
    return sources.verified(path, release.sha256)
