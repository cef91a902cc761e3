"""A GPU plan in words and figures: tables for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from codecascade_build.gpu_plan.memory import GIB, gib
from codecascade_build.gpu_plan.plan import COMPLETION_TOKENS, GpuPlan, PlannedTier

_TIER_COLUMNS = ("tier", "GPUs", "TP", "quantization", "weights", "runtime", "KV tokens", "KV cache", "copies", "reach", "load")
_GPU_COLUMNS = ("GPU", "tiers", "weights", "runtime", "KV caches", "reserve", "free", "full", "busy")
_ASSUMED = {
    "reach": "every request reaches {}",
    "tokens": "a solution or test sample of {} has " + f"{COMPLETION_TOKENS} tokens",
    "speed": "the speed of {} is in proportion to 1 ÷ bytes of weights on a GPU",
}


@dataclass(frozen=True, slots=True)
class GpuFill:
    """Bytes of one GPU: weights, runtime, caches, reserve and free add up to memory."""

    id: int
    tiers: tuple[str, ...]
    memory: int
    weights: int
    runtime: int
    kv_caches: int
    reserve: int
    free: int
    busy: float
    """Compared with the busiest GPU."""


def fill(plan: GpuPlan) -> tuple[GpuFill, ...]:
    return tuple(_fill(plan, gpu) for gpu in range(plan.fleet.count))


def print_plan(plan: GpuPlan, console: Console) -> None:
    console.print(f"{plan.family} on {plan.fleet}, {gib(plan.fleet.kind.memory_bytes)} each", markup=False)
    _print_table(console, "Each tier, GiB on each of its GPUs", _TIER_COLUMNS, [_tier_row(plan, tier) for tier in plan.tiers])
    _print_table(console, "Each GPU, GiB", _GPU_COLUMNS, [_gpu_row(gpu) for gpu in fill(plan)])
    console.print()
    console.print(servers_in_words(plan), markup=False)
    if plan.requests_per_s is not None:
        console.print(f"The busiest GPU lets {plan.requests_per_s:.3g} requests per second through.", markup=False)
    for sentence in assumptions(plan):
        console.print(sentence, markup=False)


def servers_in_words(plan: GpuPlan) -> str:
    if len(plan.servers) == 1 and not plan.servers[0].ranks:
        return "One server, each tier on its GPU by gpu_device_ids."
    words = []
    for server in plan.servers:
        held = " + ".join(f"{copy.tier} on {', '.join(map(str, copy.gpus))}" for copy in server.copies)
        words.append(f"{server.name} holds {held}" + (f" ({server.ranks} MPI ranks)" if server.ranks else ""))
    return f"{len(plan.servers)} server{'s' if len(plan.servers) > 1 else ''}: {'; '.join(words)}."


def assumptions(plan: GpuPlan) -> list[str]:
    """One sentence for each kind of figure that was not given."""
    sentences = []
    for figure, words in _ASSUMED.items():
        tiers = [tier.name for tier in plan.tiers if getattr(tier.demand, figure).source == "assumed"]
        if tiers:
            sentences.append(f"Assumed: {words.format('every tier' if len(tiers) == len(plan.tiers) else ', '.join(tiers))}.")
    return sentences


def document(plan: GpuPlan) -> dict[str, Any]:
    """For json.dumps."""
    return {
        "family": plan.family,
        "gpus": {"kind": plan.fleet.kind.name, "count": plan.fleet.count},
        "tiers": [
            {
                "name": tier.name,
                "tensor_parallel": tier.settings.tensor_parallel,
                "quantization": tier.settings.quantization,
                "weights_bytes": tier.need.memory.weights,
                "runtime_bytes": tier.need.memory.runtime,
                "kv_token_bytes": tier.need.memory.kv_token,
                **asdict(tier.demand),
                "load": _share_of_load(plan, tier),
                "copies": [
                    {"gpu_device_ids": list(copy.gpus), "kv_cache_tokens": copy.kv_cache_tokens}
                    for copy in plan.placement.of(tier.name)
                ],
            }
            for tier in plan.tiers
        ],
        "servers": [asdict(server) for server in plan.servers],
        "devices": [asdict(gpu) for gpu in fill(plan)],
        "requests_per_s": plan.requests_per_s,
        "assumptions": assumptions(plan),
    }


def _print_table(console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < 2 else "right", no_wrap=number != 1)
    for row in rows:
        table.add_row(*row)
    console.print()
    console.print(table)


def _tier_row(plan: GpuPlan, tier: PlannedTier) -> tuple[str, ...]:
    copies = plan.placement.of(tier.name)
    memory = tier.need.memory
    return (
        tier.name,
        "; ".join(", ".join(map(str, copy.gpus)) for copy in copies),
        str(tier.settings.tensor_parallel),
        tier.settings.quantization,
        f"{memory.weights / GIB:.1f}",
        f"{memory.runtime / GIB:.1f}",
        _once_if_equal([f"{copy.kv_cache_tokens:,}" for copy in copies]),
        _once_if_equal([f"{copy.kv_cache_tokens * memory.kv_token / GIB:.1f}" for copy in copies]),
        str(len(copies)),
        f"{tier.demand.reach.value:.0%}",
        f"{_share_of_load(plan, tier):.0%}",
    )


def _gpu_row(gpu: GpuFill) -> tuple[str, ...]:
    return (
        str(gpu.id),
        ", ".join(gpu.tiers) or "–",
        *(f"{count / GIB:.1f}" for count in (gpu.weights, gpu.runtime, gpu.kv_caches, gpu.reserve, gpu.free)),
        f"{1 - gpu.free / gpu.memory:.0%}",
        f"{gpu.busy:.0%}",
    )


def _fill(plan: GpuPlan, gpu: int) -> GpuFill:
    memories = {tier.name: tier.need.memory for tier in plan.tiers}
    here = [copy for copy in plan.placement.copies if gpu in copy.gpus]
    weights = sum(memories[copy.tier].weights for copy in here)
    runtime = sum(memories[copy.tier].runtime for copy in here)
    caches = sum(memories[copy.tier].kv_token * copy.kv_cache_tokens for copy in here)
    memory, usable, busiest = plan.fleet.kind.memory_bytes, plan.fleet.usable, max(plan.placement.busy)
    return GpuFill(
        id=gpu,
        tiers=tuple(copy.tier for copy in here),
        memory=memory,
        weights=weights,
        runtime=runtime,
        kv_caches=caches,
        reserve=memory - usable,
        free=usable - weights - runtime - caches,
        busy=plan.placement.busy[gpu] / busiest if busiest else 0.0,
    )


def _once_if_equal(figures: Sequence[str]) -> str:
    return figures[0] if len(set(figures)) == 1 else "; ".join(figures)


def _share_of_load(plan: GpuPlan, tier: PlannedTier) -> float:
    return tier.demand.load / sum(other.demand.load for other in plan.tiers)
