"""How often a server may be started again."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

_LONGEST_WAIT_S = 30.0


@dataclass
class Bounds:
    """At most `restarts` within `window_s`: the first at once, then after 1, 2, 4, … s."""

    restarts: int
    window_s: float
    recent: deque[float] = field(default_factory=deque)

    def wait_s(self, now: float) -> float | None:
        """How long to wait before a restart, which counts from now on; None: it is one too many."""
        while self.recent and now - self.recent[0] > self.window_s:
            self.recent.popleft()
        if len(self.recent) >= self.restarts:
            return None
        self.recent.append(now)
        before = len(self.recent) - 1
        return min(2.0 ** (before - 1), _LONGEST_WAIT_S) if before else 0.0

    def __str__(self) -> str:
        return f"{len(self.recent)} of at most {self.restarts} restarts within {self.window_s:g} s"
