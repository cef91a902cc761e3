"""A recipe on a machine: what its tiers need, where they go, which servers run them, or why they do not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from codecascade.types import Plan

from codecascade_build.errors import BuildError
from codecascade_build.gpu_plan.memory import GIB, MATRIX_BYTES, tier_memory, whole_blocks
from codecascade_build.gpu_plan.placement import MOST_GPUS, Copy, Device, Need, Placement, fits, most_left, place
from codecascade_build.gpus import Gpu, gpu
from codecascade_build.quantization import check_parallelism
from codecascade_build.recipes import Architecture, GpuRuntime, ModelClass, Quantization, Recipe, Tier

COMPLETION_TOKENS = 128
"""Generated tokens of one solution or test sample, where nobody says; with the same figure for every tier only ratios count."""

QUANTIZATIONS: dict[ModelClass, tuple[Quantization, ...]] = {
    "GPTJForCausalLM": ("fp8", "int8", "int4_awq"),
    "GPTForCausalLM": ("int8",),
    "LLaMAForCausalLM": ("fp8", "int8", "int4_awq"),
    "QWenForCausalLM": ("fp8", "int8", "int4_awq"),
}
"""What TensorRT-LLM documents for each class (StarCoder for GPT), gentlest first."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """GPUs of one kind in one machine."""

    kind: Gpu
    count: int

    @property
    def devices(self) -> tuple[Device, ...]:
        return tuple(Device(number, self.kind.memory_bytes) for number in range(self.count))

    def __str__(self) -> str:
        return f"{self.count} × {self.kind.title}"


@dataclass(frozen=True, slots=True)
class Figure:
    """source: where it comes from, in a word or two."""

    value: float
    source: str


@dataclass(frozen=True, slots=True)
class Demand:
    """What requests ask of one tier. reach: share of the requests that it sees. tokens: that it generates for one of these.

    speed: tokens per second of one copy; without a source that measured it, only its ratio to the other tiers' means something.
    """

    reach: Figure
    tokens: Figure
    speed: Figure

    @property
    def load(self) -> float:
        """Seconds of its GPUs per request."""
        return self.reach.value * self.tokens.value / self.speed.value


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the person who plans knows. plan: whose tiers are wanted, and no others. Each mapping: tier → figure.

    plan_reach: as a searched plan file has it.
    """

    plan: Plan | None = None
    plan_reach: Mapping[str, float] = field(default_factory=dict)
    tiers: tuple[str, ...] = ()
    reach: Mapping[str, float] = field(default_factory=dict)
    tokens: Mapping[str, float] = field(default_factory=dict)
    speed: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GpuTier:
    """A tier with its settings on the kind of GPU."""

    name: str
    architecture: Architecture
    settings: GpuRuntime
    demand: Demand

    @property
    def need(self) -> Need:
        settings = self.settings
        return Need(
            tier=self.name,
            tensor_parallel=settings.tensor_parallel,
            memory=tier_memory(self.architecture, settings),
            kv_cache_tokens=whole_blocks(settings.kv_cache_tokens),
            most_kv_cache_tokens=whole_blocks(max(settings.kv_cache_tokens, settings.max_batch_size * settings.context_tokens)),
            load=round(self.demand.load * 1e9),
        )


@dataclass(frozen=True, slots=True)
class Server:
    """One tritonserver. ranks: MPI processes of its one engine; 0 if its engines are all inside the server's process."""

    name: str
    ranks: int
    copies: tuple[Copy, ...]


@dataclass(frozen=True, slots=True)
class GpuPlan:
    """tiers: small to large."""

    family: str
    fleet: Fleet
    tiers: tuple[GpuTier, ...]
    placement: Placement
    servers: tuple[Server, ...]

    def tier(self, name: str) -> GpuTier:
        return next(tier for tier in self.tiers if tier.name == name)

    @property
    def measured(self) -> bool:
        """Whether every tier's speed was given, so that requests per second mean something."""
        return all(tier.demand.speed.source == "given" for tier in self.tiers)

    @property
    def requests_per_s(self) -> float:
        """What the busiest GPU lets through."""
        return 1e9 / max(self.placement.busy.values())


def parse_fleet(text: str) -> Fleet:
    """`2xa100`. Raises BuildError."""
    count, times, kind = text.partition("x")
    if not times or not count.isascii() or not count.isdigit() or not 1 <= int(count) <= MOST_GPUS:
        raise BuildError(f"--gpus is {text!r}; a number from 1 to {MOST_GPUS}, an x and a kind of GPU are needed: 2xa100.")
    return Fleet(gpu(kind), int(count))


def plan_gpus(recipe: Recipe, fleet: Fleet, wishes: Wishes) -> GpuPlan:
    """Raises BuildError: one sentence that names the tier that does not fit, what it needs and what would help."""
    tiers = _tiers(recipe, fleet.kind, wishes)
    for tier in tiers:
        _check(tier, fleet.kind)
    placement = place([tier.need for tier in tiers], fleet.devices)
    if placement is None:
        raise BuildError(_refusal(tiers, fleet))
    return GpuPlan(recipe.family, fleet, tiers, placement, servers_of(placement, tiers))


