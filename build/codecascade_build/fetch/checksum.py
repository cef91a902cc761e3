"""The SHA-256 of large files, and a note of each file that was checked before."""

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
    """Notes in a folder about checked files: a gigabyte is not read again at every start.

    A note holds while the file's path, size, inode and modification time stay the same.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def hash_of(self, path: Path, expected: str) -> str:
        """The SHA-256 of a file. It is computed unless a note says that this very file had the hash `expected`."""
        if _read(self._note(expected)) == _identity(path):
            return expected
        actual = sha256_of(path)
        if actual == expected:
            self.remember(path, actual)
        return actual

    def remember(self, path: Path, sha256: str) -> None:
        """Write the note of a file whose hash was just computed."""
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
