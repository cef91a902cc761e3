"""Records as files hold them: JSON Lines, one JSON array, or Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from codecascade_client.errors import DatasetError

BYTE_ORDER_MARK = "\ufeff"
_DIGITS = 600  # that Python reads at once, whatever its limit is set to (at least 640)
_SHOWN = 40  # characters of a value that is not what it must be
_BATCH = 256  # records in memory at a time: a file of APPS has more than a gigabyte of tests


def read_text(path: Path) -> str:
    """A UTF-8 file without its byte-order mark. Raises OSError, UnicodeDecodeError."""
    return path.read_text(encoding="utf-8-sig")


def read_json(text: str) -> Any:
    """A JSON value. Integers may have more digits than Python's own limit of 4,300. Raises ValueError."""
    return json.loads(text, parse_int=_integer)


def json_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1.

    Only a line feed ends a line, as JSON Lines has it: U+2028, U+0085 and the like may stand within a JSON string.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip().strip(BYTE_ORDER_MARK).strip()
        if line:
            yield number, line


def text_of(record: Mapping[str, Any], name: str) -> str:
    """A field that holds a text. Raises KeyError, ValueError."""
    value = record[name]
    if not isinstance(value, str):
        raise ValueError(f"its {name} is {shown(value)}, it must be a text")
    return value


def optional_text_of(record: Mapping[str, Any], name: str) -> str:
    """A field that holds a text; empty where there is none. Raises ValueError."""
    return text_of(record, name) if record.get(name) else ""


def texts_of(record: Mapping[str, Any], name: str) -> list[str]:
    """A field that holds a list of texts. Raises KeyError, ValueError."""
    value = record[name]
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"its {name} is {shown(value)}, it must be a list of texts")
    return value


def shown(value: Any) -> str:
    """The start of a value, for an error."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of more than 4,300 digits, or a deep list
        return f"a large {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def records(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any] | ValueError]]:
    """The records of a file or of a folder of Parquet files, each with its place; a ValueError for what is no record.

    Raises OSError, ValueError, DatasetError.
    """
    if files := parquet_files(path):
        yield from ((f"row {number}", row) for number, row in enumerate(_parquet_rows(files, columns), start=1))
        return
    text = read_text(path)
    if text.lstrip().startswith("["):
        values = read_json(text)
        yield from ((f"record {number}", _record(value)) for number, value in enumerate(values, start=1))
        return
    for number, line in json_lines(text):
        try:
            value = _record(read_json(line))
        except (ValueError, RecursionError) as error:
            value = ValueError(f"not a JSON object ({error})")
        yield f"line {number}", value


def parquet_files(path: Path) -> list[Path]:
    """The Parquet file at `path`, or those in the folder `path`, by name. Empty for anything else. Raises OSError."""
    if path.is_dir():
        return sorted(path.glob("*.parquet"))
    return [path] if path.suffix == ".parquet" else []


def _parquet_rows(files: Sequence[Path], columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """The columns of every row, file by file; a column that a file does not have is left out."""
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise DatasetError(
            "Parquet files need the package pyarrow, which is not installed: pip install 'codecascade[offline]'"
        ) from None
    for file in files:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(_BATCH, columns=list(columns)):
                yield from batch.to_pylist()


def _record(value: Any) -> Mapping[str, Any] | ValueError:
    return value if isinstance(value, Mapping) else ValueError(f"not a JSON object, but {shown(value)}")


def _integer(digits: str) -> int:
    if len(digits) <= _DIGITS:
        return int(digits)
    if digits.startswith("-"):
        return -_integer(digits[1:])
    half = len(digits) // 2
    shift: int = 10 ** (len(digits) - half)
    return _integer(digits[:half]) * shift + _integer(digits[half:])
