"""Tables as a folder of immutable Parquet parts: how a recording is stored.

A part is written under a temporary name, flushed, and renamed once it is whole. After that it never changes. A writer that is
killed loses at most the part that it was writing. Small parts are merged when there are many. The merged part is there before
its sources are removed; a writer killed in between leaves rows twice, and readers keep the last of equal keys.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from codecascade_client.errors import RecordingError, WriteFailed
from codecascade_client.files import UNFINISHED, unfinished_file

LATER = {b"codecascade.later": b"null in older parts, which lack the column"}  # the metadata of such a column
MERGE_AT = 32  # parts of one table
_PART = re.compile(r"(?P<table>[a-z]+)-(?P<number>\d{6})\.parquet")
_OWNER = b"codecascade.recording"


def read_rows(
    folder: Path, table: str, schema: pa.Schema, owner: str, columns: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """All rows of a table, part by part. owner: the mark of the recording. Raises RecordingError for a part of another one."""
    try:
        return [row for path in _parts(folder, table) for row in _read(path, schema, owner, columns).to_pylist()]
    except FileNotFoundError:  # merged meanwhile: list the parts again
        return read_rows(folder, table, schema, owner, columns)


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold a recording for writing. The lock ends with the process. Raises RecordingError if another process writes."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise RecordingError(f"recording {folder} is being written by another process") from None
    try:
        for left_over in folder.glob(f"*{UNFINISHED}"):
            left_over.unlink()
        yield
    finally:
        os.close(descriptor)


def append(folder: Path, table: str, schema: pa.Schema, owner: str, rows: Sequence[dict[str, Any]]) -> None:
    """Add one part, unless there are no rows. Raises RecordingError if it cannot be written; earlier parts are untouched."""
    if not rows:
        return
    parts = _parts(folder, table)
    whole = pa.Table.from_pylist(list(rows), schema=_owned(schema, owner))
    _write(folder / _name(table, parts), whole)
    if len(parts) + 1 >= MERGE_AT:
        merge(folder, table, schema, owner)


def merge(folder: Path, table: str, schema: pa.Schema, owner: str) -> None:
    """Make one part of all parts."""
    parts = _parts(folder, table)
    if len(parts) > 1:
        _write(folder / _name(table, parts), pa.concat_tables([_read(path, schema, owner, None) for path in parts]))
        for path in parts:
            path.unlink()


def _write(path: Path, table: pa.Table) -> None:
    try:
        with unfinished_file(path) as unfinished:
            pq.write_table(table, unfinished, compression="zstd", compression_level=9)
    except WriteFailed as error:
        raise RecordingError(f"{error}; what was recorded before it is kept") from error


def _read(path: Path, schema: pa.Schema, owner: str, columns: Sequence[str] | None) -> pa.Table:
    try:
        table = pq.read_table(path, columns=columns and list(columns), partitioning=None)
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise RecordingError(f"{path} is truncated or not a part of a recording: {str(error).splitlines()[0]}") from error
    owned_by = (table.schema.metadata or {}).get(_OWNER, b"").decode()
    if owned_by != owner:
        raise RecordingError(f"{path} belongs to another recording ({owned_by or 'none'}, not {owner})")
    expected = schema if columns is None else pa.schema([schema.field(name) for name in columns])
    table = _with_later_columns(table, expected)
    if not table.schema.equals(expected):
        raise RecordingError(f"{path} has other columns than a recording of this format")
    return table


def _with_later_columns(table: pa.Table, expected: pa.Schema) -> pa.Table:
    for field in expected:
        if field.name not in table.column_names and field.metadata == LATER:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select(expected.names) if set(table.column_names) == set(expected.names) else table


def _owned(schema: pa.Schema, owner: str) -> pa.Schema:
    return schema.with_metadata({_OWNER: owner.encode()})


def _parts(folder: Path, table: str) -> list[Path]:
    return sorted(path for path in folder.iterdir() if (part := _PART.fullmatch(path.name)) and part["table"] == table)


def _name(table: str, parts: Sequence[Path]) -> str:
    last = int(parts[-1].stem.rpartition("-")[2]) if parts else 0
    return f"{table}-{last + 1:06d}.parquet"
