"""A recipe on a machine: what its tiers need, where they go, which servers run them, or why they do not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from codecascade.types import Plan, PlanStep

from codecascade_build.errors import BuildError
from codecascade_build.gpu_plan.memory import GIB, gib, tier_memory, usable_bytes, whole_blocks
from codecascade_build.gpu_plan.placement import MOST_GPUS, Copy, Need, Placement, first_copies, largest_first, place
from codecascade_build.gpus import Gpu, gpu
from codecascade_build.quantization import check_settings
from codecascade_build.recipes import GpuRuntime, GpuTier, Recipe, Runtime

COMPLETION_TOKENS = 128
"""Generated tokens of one solution or test sample, where nobody says; with the same figure for every tier only ratios count."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """GPUs of one kind in one machine."""

    kind: Gpu
    count: int

    @property
    def usable(self) -> int:
        """Bytes of each GPU that tiers may take."""
        return usable_bytes(self.kind.memory_bytes)

    def __str__(self) -> str:
        return f"{self.count} × {self.kind.title}"


@dataclass(frozen=True, slots=True)
class Figure:
    """A number and its source, in a word or two."""

    value: float
    source: str


@dataclass(frozen=True, slots=True)
class Demand:
    """What requests ask of one tier."""

    reach: Figure
    """The share of the requests that it sees."""
    tokens: Figure
    """Tokens that it generates for a request that it sees."""
    speed: Figure
    """Tokens per second of one copy; unless it was given, only its ratio to the other tiers' means something."""

    @property
    def load(self) -> float:
        """Seconds of its GPUs per request."""
        return self.reach.value * self.tokens.value / self.speed.value


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the person who plans knows."""

    plan: Plan | None = None
    """Place only the tiers of this plan."""
    plan_reach: Mapping[str, float] = field(default_factory=dict)
    """Tier → reach, as a searched plan file has it."""
    tiers: tuple[str, ...] = ()
    """Place only these tiers; none for all."""
    reach: Mapping[str, float] = field(default_factory=dict)
    tokens: Mapping[str, float] = field(default_factory=dict)
    speed: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlannedTier:
    """A tier with what it needs, and why."""

    name: str
    settings: GpuRuntime
    demand: Demand
    need: Need


@dataclass(frozen=True, slots=True)
class Server:
    """One tritonserver."""

    name: str
    ranks: int
    """MPI processes of its one engine; 0 if its engines are all inside the server's process."""
    copies: tuple[Copy, ...]


@dataclass(frozen=True, slots=True)
class GpuPlan:
    """Tiers, small to large, on the GPUs of a fleet."""

    family: str
    fleet: Fleet
    tiers: tuple[PlannedTier, ...]
    placement: Placement
    servers: tuple[Server, ...]

    @property
    def requests_per_s(self) -> float | None:
        """What the busiest GPU lets through; None unless every tier's speed was given."""
        given = all(tier.demand.speed.source == "given" for tier in self.tiers)
        return 1e9 / max(self.placement.busy) if given else None


def parse_fleet(text: str) -> Fleet:
    """`2xa100`. Raises BuildError."""
    count, times, kind = text.partition("x")
    if not times or not count.isascii() or not count.isdigit() or not 1 <= int(count) <= MOST_GPUS:
        raise BuildError(f"--gpus is {text!r}; a number from 1 to {MOST_GPUS}, an x and a kind of GPU are needed: 2xa100.")
    return Fleet(gpu(kind), int(count))


def plan_gpus(recipe: Recipe, fleet: Fleet, wishes: Wishes, runtime: Runtime = "tensorrt_llm") -> GpuPlan:
    """Raises BuildError: one sentence that names the tier that does not fit, what it needs and what there is."""
    tiers = _tiers(recipe, fleet.kind, wishes, runtime)
    placement = place([tier.need for tier in tiers], fleet.count, fleet.usable)
    if placement is None:
        raise BuildError(_refusal([tier.need for tier in tiers], fleet))
    return GpuPlan(recipe.family, fleet, tiers, placement, servers_of(placement, tiers))


def servers_of(placement: Placement, tiers: Sequence[PlannedTier]) -> tuple[Server, ...]:
    """One server for the first copies of the tiers on one GPU, one for the further copies of each GPU, and one for each copy of
    a tensor-parallel tier, whose ranks are one MPI world.
    """
    first: list[Copy] = []
    further: dict[int, list[Copy]] = {}
    parallel: list[Copy] = []
    for tier in tiers:
        copies = placement.of(tier.name)
        if tier.settings.tensor_parallel > 1:
            parallel += copies
            continue
        first.append(copies[0])
        for copy in copies[1:]:
            further.setdefault(copy.gpus[0], []).append(copy)
    groups = [first, *(further[number] for number in sorted(further)), *([copy] for copy in parallel)]
    return tuple(
        Server(f"server-{number}", len(copies[0].gpus) if copies[0] in parallel else 0, tuple(copies))
        for number, copies in enumerate(filter(None, groups), start=1)
    )


