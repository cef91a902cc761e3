"""Lines and bars about the build's own work. They go to stderr: stdout is for the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rich.progress
from rich.console import Console
from rich.table import Column

Report = Callable[[int, "int | None"], None]


class Progress:
    """Says in lines what is done. On a terminal a bar shows how far it is."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)

    def say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, line: str) -> Iterator[None]:
        """Says a line before the work, and how long the work took after it. An error ends the step without a line."""
        started = time.monotonic()
        self.say(f"{line} …")
        yield
        self.say(f"… done in {duration(time.monotonic() - started)}.")

    @contextmanager
    def of(self, what: str, total: int | None) -> Iterator[Report]:
        """A bar with sizes and the time left, while the work lasts.

        Yields a function of (bytes done, bytes in all or None if unknown).
        """
        columns = (
            rich.progress.TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
            rich.progress.BarColumn(bar_width=10),
            rich.progress.DownloadColumn(table_column=Column(no_wrap=True)),
            rich.progress.TransferSpeedColumn(table_column=Column(no_wrap=True)),
            rich.progress.TimeRemainingColumn(table_column=Column(no_wrap=True)),
        )
        with rich.progress.Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as bars:
            bar = bars.add_task(what, total=total)
            yield lambda done, total: bars.update(bar, completed=done, total=total)


def megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


def duration(seconds: float) -> str:
    """Such as `8 s` or `3 min 5 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