def servers_of(placement: Placement, tiers: Sequence[GpuTier]) -> tuple[Server, ...]:
    """The first copies of the tiers on one GPU share a server, and so do all further ones of a GPU. A copy of a
    tensor-parallel tier has a server of its own, whose ranks are one MPI world.
    """
    parallel = {tier.name for tier in tiers if tier.settings.tensor_parallel > 1}
    single = [placement.of(tier.name) for tier in tiers if tier.name not in parallel]
    further: dict[int, list[Copy]] = {}
    for copy in sorted((copy for copies in single for copy in copies[1:]), key=lambda copy: copy.gpus):
        further.setdefault(copy.gpus[0], []).append(copy)
    held = [[copies[0] for copies in single], *further.values(), *([copy] for copy in placement.copies if copy.tier in parallel)]
    return tuple(
        Server(f"server-{number}", len(copies[0].gpus) if copies[0].tier in parallel else 0, tuple(copies))
        for number, copies in enumerate(filter(None, held), start=1)
    )


def _tiers(recipe: Recipe, kind: Gpu, wishes: Wishes) -> tuple[GpuTier, ...]:
    known = [tier.name for tier in recipe.tiers]
    steps = {step.tier: step for step in wishes.plan.steps} if wishes.plan else {}
    for where, names in _named(wishes).items():
        unknown = [name for name in names if name not in known]
        if unknown:
            raise BuildError(f"{where} names tier {unknown[0]!r}; {recipe.family} has {', '.join(known)}.")
    wanted = [
        tier for tier in recipe.tiers if (not steps or tier.name in steps) and (not wishes.tiers or tier.name in wishes.tiers)
    ]
    if not wanted:
        raise BuildError(f"The plan and --tier have no tier in common: the plan asks {', '.join(steps)}.")
    shapes = [_shape(tier, kind) for tier in wanted]
    per_byte = _speed_per_byte(wishes.speed, shapes)
    return tuple(replace(shape, demand=_demand(shape, wishes, per_byte)) for shape in shapes)


def _named(wishes: Wishes) -> dict[str, Sequence[str]]:
    return {
        "--plan": [step.tier for step in wishes.plan.steps] if wishes.plan else (),
        "--tier": wishes.tiers,
        "--reach": tuple(wishes.reach),
        "--tokens": tuple(wishes.tokens),
        "--speed": tuple(wishes.speed),
    }


_NO_DEMAND = Demand(Figure(1, "assumed"), Figure(1, "assumed"), Figure(1, "assumed"))


def _shape(tier: Tier, kind: Gpu) -> GpuTier:
    if tier.gpu is None or tier.checkpoint is None:
        raise BuildError(f"Tier {tier.name} has no settings for a GPU in its recipe.")
    return GpuTier(tier.name, tier.checkpoint.architecture, tier.gpu.on_gpu(kind.name), _NO_DEMAND)


def _demand(tier: GpuTier, wishes: Wishes, per_byte: float) -> Demand:
    step = next((step for step in wishes.plan.steps if step.tier == tier.name), None) if wishes.plan else None
    samples = 2 * step.k if step and step.k else 1  # k solutions and k test samples
    first = step is not None and wishes.plan is not None and step is wishes.plan.steps[0]
    return Demand(
        reach=_known(wishes.reach, tier, "given")
        or _known(wishes.plan_reach, tier, "plan file")
        or Figure(1.0, "first tier" if first else "assumed"),
        tokens=_known(wishes.tokens, tier, "given") or Figure(samples * COMPLETION_TOKENS, "assumed"),
        speed=_known(wishes.speed, tier, "given") or Figure(per_byte / tier.need.memory.weights, "assumed"),
    )


def _known(figures: Mapping[str, float], tier: GpuTier, source: str) -> Figure | None:
    return Figure(figures[tier.name], source) if tier.name in figures else None


def _speed_per_byte(given: Mapping[str, float], tiers: Sequence[GpuTier]) -> float:
    """Tokens per second × bytes of weights that a token reads: the mean of the tiers whose speed is given, or anything."""
    products = [given[tier.name] * tier.need.memory.weights for tier in tiers if tier.name in given]
    return sum(products) / len(products) if products else float(GIB)


def _check(tier: GpuTier, kind: Gpu) -> None:
    settings = tier.settings
    if settings.quantization == "fp8" and not kind.fp8:
        raise BuildError(f"Tier {tier.name} is fp8 in its recipe, which the {kind.title} does not have.")
    try:
        check_parallelism(tier.architecture, settings.tensor_parallel, settings.quantization)
    except BuildError as error:
        raise BuildError(f"Tier {tier.name}: {error}") from error