def _tiers(recipe: Recipe, kind: Gpu, wishes: Wishes, runtime: Runtime) -> tuple[PlannedTier, ...]:
    known = [tier.name for tier in recipe.tiers]
    steps = {step.tier: step for step in wishes.plan.steps} if wishes.plan else {}
    asked = wishes.plan.tiers if wishes.plan else ()
    options = {"plan": asked, "tier": wishes.tiers, "reach": wishes.reach, "tokens": wishes.tokens, "speed": wishes.speed}
    for option, names in options.items():
        for name in names:
            if name not in known:
                raise BuildError(f"--{option} names tier {name!r}; {recipe.family} has {', '.join(known)}.")
    wanted = [name for name in known if (not asked or name in asked) and (not wishes.tiers or name in wishes.tiers)]
    if not wanted:
        raise BuildError(f"The plan and --tier have no tier in common: the plan asks {', '.join(asked)}.")
    tiers = [tier.on_gpu(kind.name, runtime) for tier in recipe.choose(wanted)]
    weights = {tier.name: tier_memory(tier.checkpoint.architecture, tier.settings).weights for tier in tiers}
    # A token reads the weights once: speed × weights is the mean of the tiers whose speed is given, or anything.
    products = [wishes.speed[tier.name] * weights[tier.name] for tier in tiers if tier.name in wishes.speed]
    per_byte = sum(products) / len(products) if products else float(GIB)
    first = asked[0] if asked else None
    return tuple(
        _planned(tier, kind, _demand(wishes, steps.get(tier.name), tier.name, tier.name == first, per_byte / weights[tier.name]))
        for tier in tiers
    )


def _planned(tier: GpuTier, kind: Gpu, demand: Demand) -> PlannedTier:
    settings, architecture = tier.settings, tier.checkpoint.architecture
    try:
        check_settings(architecture, settings, kind)
    except BuildError as error:
        raise BuildError(f"Tier {tier.name}: {error}") from error
    need = Need(
        tier=tier.name,
        tensor_parallel=settings.tensor_parallel,
        memory=tier_memory(architecture, settings),
        kv_cache_tokens=whole_blocks(settings.kv_cache_tokens),
        most_kv_cache_tokens=whole_blocks(max(settings.kv_cache_tokens, settings.max_batch_size * settings.context_tokens)),
        load=round(demand.load * 1e9),
    )
    return PlannedTier(tier.name, settings, demand, need)


def _demand(wishes: Wishes, step: PlanStep | None, tier: str, first: bool, speed: float) -> Demand:
    samples = 2 * step.k if step and step.k else 1  # k solutions and k test samples
    reach = Figure(wishes.plan_reach[tier], "plan file") if tier in wishes.plan_reach else None
    return Demand(
        reach=_given(wishes.reach, tier) or reach or Figure(1.0, "first tier" if first else "assumed"),
        tokens=_given(wishes.tokens, tier) or Figure(samples * COMPLETION_TOKENS, "assumed"),
        speed=_given(wishes.speed, tier) or Figure(speed, "assumed"),
    )


def _given(figures: Mapping[str, float], tier: str) -> Figure | None:
    return Figure(figures[tier], "given") if tier in figures else None


def _refusal(needs: Sequence[Need], fleet: Fleet) -> str:
    """Names a tier that does not fit alone, or else the first that does not fit beside the larger ones."""
    ordered = largest_first(needs)
    tries = [*([need] for need in ordered), *(ordered[: number + 1] for number in range(len(ordered)))]
    *before, need = next(tried for tried in tries if next(first_copies(tried, fleet.count, fleet.usable), None) is None)
    beside = f" beside {' and '.join(f'{tier.tier} ({_share(tier)})' for tier in before)}" if before else ""
    return (
        f"Tier {need.tier} does not fit on {fleet}: it needs {_share(need)}{beside}; "
        f"the GPUs have {fleet.count} × {gib(fleet.usable)} to give."
    )


def _share(need: Need) -> str:
    group = f"each of {need.tensor_parallel} GPUs for itself" if need.tensor_parallel > 1 else "a GPU"
    return f"{gib(need.least_bytes)} of {group}"
