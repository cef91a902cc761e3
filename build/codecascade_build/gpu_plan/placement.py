"""Which tier on which GPU, and how large each KV cache may be. The same input has the same answer.

A tier's load is the time that one request keeps its GPUs busy. The best placement has the least load on the busiest GPU, then on
the second busiest, and so on; then the most memory left on the fullest GPU; then the lowest GPU numbers.

First copies: every placement is tried. A tensor-parallel tier has its GPUs for itself, because its ranks wait for each other.
Further copies: one at a time, on GPUs without first copies, where the busiest GPUs gain most; only copies that bring the busiest
GPU 1 % more throughput stay.
KV caches: each copy has its tier's least. The rest of a GPU is shared in proportion to load, up to what an engine can use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

from codecascade_build.gpu_plan.memory import BLOCK_TOKENS, TierMemory

MOST_GPUS = 16

LEAST_GAIN = 0.01
"""The share of the busiest GPU's throughput for which further copies are worth their memory."""

Group = tuple[int, ...]
"""The GPUs of one copy."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a tier asks for."""

    tier: str
    tensor_parallel: int
    memory: TierMemory
    """On each GPU of its group."""
    kv_cache_tokens: int
    """The least, in whole blocks."""
    most_kv_cache_tokens: int
    load: int
    """Nanoseconds per request, shared by the tier's copies."""

    @property
    def least_bytes(self) -> int:
        """On each GPU, with the smallest KV cache."""
        return self.memory.total(self.kv_cache_tokens)


@dataclass(frozen=True, slots=True)
class Copy:
    """A tier on its GPUs."""

    tier: str
    gpus: Group
    kv_cache_tokens: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where everything is."""

    copies: tuple[Copy, ...]
    """The copies of each tier in the order of its needs, the first copy first."""
    busy: tuple[float, ...]
    """Nanoseconds per request of each GPU."""

    def of(self, tier: str) -> tuple[Copy, ...]:
        return tuple(copy for copy in self.copies if copy.tier == tier)


Groups = Mapping[Need, tuple[Group, ...]]
"""The groups of each tier's copies."""


def place(needs: Sequence[Need], gpus: int, usable: int) -> Placement | None:
    """usable: bytes of each GPU that tiers may take. None if the tiers do not fit together."""

    def rank(groups: Groups) -> tuple[object, ...]:
        fullest = max(sum(need.least_bytes for need in tenants) for tenants in _tenants(groups, gpus))
        return _by_load(groups, gpus), fullest, [groups[need] for need in needs]

    every = ({need: first[need] for need in needs} for first in first_copies(needs, gpus, usable))
    best = min((_with_more_copies(first, gpus, usable) for first in every), key=rank, default=None)
    if best is None:
        return None
    best = {need: (copies[0], *sorted(copies[1:])) for need, copies in best.items()}
    return Placement(tuple(_sized(best, gpus, usable)), tuple(_busy(best, gpus)))


def first_copies(needs: Sequence[Need], gpus: int, usable: int, placed: Groups | None = None) -> Iterator[Groups]:
    """Every way to place one copy of each tier; one of those that differ only in the numbers of the GPUs."""
    placed = placed or {}
    if not needs:
        yield placed
        return
    need, *rest = largest_first(needs)
    for group in _room(need, placed, range(gpus), gpus, usable):
        yield from first_copies(rest, gpus, usable, {**placed, need: (group,)})


def largest_first(needs: Sequence[Need]) -> list[Need]:
    return sorted(needs, key=lambda need: (-need.tensor_parallel, -need.least_bytes, need.tier))


def _with_more_copies(first: Groups, gpus: int, usable: int) -> Groups:
    unused = [gpu for gpu, tenants in enumerate(_tenants(first, gpus)) if not tenants]
    now = best = first
    while more := [{**now, need: (*now[need], group)} for need in now for group in _room(need, now, unused, gpus, usable)]:
        now = min(more, key=lambda groups: _by_load(groups, gpus))
        if (1 + LEAST_GAIN) * max(_busy(now, gpus)) < max(_busy(best, gpus)):
            best = now
    return best


def _room(need: Need, placed: Groups, among: Sequence[int], gpus: int, usable: int) -> Iterator[Group]:
    """Groups with room for one more copy; one of those whose GPUs hold the same tiers."""
    tenants = _tenants(placed, gpus)
    tried = []
    for group in combinations(among, need.tensor_parallel):
        held = sorted([tenant.tier for tenant in tenants[gpu]] for gpu in group)
        if held not in tried and all(_takes(tenants[gpu], need, usable) for gpu in group):
            tried.append(held)
            yield group


def _takes(tenants: Sequence[Need], need: Need, usable: int) -> bool:
    """Whether a GPU with these tiers has room for one more."""
    together = [need, *tenants]
    alone = need in tenants or (tenants and any(tier.tensor_parallel > 1 for tier in together))
    return not alone and sum(tier.least_bytes for tier in together) <= usable


def _tenants(groups: Groups, gpus: int) -> list[list[Need]]:
    """The tiers on each GPU."""
    tenants: list[list[Need]] = [[] for _ in range(gpus)]
    for need, copies in groups.items():
        for gpu in chain(*copies):
            tenants[gpu].append(need)
    return tenants


def _busy(groups: Groups, gpus: int) -> list[float]:
    """The load of each GPU."""
    busy = [0.0] * gpus
    for need, copies in groups.items():
        for gpu in chain(*copies):
            busy[gpu] += need.load / len(copies)
    return busy


def _by_load(groups: Groups, gpus: int) -> list[float]:
    return sorted(_busy(groups, gpus), reverse=True)


def _sized(groups: Groups, gpus: int, usable: int) -> Iterator[Copy]:
    """All caches grow at once, each by its load, until one of its GPUs is full or it has all that its engine can use."""
    grown = {(need, group): 0.0 for need, copies in groups.items() for group in copies}  # bytes beyond the least
    left = [float(usable - sum(need.least_bytes for need in tenants)) for tenants in _tenants(groups, gpus)]
    growing = {copy: copy[0].load / len(groups[copy[0]]) for copy in grown if copy[0].load}
    while growing:
        rates = [sum(load for (_, group), load in growing.items() if gpu in group) for gpu in range(gpus)]
        limits = {}
        for (need, group), load in growing.items():
            wanted = (need.most_kv_cache_tokens - need.kv_cache_tokens) * need.memory.kv_token - grown[need, group]
            limits[need, group] = min(wanted / load, *(left[gpu] / rates[gpu] for gpu in group))
        step = min(limits.values())
        for copy, load in growing.items():
            grown[copy] += step * load
        left = [room - step * rate for room, rate in zip(left, rates, strict=True)]
        growing = {copy: load for copy, load in growing.items() if limits[copy] > step}
    for (need, group), more in grown.items():
        tokens = need.kv_cache_tokens + int(more / need.memory.kv_token + 1e-6)  # a whole number may be a hair below
        yield Copy(need.tier, group, tokens // BLOCK_TOKENS * BLOCK_TOKENS)
