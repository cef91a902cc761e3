"""Progress bars on stderr, so that stdout stays the answer's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rich.progress
from rich.console import Console

Report = Callable[[int, "int | None"], None]


class Progress:
    """Shows how far long work is. On a terminal as a moving bar, elsewhere as one line when it is done."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)

    def say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def of(self, what: str, total: int | None) -> Iterator[Report]:
        """Yields a function of (bytes done, bytes in all or None if unknown)."""
        columns = (
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.BarColumn(bar_width=24),
            rich.progress.DownloadColumn(),
            rich.progress.TransferSpeedColumn(),
            rich.progress.TimeRemainingColumn(elapsed_when_finished=True),
        )
        with rich.progress.Progress(*columns, console=self.console) as bars:
            bar = bars.add_task(what, total=total)
            yield lambda done, total: bars.update(bar, completed=done, total=total)
