"""Stops asking what does not answer."""

from __future__ import annotations

import time
from collections.abc import Callable

FAILURES = 5  # in a row: then it opens
OPEN_S = 2.0  # seconds that it stays open, before one call tries again


class Breaker:
    """A circuit breaker: `closed` lets every call through, `open` none, `half-open` waits for the one call that tries again.

    Only what says that a model does not work is a failure: no refusal, and not that it is overloaded.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.opened = 0
        """How often it has opened."""
        self._clock = clock
        self._failures = 0  # in a row
        self._opened_s: float | None = None
        self._probing = False

    @property
    def state(self) -> str:
        if self._opened_s is None:
            return "closed"
        return "half-open" if self._probing else "open"

    @property
    def allows(self) -> bool:
        """Whether a call may begin now."""
        return self._opened_s is None or (not self._probing and self._clock() - self._opened_s >= OPEN_S)

    def begin(self) -> bool:
        """A call that is allowed begins. Returns whether it is the probe; its outcome must then be told as such."""
        self._probing = self._opened_s is not None
        return self._probing

    def succeeded(self) -> None:
        """The model answered, whatever it said."""
        self._failures, self._opened_s, self._probing = 0, None, False

    def failed(self, probe: bool = False) -> None:
        self._failures += 1
        if probe:
            self._probing = False
        if probe or (self._opened_s is None and self._failures >= FAILURES):
            self.trip()

    def trip(self) -> None:
        """Open at once, for a model that is known not to work."""
        self.opened += self._opened_s is None
        self._opened_s = self._clock()

    def undecided(self, probe: bool) -> None:
        """The caller went away before the model answered."""
        self._probing = self._probing and not probe
