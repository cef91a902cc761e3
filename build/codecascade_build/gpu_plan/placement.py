"""Which tier on which GPU, and how large each KV cache may be. Pure, exact where it says so, and the same every time.

What is looked for: the least load on the busiest GPU, load being the seconds that one request keeps a GPU busy. Then the least
on the second busiest, and so on; then the most memory left on the fullest GPU; then the lowest numbers.

First copies: every placement is looked at, equal GPUs counted once. A tensor-parallel tier has its GPUs for itself: its ranks
wait for each other, and a neighbour of one would hold up all. Other tiers may share a GPU.
Further copies: only on GPUs that no first copy uses, one at a time, each where the busiest GPUs gain most, and only as many as
bring the busiest GPU 1 % more throughput (greedy, for each placement of the first copies).
KV caches: each copy has its tier's least; what is left grows in proportion to load, until a GPU is full or a cache holds
all sequences that its engine takes at full length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from math import lcm

from codecascade_build.gpu_plan.memory import BLOCK_TOKENS, TierMemory, usable_bytes

MOST_GPUS = 16

LEAST_GAIN = 0.01
"""Of the busiest GPU's throughput, for which further copies are worth their memory."""

_WHOLE = lcm(*range(1, MOST_GPUS + 1))  # a load times this can be shared by any number of copies without a remainder


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU of a machine."""

    id: int
    memory_bytes: int

    @property
    def usable_bytes(self) -> int:
        return usable_bytes(self.memory_bytes)


@dataclass(frozen=True, slots=True)
class Need:
    """What a tier asks for. memory: on each GPU of its group. load: nanoseconds per request, shared by its copies.

    kv_cache_tokens, most_kv_cache_tokens: the least and the most, in whole blocks.
    """

    tier: str
    tensor_parallel: int
    memory: TierMemory
    kv_cache_tokens: int
    most_kv_cache_tokens: int
    load: int

    @property
    def least_bytes(self) -> int:
        """On each GPU, with the smallest KV cache."""
        return self.memory.total(self.kv_cache_tokens)


@dataclass(frozen=True, slots=True)
class Copy:
    """A tier on its GPUs. gpus: their ids."""

    tier: str
    gpus: tuple[int, ...]
    kv_cache_tokens: int


@dataclass(frozen=True, slots=True)
class Placement:
    """copies: of each tier in the order of its needs, the first copy first. busy: GPU id → nanoseconds per request."""

    copies: tuple[Copy, ...]
    busy: Mapping[int, float]

    def of(self, tier: str) -> tuple[Copy, ...]:
        return tuple(copy for copy in self.copies if copy.tier == tier)


Group = tuple[int, ...]
"""Places in a list of devices."""

Groups = Mapping[str, tuple[Group, ...]]
"""Tier → the groups of its copies."""


def place(needs: Sequence[Need], devices: Sequence[Device]) -> Placement | None:
    """None if the tiers do not fit together. The order of the devices does not matter."""
    ordered = _ordered(devices)
    best: tuple[tuple[object, ...], Groups] | None = None
    for first in _first_copies(needs, ordered):
        groups = _with_more_copies(needs, ordered, first)
        rank = _rank(needs, ordered, groups)
        if best is None or rank < best[0]:
            best = rank, groups
    if best is None:
        return None
    groups = {tier: (copies[0], *sorted(copies[1:])) for tier, copies in best[1].items()}
    busy = _busy(needs, len(ordered), groups)
    return Placement(
        copies=tuple(_sized(needs, ordered, groups)),
        busy={device.id: busy[place] / _WHOLE for place, device in sorted(enumerate(ordered), key=lambda each: each[1].id)},
    )


def fits(needs: Sequence[Need], devices: Sequence[Device]) -> bool:
    """Exact: every placement is tried."""
    return next(_first_copies(needs, _ordered(devices)), None) is not None


def most_left(needs: Sequence[Need], devices: Sequence[Device]) -> int:
    """The most bytes that these tiers can leave on a GPU for one more that is not tensor-parallel; 0 if they do not fit."""
    ordered = _ordered(devices)
    most = 0
    for groups in _first_copies(needs, ordered):
        placed = {need: groups[need.tier][0] for need in needs}
        for place, device in enumerate(ordered):
            tenants = [need for need, group in placed.items() if place in group]
            if all(tenant.tensor_parallel == 1 for tenant in tenants):
                most = max(most, device.usable_bytes - sum(tenant.least_bytes for tenant in tenants))
    return most


def _ordered(devices: Iterable[Device]) -> list[Device]:
    return sorted(devices, key=lambda device: (-device.memory_bytes, device.id))


def _first_copies(needs: Sequence[Need], devices: Sequence[Device]) -> Iterator[Groups]:
    """Every way that fits; of ways that differ only in which of equal GPUs does what, one."""
    largest_first = sorted(needs, key=lambda need: (-need.tensor_parallel, -need.least_bytes, need.tier))
    yield from _place_rest(largest_first, devices, {})


def _place_rest(needs: Sequence[Need], devices: Sequence[Device], placed: dict[Need, Group]) -> Iterator[Groups]:
    if not needs:
        yield {need.tier: (group,) for need, group in placed.items()}
        return
    need, rest = needs[0], needs[1:]
    tenants = [[tenant for tenant, group in placed.items() if place in group] for place in range(len(devices))]
    alike = [(device.memory_bytes, *sorted(tenant.tier for tenant in tenants[place])) for place, device in enumerate(devices)]
    tried = set()
    for group in combinations(range(len(devices)), need.tensor_parallel):
        kind = tuple(sorted(alike[place] for place in group))
        if kind not in tried and all(_takes(devices[place], tenants[place], need) for place in group):
            tried.add(kind)
            yield from _place_rest(rest, devices, {**placed, need: group})


def _takes(device: Device, tenants: Sequence[Need], need: Need) -> bool:
    """Whether a GPU with these tiers has room for one more."""
    if need in tenants or (tenants and max(need.tensor_parallel, *(tenant.tensor_parallel for tenant in tenants)) > 1):
        return False
    return need.least_bytes + sum(tenant.least_bytes for tenant in tenants) <= device.usable_bytes


def _with_more_copies(needs: Sequence[Need], devices: Sequence[Device], first: Groups) -> Groups:
    used = {place for (group,) in first.values() for place in group}
    leftover = [place for place in range(len(devices)) if place not in used]
    now = best = first
    while leftover and (more := list(_one_more_copy(needs, devices, leftover, now))):
        now = min(more, key=lambda groups: _by_load(needs, len(devices), groups))
        if (1 + LEAST_GAIN) * max(_busy(needs, len(devices), now)) < max(_busy(needs, len(devices), best)):
            best = now
    return best


def _one_more_copy(needs: Sequence[Need], devices: Sequence[Device], leftover: Sequence[int], now: Groups) -> Iterator[Groups]:
    """Every way; of those that differ only in which of equal GPUs takes it, one."""
    tenants = {place: [need for need in needs if any(place in group for group in now[need.tier])] for place in leftover}
    alike = {place: (devices[place].memory_bytes, *(need.tier for need in tenants[place])) for place in leftover}
    for need in needs:
        tried = set()
        for group in combinations(leftover, need.tensor_parallel):
            kind = tuple(sorted(alike[place] for place in group))
            if kind not in tried and all(_takes(devices[place], tenants[place], need) for place in group):
                tried.add(kind)
                yield {**now, need.tier: (*now[need.tier], group)}


def _busy(needs: Sequence[Need], devices: int, groups: Groups) -> list[int]:
    """In parts of a nanosecond."""
    busy = [0] * devices
    for need in needs:
        copies = groups[need.tier]
        for group in copies:
            for place in group:
                busy[place] += need.load * _WHOLE // len(copies)
    return busy


def _by_load(needs: Sequence[Need], devices: int, groups: Groups) -> list[int]:
    return sorted(_busy(needs, devices, groups), reverse=True)


def _rank(needs: Sequence[Need], devices: Sequence[Device], groups: Groups) -> tuple[object, ...]:
    left = [device.usable_bytes for device in devices]
    for need in needs:
        for group in groups[need.tier]:
            for place in group:
                left[place] -= need.least_bytes
    return _by_load(needs, len(devices), groups), -min(left), [groups[need.tier] for need in needs]


@dataclass(slots=True)
class _Cache:
    """The KV cache of one copy while it grows."""

    need: Need
    group: Group
    load: Fraction
    tokens: Fraction
    growing: bool = True


def _sized(needs: Sequence[Need], devices: Sequence[Device], groups: Groups) -> Iterator[Copy]:
    """All caches grow at once, each by its load, and stop one by one."""
    caches = [
        _Cache(need, group, Fraction(need.load, len(groups[need.tier])), Fraction(need.kv_cache_tokens), growing=need.load > 0)
        for need in needs
        for group in groups[need.tier]
    ]
    left = [Fraction(device.usable_bytes) for device in devices]
    for cache in caches:
        for place in cache.group:
            left[place] -= cache.need.least_bytes
    while any(cache.growing for cache in caches):
        _grow(caches, left)
    for cache in caches:
        tokens = int(cache.tokens) // BLOCK_TOKENS * BLOCK_TOKENS
        yield Copy(cache.need.tier, tuple(sorted(devices[place].id for place in cache.group)), tokens)


def _grow(caches: Sequence[_Cache], left: list[Fraction]) -> None:
    """To where the next GPU is full or the next cache has all that it can use."""
    growing = [cache for cache in caches if cache.growing]
    growth = [sum((cache.load for cache in growing if place in cache.group), Fraction(0)) for place in range(len(left))]
    wanted = [(cache.need.most_kv_cache_tokens - cache.tokens) * cache.need.memory.kv_token / cache.load for cache in growing]
    step = min([*wanted, *(room / rate for room, rate in zip(left, growth, strict=True) if rate)])
    for cache, most in zip(growing, wanted, strict=True):
        cache.tokens += step * cache.load / cache.need.memory.kv_token
        full = any(left[place] == step * growth[place] for place in cache.group)
        cache.growing = not full and most > step
    for place, rate in enumerate(growth):
        left[place] -= step * rate
