"""Downloads that resume, are verified before they get their name, and fail in one sentence."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import BinaryIO

from codecascade_build.errors import BuildError
from codecascade_build.fetch.checksum import sha256_of
from codecascade_build.progress import Progress, Report

_CHUNK = 1 << 18
_TIMEOUT_S = 30.0
_RETRIES = 3
_RETRY_STATUS = (408, 425, 429, 500, 502, 503, 504)


class SourceFailed(Exception):
    """This source could not deliver; another one may. The message is the reason, without a full stop."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """Something to download, with its hash and size where they are known beforehand."""

    url: str
    name: str
    sha256: str | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Downloader:
    """opener: knows proxies, certificates and passwords. pause: waits so many seconds before a retry."""

    opener: urllib.request.OpenerDirector
    progress: Progress
    pause: Callable[[float], None] = time.sleep

    def download(self, file: RemoteFile, folder: Path, label: str | None = None) -> Path:
        """folder/name, complete and of the right hash. An interrupted download goes on where it stopped.

        The bytes arrive in name.part, which gets its name when they are all there and verified. Raises SourceFailed if
        the source cannot deliver or delivers something else, BuildError if this machine cannot take the file.
        """
        target = folder / file.name
        part = folder / f"{file.name}.part"
        with disk_errors(part):
            folder.mkdir(parents=True, exist_ok=True)
            with exclusively(part) as output:
                if target.exists():
                    part.unlink()
                    return target
                with self.progress.of(label or file.name, file.bytes) as report:
                    self._fill_verified(file, output, report)
                part.replace(target)
        return target

    def _fill_verified(self, file: RemoteFile, output: BinaryIO, report: Report) -> None:
        resumed = output.tell() > 0
        self._fill(file, output, report)
        found = sha256_of(Path(output.name))
        if resumed and file.sha256 not in (None, found):  # what was there before belonged to another file
            restart(output)
            self._fill(file, output, report)
            found = sha256_of(Path(output.name))
        if file.sha256 not in (None, found):
            restart(output)
            raise SourceFailed(f"it delivered a file with SHA-256 {found}, expected {file.sha256}")

    def _fill(self, file: RemoteFile, output: BinaryIO, report: Report) -> None:
        """Requests until every byte is there. Gives up at once on a source that never answered."""
        failures = 0
        first = output.tell()
        while True:
            before = output.tell()
            try:
                if self._receive(file, output, report):
                    return
                reason = "the connection was closed early"
            except urllib.error.HTTPError as error:
                reason = f"HTTP {error.code} {error.reason}"
                if error.code not in _RETRY_STATUS:
                    raise SourceFailed(reason) from error
            except (OSError, http.client.HTTPException) as error:
                reason = _reason(error)
                if output.tell() == first:
                    raise SourceFailed(reason) from error
            failures = 0 if output.tell() > before else failures + 1
            if failures > _RETRIES:
                raise SourceFailed(f"{reason}, {failures} times in a row")
            self.pause(2.0**failures)

    def _receive(self, file: RemoteFile, output: BinaryIO, report: Report) -> bool:
        """One request for the bytes that are missing. True when the file is complete."""
        start = output.tell()
        request = urllib.request.Request(file.url, headers={"User-Agent": "codecascade"})
        if start:
            request.add_header("Range", f"bytes={start}-")
        try:
            answer = self.opener.open(request, timeout=_TIMEOUT_S)
        except urllib.error.HTTPError as error:
            if error.code != 416 or not start:
                raise
            if _total(error.headers) == start:
                return True
            restart(output)  # there is more than the source has: not a part of this file
            return False
        with answer:
            total = _total(answer.headers)
            if start and not _continues(answer, start):
                restart(output)
            if total is not None and file.bytes not in (None, total):
                raise SourceFailed(f"it offers a file of {total} bytes, expected {file.bytes}")
            if total is not None:
                check_space(Path(output.name), total - output.tell())
            while chunk := answer.read1(_CHUNK):
                _write(output, chunk)
                report(output.tell(), total)
        return total is None or output.tell() >= total


@contextlib.contextmanager
def exclusively(part: Path) -> Iterator[BinaryIO]:
    """The file, open at its end, for one process at a time. Removed on the way out if it is empty."""
    while True:
        with part.open("ab") as output:
            fcntl.flock(output, fcntl.LOCK_EX)
            if not part.exists() or os.fstat(output.fileno()).st_ino != part.stat().st_ino:
                continue  # whoever had it before has renamed or removed it
            output.seek(0, os.SEEK_END)
            try:
                yield output
            finally:
                if part.exists() and not part.stat().st_size:
                    part.unlink()
            return


def restart(output: BinaryIO) -> None:
    """Throws away what is in a file."""
    output.seek(0)
    output.truncate()


def check_space(path: Path, needed: int) -> None:
    """Raises BuildError if the disk of `path` has not `needed` bytes left."""
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise BuildError(
            f"There is no space left for {path} ({_mb(needed)} are needed, {_mb(free)} are free); "
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
        raise BuildError(f"{path} cannot be written: {error.strerror}.") from error


def _continues(answer: http.client.HTTPResponse, start: int) -> bool:
    return answer.status == 206 and (answer.headers["Content-Range"] or "").startswith(f"bytes {start}-")


def _total(headers: Message) -> int | None:
    """The size of the whole file, from `Content-Range: bytes 7-9/10`, `bytes */10` or `Content-Length: 10`."""
    total = (headers["Content-Range"] or "").rpartition("/")[2] or headers["Content-Length"] or ""
    return int(total) if total.isdigit() else None


def _write(output: BinaryIO, chunk: bytes) -> None:
    with disk_errors(Path(output.name)):
        output.write(chunk)
        output.flush()


def _reason(error: OSError | http.client.HTTPException) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__


def _mb(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
