"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codecascade_client.errors import WriteFailed

UNFINISHED = ".unfinished"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all. Raises WriteFailed."""
    with unfinished_file(path) as unfinished:
        unfinished.write_bytes(content)


@contextmanager
def unfinished_file(path: Path) -> Iterator[Path]:
    """A path to write to. At the end of the block it is flushed and renamed to `path`. Raises WriteFailed."""
    unfinished = path.with_name(path.name + UNFINISHED)
    try:
        yield unfinished
        _flush(unfinished)
        unfinished.rename(path)
        _flush(path.parent)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        reason = error.strerror or str(error)
        raise WriteFailed(f"{path} cannot be written ({reason})") from error


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
