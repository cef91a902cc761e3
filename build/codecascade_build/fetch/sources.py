"""How downloaded things can be had on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from codecascade_build.errors import BuildError
from codecascade_build.fetch.checksum import Checked
from codecascade_build.fetch.download import Downloader
from codecascade_build.fetch.package_index import PipSettings, opener, pip_settings
from codecascade_build.paths import cache_dir
from codecascade_build.progress import Progress


@dataclass(frozen=True, slots=True)
class Sources:
    """cache: the folder of everything downloaded. named: a folder of the user's with weights, used where they lie.

    hub: the address of the Hugging Face hub. pip: asked only when something has to be downloaded.
    """

    cache: Path
    named: Path | None
    hub: str
    progress: Progress
    pip: Callable[[], PipSettings] = pip_settings

    def downloader(self) -> Downloader:
        return Downloader(opener(self.pip()), self.progress)

    @property
    def checked(self) -> Checked:
        return Checked(self.cache / "checked")

    def verified(self, path: Path, sha256: str) -> Path:
        """The same path, once its hash is known to be right. Raises BuildError."""
        found = self.checked.hash_of(path, sha256)
        if found != sha256:
            raise BuildError(
                f"{path} is not the file it should be and is not used: its SHA-256 is {found}, expected {sha256}; "
                "remove it and run this again."
            )
        return path


def sources(environ: Mapping[str, str], progress: Progress) -> Sources:
    """CODECASCADE_CACHE names the cache, CODECASCADE_WEIGHTS the user's folder, HF_ENDPOINT another hub."""
    named = environ.get("CODECASCADE_WEIGHTS")
    hub = environ.get("HF_ENDPOINT") or "https://huggingface.co"
    return Sources(cache_dir(environ), Path(named).expanduser() if named else None, hub.rstrip("/"), progress)
