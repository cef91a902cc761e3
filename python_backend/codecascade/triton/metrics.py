"""Counters in Triton's own /metrics."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import triton_python_backend_utils as pb_utils

_FLUSH_S = 0.25


class Counters:
    """A family of counters with labels. Adds up in memory; Triton gets the sums a few times a second.

    Each hand-over is a message between processes, and a request must not wait for a dozen of them.
    """

    def __init__(self, name: str, description: str, labels: Sequence[str]) -> None:
        self._family = pb_utils.MetricFamily(name=name, description=description, kind=pb_utils.MetricFamily.COUNTER)
        self._labels = tuple(labels)
        self._metrics: dict[tuple[str, ...], Any] = {}
        self._pending: Counter[tuple[str, ...]] = Counter()

    def add(self, amount: float, *values: str) -> None:
        """values: one for each label."""
        self._pending[values] += amount  # type: ignore[assignment]

    def flush(self) -> None:
        pending, self._pending = self._pending, Counter()
        for values, amount in pending.items():
            if values not in self._metrics:
                self._metrics[values] = self._family.Metric(labels=dict(zip(self._labels, values, strict=True)))
            self._metrics[values].increment(amount)


async def flush_forever(families: Sequence[Counters]) -> None:
    while True:
        await asyncio.sleep(_FLUSH_S)
        for family in families:
            family.flush()
