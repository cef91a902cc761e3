"""The pinned Triton server: from the package index into the cache, from there into var/."""

from __future__ import annotations

import dataclasses
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from codecascade_build.errors import BuildError
from codecascade_build.fetch.download import SourceFailed
from codecascade_build.fetch.package_index import find_wheels
from codecascade_build.fetch.sources import Sources
from codecascade_build.paths import ROOT, VAR
from codecascade_build.server.install import TritonInstall, install, installed

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True, slots=True)
class TritonRelease:
    """The wheel that holds the server."""

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
    if path.exists():
        return sources.verified(path, release.sha256)
    sources.progress.say(f"Downloading {release.file} ({release.bytes / 1e6:,.0f} MB) from the package index …")
    try:
        (found,) = find_wheels([f"{release.package}=={release.version}"], sources.pip())
        file = dataclasses.replace(found, name=release.file, sha256=release.sha256, bytes=release.bytes)
        return sources.downloader().download(file, path.parent)
    except SourceFailed as reason:
        raise BuildError(
            f"The Triton server could not be downloaded from the package index: {reason}; "
            f"put {release.file} (SHA-256 {release.sha256}) into {path.parent} by hand and run this again."
        ) from reason
