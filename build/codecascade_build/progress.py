"""Progress bars on stderr, so that stdout stays the answer's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rich.progress
from rich.console import Console
from rich.table import Column

Report = Callable[[int, "int | None"], None]


class Progress:
    """Says in lines what is done, and on a terminal shows in a moving bar how far it is."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)

    def say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def of(self, what: str, total: int | None) -> Iterator[Report]:
        """A bar for the time of the work. Yields a function of (bytes done, bytes in all or None if unknown)."""
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
