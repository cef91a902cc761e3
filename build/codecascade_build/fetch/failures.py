"""What goes wrong with a download, in one sentence: the source, or the disk."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from codecascade_build.errors import BuildError
from codecascade_build.progress import megabytes


class SourceFailed(Exception):
    """One source could not deliver; another one may. The message is the reason, without a full stop."""


def check_space(path: Path, needed: int) -> None:
    """Raises BuildError if the disk of `path` has fewer than `needed` bytes left."""
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise BuildError(
            f"There is no space left for {path} ({megabytes(needed)} are needed, {megabytes(free)} are free); "
            "make room or set CODECASCADE_CACHE to a larger disk."
        )


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns an operating system's refusal to write `path` into a BuildError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BuildError(
                f"There is no space left for {path}; make room or set CODECASCADE_CACHE to a larger disk."
            ) from error
        raise BuildError(f"{error.filename or path} cannot be written: {error.strerror or error}.") from error
