"""Counters, gauges and histograms in Triton's own /metrics.

Names are Prometheus's: counters end in `_total`, seconds and US dollars are the units. Triton appends nothing to a name.

Amounts add up in memory; Triton gets them a few times a second. Each hand-over is a message between processes, and a request
must not wait for a dozen of them. Only one thread may hand over: two at a time end the process (Triton 2.51, lock_exception).
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from numbers import Real
from typing import Any

import triton_python_backend_utils as pb_utils

_FLUSH_S = 0.25
_MESSAGES_AT_A_TIME = 32  # a message takes 0.02 ms; requests go on between two batches

Labels = tuple[str, ...]
HandOver = Callable[[], None]


class Family(ABC):
    """Metrics of one name. A value for each label tells them apart; it must be one of few."""

    def __init__(self, name: str, description: str, labels: Sequence[str], kind: Any, **options: Any) -> None:
        self.name = name
        self._family = pb_utils.MetricFamily(name=name, description=description, kind=kind)
        self._labels = tuple(labels)
        self._options = options
        self._metrics: dict[Labels, Any] = {}

    @abstractmethod
    def take(self) -> Iterator[HandOver]:
        """What is new since the last time, as messages to Triton. Each is sent once, or never."""

    def _metric(self, values: Labels) -> Any:
        if values not in self._metrics:
            labels = dict(zip(self._labels, values, strict=True))
            self._metrics[values] = self._family.Metric(labels=labels, **self._options)
        return self._metrics[values]


class Counters(Family):
    """Sums that only grow."""

    def __init__(self, name: str, description: str, labels: Sequence[str]) -> None:
        super().__init__(name, description, labels, pb_utils.MetricFamily.COUNTER)
        self._pending: Counter[Labels] = Counter()

    def add(self, amount: float, *values: str) -> None:
        """values: one for each label. An amount that no sum can take (negative, not finite) is left out and reported."""
        if _countable(self.name, amount):
            self._pending[values] += amount  # type: ignore[assignment]

    def take(self) -> Iterator[HandOver]:
        pending, self._pending = self._pending, Counter()
        for values, amount in pending.items():
            yield partial(self._hand_over, values, amount)

    def _hand_over(self, values: Labels, amount: float) -> None:
        self._metric(values).increment(amount)


class Totals(Family):
    """Sums that something else keeps. read: the total by label values, asked a few times a second."""

    def __init__(self, name: str, description: str, labels: Sequence[str], read: Callable[[], Mapping[Labels, float]]) -> None:
        super().__init__(name, description, labels, pb_utils.MetricFamily.COUNTER)
        self._read = read
        self._told: dict[Labels, float] = {}

    def take(self) -> Iterator[HandOver]:
        for values, total in self._read().items():
            grown = total - self._told.get(values, 0)
            if _countable(self.name, grown) and (grown or values not in self._told):
                self._told[values] = total
                yield partial(self._hand_over, values, grown)

    def _hand_over(self, values: Labels, amount: float) -> None:
        self._metric(values).increment(amount)


class Histograms(Family):
    """How many amounts are at most as large as each of `buckets`, how many there are, and their sum."""

    def __init__(self, name: str, description: str, labels: Sequence[str], buckets: Sequence[float]) -> None:
        super().__init__(name, description, labels, pb_utils.MetricFamily.HISTOGRAM, buckets=list(buckets))
        self._pending: defaultdict[Labels, list[float]] = defaultdict(list)

    def observe(self, amount: float, *values: str) -> None:
        """values: one for each label. An amount that is negative or not finite is left out and reported."""
        if _countable(self.name, amount):
            self._pending[values].append(amount)

    def take(self) -> Iterator[HandOver]:
        pending, self._pending = self._pending, defaultdict(list)
        for values, amounts in pending.items():
            for amount in amounts:
                yield partial(self._hand_over, values, amount)

    def _hand_over(self, values: Labels, amount: float) -> None:
        self._metric(values).observe(amount)


class Gauges(Family):
    """What is now. read: the value by label values, asked a few times a second; of what it no longer names, the value is 0."""

    def __init__(self, name: str, description: str, labels: Sequence[str], read: Callable[[], Mapping[Labels, float]]) -> None:
        super().__init__(name, description, labels, pb_utils.MetricFamily.GAUGE)
        self._read = read
        self._told: dict[Labels, float] = {}

    def take(self) -> Iterator[HandOver]:
        now = {**dict.fromkeys(self._told, 0.0), **self._read()}
        for values, amount in now.items():
            if self._told.get(values) != amount:
                self._told[values] = amount
                yield partial(self._hand_over, values, amount)

    def _hand_over(self, values: Labels, amount: float) -> None:
        self._metric(values).set(amount)


async def flush_forever(families: Sequence[Family]) -> None:
    """Hand over what is new, again and again. What fails is reported, once for each name, and the rest goes on."""
    while True:
        await asyncio.sleep(_FLUSH_S)
        for family in families:
            await _flush(family)


async def _flush(family: Family) -> None:
    try:
        for number, hand_over in enumerate(family.take(), start=1):
            _try(hand_over, family.name)
            if number % _MESSAGES_AT_A_TIME == 0:
                await asyncio.sleep(0)
    except Exception as error:
        _report(family.name, f"cannot be read: {error!r}")


def _try(hand_over: HandOver, name: str) -> None:
    try:
        hand_over()
    except Exception as error:
        _report(name, f"could not be handed to Triton: {error!r}")


def _countable(name: str, amount: float) -> bool:
    countable = isinstance(amount, Real) and math.isfinite(amount) and amount >= 0
    if not countable:
        _report(name, f"was given {amount!r}, must be a finite number of 0 or more; it is left out")
    return countable


_reported: set[str] = set()


def _report(name: str, problem: str) -> None:
    """Log it, if it is the first of this name."""
    if name not in _reported:
        _reported.add(name)
        pb_utils.Logger.log_error(f"metric {name} {problem} (told once)")
