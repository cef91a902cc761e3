"""Where downloads come from on this machine, and where they are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from codecascade_build.errors import BuildError
from codecascade_build.fetch.checksum import Checked
from codecascade_build.paths import VAR, cache_dir
from codecascade_build.progress import Progress


@dataclass(frozen=True, slots=True)
class Sources:
    """cache: the folder of all downloads. named: a folder of the user's with weights, used where they lie.

    hub: the address of the Hugging Face hub. pip_log: the file that pip's own words are appended to.
    """

    cache: Path
    named: Path | None
    hub: str
    progress: Progress
    pip_log: Path = VAR / "log" / "pip.log"

    @property
    def checked(self) -> Checked:
        return Checked(self.cache / "checked")

    def lock(self, file: str) -> FileLock:
        """Lets one process at a time download `file`. The operating system frees it when that process ends."""
        folder = self.cache / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{file}.lock")

    def verified(self, path: Path, sha256: str) -> Path:
        """The same path, once its hash is known to be right. Raises BuildError."""
        actual = self.checked.hash_of(path, sha256)
        if actual != sha256:
            raise BuildError(
                f"{path} is not the file it should be and is not used: its SHA-256 is {actual}, expected {sha256}; "
                "remove it and run this again."
            )
        return path


def sources(environ: Mapping[str, str], progress: Progress) -> Sources:
    """CODECASCADE_CACHE names the cache, CODECASCADE_WEIGHTS the user's folder, HF_ENDPOINT another hub."""
    named = environ.get("CODECASCADE_WEIGHTS")
    hub = environ.get("HF_ENDPOINT") or "https://huggingface.co"
    return Sources(cache_dir(environ), Path(named).expanduser() if named else None, hub.rstrip("/"), progress)
