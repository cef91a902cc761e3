"""A GPU plan in words and figures: tables for people, Markdown for the documentation, JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from codecascade_build.gpu_plan.memory import GIB
from codecascade_build.gpu_plan.plan import COMPLETION_TOKENS, GpuPlan, GpuTier, gib


@dataclass(frozen=True, slots=True)
class Sheet:
    """left: how many of the columns are text."""

    title: str
    left: int
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class GpuFill:
    """Bytes of one GPU: weights, runtime, caches, reserve and free add up to memory. busy: compared with the busiest."""

    id: int
    tiers: tuple[str, ...]
    memory: int
    weights: int
    runtime: int
    kv_caches: int
    reserve: int
    free: int
    busy: float


def fill(plan: GpuPlan) -> tuple[GpuFill, ...]:
    busiest = max(plan.placement.busy.values())
    filled = []
    for device in plan.fleet.devices:
        here = [(plan.tier(copy.tier).need.memory, copy) for copy in plan.placement.copies if device.id in copy.gpus]
        weights = sum(memory.weights for memory, _ in here)
        runtime = sum(memory.runtime for memory, _ in here)
        caches = sum(memory.kv_token * copy.kv_cache_tokens for memory, copy in here)
        filled.append(
            GpuFill(
                id=device.id,
                tiers=tuple(copy.tier for _, copy in here),
                memory=device.memory_bytes,
                weights=weights,
                runtime=runtime,
                kv_caches=caches,
                reserve=device.memory_bytes - device.usable_bytes,
                free=device.usable_bytes - weights - runtime - caches,
                busy=plan.placement.busy[device.id] / busiest if busiest else 0.0,
            )
        )
    return tuple(filled)


def tier_sheet(plan: GpuPlan) -> Sheet:
    columns = ("tier", "GPUs", "TP", "quantization", "weights", "runtime", "KV tokens", "KV cache", "copies", "reach", "load")
    return Sheet("Each tier, GiB on each of its GPUs", 2, columns, tuple(_tier_row(plan, tier) for tier in plan.tiers))


def gpu_sheet(plan: GpuPlan) -> Sheet:
    columns = ("GPU", "tiers", "weights", "runtime", "KV caches", "reserve", "free", "full", "busy")
    rows = tuple(
        (
            str(gpu.id),
            ", ".join(gpu.tiers) or "–",
            *(f"{count / GIB:.1f}" for count in (gpu.weights, gpu.runtime, gpu.kv_caches, gpu.reserve, gpu.free)),
            f"{1 - gpu.free / gpu.memory:.0%}",
            f"{gpu.busy:.0%}",
        )
        for gpu in fill(plan)
    )
    return Sheet("Each GPU, GiB", 2, columns, rows)


def servers_in_words(plan: GpuPlan) -> str:
    if len(plan.servers) == 1 and not plan.servers[0].ranks:
        return "One server, each tier on its GPU by gpu_device_ids."
    words = []
    for server in plan.servers:
        held = " + ".join(f"{copy.tier} on {', '.join(map(str, copy.gpus))}" for copy in server.copies)
        words.append(f"{server.name} holds {held}" + (f" ({server.ranks} MPI ranks)" if server.ranks else ""))
    return f"{len(plan.servers)} server{'s' if len(plan.servers) > 1 else ''}: {'; '.join(words)}."


def assumptions(plan: GpuPlan) -> list[str]:
    """What was not given. One sentence each."""
    words = {
        "reach": "every request reaches {}",
        "tokens": "a solution or test sample of {} has " + f"{COMPLETION_TOKENS} tokens",
        "speed": "the speed of {} is in proportion to 1 ÷ bytes of weights on a GPU",
    }
    assumed = {figure: [tier.name for tier in plan.tiers if getattr(tier.demand, figure).source == "assumed"] for figure in words}
    return [
        f"Assumed: {words[figure].format('every tier' if len(tiers) == len(plan.tiers) else ', '.join(tiers))}."
        for figure, tiers in assumed.items()
        if tiers
    ]


def throughput(plan: GpuPlan) -> str | None:
    if not plan.measured:
        return None
    return f"The busiest GPU lets {plan.requests_per_s:.3g} requests per second through."


def print_plan(plan: GpuPlan, console: Console) -> None:
    console.print(f"{plan.family} on {plan.fleet}, {gib(plan.fleet.kind.memory_bytes)} each", markup=False)
    for sheet in (tier_sheet(plan), gpu_sheet(plan)):
        rows = Table(title=sheet.title, title_justify="left", box=None, pad_edge=False)
        for number, column in enumerate(sheet.columns):
            rows.add_column(column, justify="left" if number < sheet.left else "right", no_wrap=number != 1)
        for row in sheet.rows:
            rows.add_row(*row)
        console.print()
        console.print(rows)
    console.print()
    for sentence in filter(None, (servers_in_words(plan), throughput(plan), *assumptions(plan))):
        console.print(sentence, markup=False)


def markdown(plan: GpuPlan) -> str:
    """The tiers' table and the servers."""
    sheet = tier_sheet(plan)
    rule = [" --- " if number < sheet.left else " ---: " for number in range(len(sheet.columns))]
    lines = [_line(sheet.columns), f"|{'|'.join(rule)}|", *(_line(row) for row in sheet.rows)]
    return "\n".join([*lines, "", servers_in_words(plan)])


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
                **{name: asdict(getattr(tier.demand, name)) for name in ("reach", "tokens", "speed")},
                "load": tier.demand.load / _all_load(plan),
                "copies": [
                    {"gpu_device_ids": list(copy.gpus), "kv_cache_tokens": copy.kv_cache_tokens}
                    for copy in plan.placement.of(tier.name)
                ],
            }
            for tier in plan.tiers
        ],
        "servers": [
            {"name": server.name, "ranks": server.ranks, "copies": [asdict(copy) for copy in server.copies]}
            for server in plan.servers
        ],
        "devices": [asdict(gpu) for gpu in fill(plan)],
        "requests_per_s": plan.requests_per_s if plan.measured else None,
        "assumptions": assumptions(plan),
    }


def _tier_row(plan: GpuPlan, tier: GpuTier) -> tuple[str, ...]:
    copies = plan.placement.of(tier.name)
    memory = tier.need.memory
    return (
        tier.name,
        "; ".join(", ".join(map(str, copy.gpus)) for copy in copies),
        str(tier.settings.tensor_parallel),
        tier.settings.quantization,
        f"{memory.weights / GIB:.1f}",
        f"{memory.runtime / GIB:.1f}",
        _each([f"{copy.kv_cache_tokens:,}" for copy in copies]),
        _each([f"{copy.kv_cache_tokens * memory.kv_token / GIB:.1f}" for copy in copies]),
        str(len(copies)),
        f"{tier.demand.reach.value:.0%}",
        f"{tier.demand.load / _all_load(plan):.0%}",
    )


def _each(figures: Sequence[str]) -> str:
    """One figure if all copies have the same."""
    return figures[0] if len(set(figures)) == 1 else "; ".join(figures)


def _all_load(plan: GpuPlan) -> float:
    return sum(tier.demand.load for tier in plan.tiers)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
