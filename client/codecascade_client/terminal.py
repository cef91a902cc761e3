"""What a terminal shows: tables, and the progress of a long run (a bar for people, lines for logs)."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

NARROW, WIDE = 120, 180  # columns of a table that goes to a file or a pipe
_SPEED_OVER_S = 3600.0  # units differ a lot in length


def console(stream: TextIO, width: int = NARROW) -> Console:
    """width: in columns, if the stream is not a terminal."""
    return Console(file=stream, highlight=False, width=None if stream.isatty() else width)


def new_table(*left: str, right: Sequence[str] = ()) -> Table:
    """A plain table: columns of text on the left, then columns of figures."""
    rows = Table(box=None, pad_edge=False)
    for name in left:
        rows.add_column(name, no_wrap=True)
    for name in right:
        rows.add_column(name, justify="right", no_wrap=True)
    return rows


class RunProgress:
    """Shows on stderr how many units of a run are done, and tokens per second if there are tokens. A context manager."""

    def __init__(self, what: str, total: int) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._what = what
        self._total = total
        self._done = 0
        self._tokens = 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=self._console,
            speed_estimate_period=_SPEED_OVER_S,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._progress.add_task(what, total=total, speed="")

    def __enter__(self) -> RunProgress:
        self._started = time.monotonic()
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._progress.stop()

    def advance(self, units: int, tokens: int = 0, note: str = "") -> None:
        self._done += units
        self._tokens += tokens
        speed = f"{self._tokens / self._elapsed_s:,.1f} tokens/s" if self._tokens else ""
        self._progress.update(self._task, completed=self._done, speed=speed)
        if self._progress.disable:
            left = f"{self._left_s / 60:,.0f} min left"
            self._console.print(
                ", ".join(part for part in (f"{self._what} {self._done}/{self._total}", note, speed, left) if part)
            )
        elif note:
            self._console.print(note)

    @property
    def _elapsed_s(self) -> float:
        return max(time.monotonic() - self._started, 1e-9)

    @property
    def _left_s(self) -> float:
        return self._elapsed_s / max(self._done, 1) * (self._total - self._done)
