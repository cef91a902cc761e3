"""SHA-256 of large files, and a memory of which file was already checked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

_CHUNK = 1 << 20


def sha256_of(path: Path) -> str:
    """The hash of a file's content, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class Checked:
    """Remembers in a folder which file had which hash, so that a gigabyte is not read again at every start.

    A file counts as checked only while its path, size, inode and modification time are those that were hashed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def hash_of(self, path: Path, expected: str) -> str:
        """The SHA-256 of a file: `expected` if that was found before and the file has not changed since, else computed now."""
        if _read(self._note(expected)) == _identity(path):
            return expected
        found = sha256_of(path)
        if found == expected:
            self.remember(path, found)
        return found

    def remember(self, path: Path, sha256: str) -> None:
        """Call it for a file whose hash was just computed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._note(sha256).write_text(json.dumps(_identity(path)))

    def _note(self, sha256: str) -> Path:
        return self._folder / f"{sha256}.json"


def _identity(path: Path) -> dict[str, object]:
    stat = path.stat()
    return {"path": str(path.resolve()), "bytes": stat.st_size, "inode": stat.st_ino, "mtime_ns": stat.st_mtime_ns}


def _read(note: Path) -> object:
    try:
        return json.loads(note.read_text())
    except (OSError, ValueError):
        return None