def _refusal(tiers: Sequence[GpuTier], fleet: Fleet) -> str:
    needs = sorted((tier.need for tier in tiers), key=lambda need: (-need.tensor_parallel, -need.least_bytes, need.tier))
    alone = [(need, needs[:0]) for need in needs]
    together = [(need, needs[:number]) for number, need in enumerate(needs)]
    need, before = next((need, before) for need, before in [*alone, *together] if not fits([*before, need], fleet.devices))
    return f"Tier {need.tier} does not fit on {fleet}: {_shortage(need, before, fleet)}; {_help(tiers, fleet)}."


def _shortage(need: Need, before: Sequence[Need], fleet: Fleet) -> str:
    group = f"each of {need.tensor_parallel} GPUs for itself" if need.tensor_parallel > 1 else "a GPU"
    what = f"it needs {gib(need.least_bytes)} of {group}"
    beside = f"beside {_names(before)}" if before else "with the reserve taken off"
    if need.tensor_parallel == 1 or not before:
        left = most_left(before, fleet.devices)
        enough = need.tensor_parallel <= fleet.count
        return f"{what}, and {beside} {gib(left)} are left of {gib(fleet.kind.memory_bytes)}" if enough else _too_few(what, fleet)
    return f"{what}, and {beside} too few GPUs are free"


def _too_few(what: str, fleet: Fleet) -> str:
    return f"{what}, and there {'is one' if fleet.count == 1 else f'are {fleet.count}'}"


def _help(tiers: Sequence[GpuTier], fleet: Fleet) -> str:
    """Changes that, each for itself, would let everything fit: every one was tried."""
    found = [
        *_first_of(_quantized(tiers, fleet), fleet),
        *_first_of(_wider(tiers, fleet), fleet),
        *_first_of(_smaller_caches(tiers), fleet),
        *_first_of(_fewer(tiers), fleet),
        *_more_gpus(tiers, fleet),
    ]
    return f"it would fit {', or '.join(found)}" if found else f"nor would it on {MOST_GPUS} such GPUs"


Change = tuple[str, Sequence[GpuTier]]
"""In words, and the tiers after it."""


def _first_of(changes: Iterator[Change], fleet: Fleet) -> list[str]:
    return next(([words] for words, after in changes if fits([tier.need for tier in after], fleet.devices)), [])


def _quantized(tiers: Sequence[GpuTier], fleet: Fleet) -> Iterator[Change]:
    gentlest_first: tuple[Quantization, ...] = ("fp8", "int8", "int4_awq")
    for quantization in gentlest_first:
        for tier in reversed(tiers):
            possible = quantization in QUANTIZATIONS[tier.architecture.model_class] and (quantization != "fp8" or fleet.kind.fp8)
            if possible and MATRIX_BYTES[quantization] < MATRIX_BYTES[tier.settings.quantization]:
                settings = replace(tier.settings, quantization=quantization)
                yield from _changed(tiers, tier, settings, f"with {quantization} for {tier.name}")


def _wider(tiers: Sequence[GpuTier], fleet: Fleet) -> Iterator[Change]:
    for tier in reversed(tiers):
        wider = 2 * tier.settings.tensor_parallel
        if wider <= fleet.count:
            settings = replace(tier.settings, tensor_parallel=wider)
            yield from _changed(tiers, tier, settings, f"with tensor_parallel {wider} for {tier.name}")


def _changed(tiers: Sequence[GpuTier], changed: GpuTier, settings: GpuRuntime, words: str) -> Iterator[Change]:
    try:
        check_parallelism(changed.architecture, settings.tensor_parallel, settings.quantization)
    except BuildError:
        return
    yield words, [replace(tier, settings=settings) if tier is changed else tier for tier in tiers]


def _smaller_caches(tiers: Sequence[GpuTier]) -> Iterator[Change]:
    after = [replace(tier, settings=replace(tier.settings, kv_cache_tokens=tier.settings.context_tokens)) for tier in tiers]
    yield "with a KV cache of one sequence for every tier (kv_cache_tokens = context_tokens)", after


def _fewer(tiers: Sequence[GpuTier]) -> Iterator[Change]:
    for fewer in range(1, len(tiers)):
        for without in combinations(tiers, fewer):
            yield f"without {_names(without)}", [tier for tier in tiers if tier not in without]


def _more_gpus(tiers: Sequence[GpuTier], fleet: Fleet) -> list[str]:
    needs = [tier.need for tier in tiers]
    larger = (Fleet(fleet.kind, count) for count in range(fleet.count + 1, MOST_GPUS + 1))
    return next(([f"on {more.count} GPUs"] for more in larger if fits(needs, more.devices)), [])


def _names(tiers: Sequence[GpuTier | Need]) -> str:
    return " and ".join(tier.name if isinstance(tier, GpuTier) else tier.tier for tier in tiers)


def gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB"
