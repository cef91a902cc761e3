"""The command `bench`: which plans, which tasks, one after the other against a server, and the table of it all."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from codecascade.plans import PlanFile
from codecascade.sandbox import SandboxPool
from codecascade.types import Plan
from rich.console import Console

from codecascade_client.bench import Answered, PlanBench, run_plan, summary, write_samples
from codecascade_client.client import CascadeClient
from codecascade_client.dataset_files import Dataset
from codecascade_client.progress import RunProgress
from codecascade_client.search_tables import interval
from codecascade_client.settings import Settings
from codecascade_client.splits import split
from codecascade_client.tables import new_table

_WIDTH = 180
_SEARCHED_ONLY = "frontier-"  # plans that are run only when they are asked for by name


def held_out_tasks(file: PlanFile, dataset: Dataset) -> Sequence[str]:
    """The tasks that the plans were not chosen on; all of them if the plans were not searched."""
    tasks = list(dataset.tasks)
    found = file.provenance.get("split")
    return split(tasks, found["seed"], found["fraction"]).test if found else tasks


async def bench_plans(
    settings: Settings,
    file: PlanFile,
    names: Sequence[str] | None,
    dataset: Dataset,
    *,
    limit: int | None,
    concurrency: int,
    seed: int,
    out: Path,
) -> list[PlanBench]:
    """Run the plans and print what came of them. Raises RequestFailed, SandboxUnavailable, InvalidRequest, RecordingError."""
    plans = chosen_plans(file, names)
    tasks = held_out_tasks(file, dataset)[:limit]
    results = []
    async with CascadeClient.from_settings(settings) as client, SandboxPool(workers=os.cpu_count() or 1) as pool:
        for plan in plans:
            with RunProgress(plan.name, len(tasks)) as progress:

                def on_answer(found: Answered, progress: RunProgress = progress) -> None:
                    tokens = sum(found.trace["cost"]["completion_tokens"].values())
                    progress.advance(
                        1, tokens, f"{found.task_id} {'right' if found.passed else 'wrong'}, {found.latency_s:.1f} s"
                    )

                answers = await run_plan(
                    client,
                    plan.name,
                    dataset,
                    tasks,
                    pool,
                    concurrency=concurrency,
                    seed=seed,
                    timeout_s=settings.timeout_s,
                    on_answer=on_answer,
                )
            write_samples(answers, dataset, out / f"{plan.name}.samples.jsonl")
            results.append(summary(plan, answers, file.promises.get(plan.name)))
    print_bench(results)
    return results


def chosen_plans(file: PlanFile, names: Sequence[str] | None) -> list[Plan]:
    """Raises InvalidRequest for a name that the file does not have."""
    return [file.choose(name) for name in names or [name for name in file.plans if not name.startswith(_SEARCHED_ONLY)]]


def print_bench(results: Sequence[PlanBench]) -> None:
    """On stdout."""
    out = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    rows = new_table(
        "plan", right=("tasks", "pass@1", "95 %", "promised", "kept", "$/1000", "promised", "tokens", "p50 s", "p95 s", "p99 s")
    )
    for found in results:
        accuracy, cost = _promised(found)
        rows.add_row(
            found.plan,
            str(found.tasks),
            f"{found.accuracy.mean:.1%}",
            interval(found.accuracy),
            accuracy,
            "–" if found.kept is None else ("yes" if found.kept else "no"),
            f"{found.usd_per_1000:.4f}",
            cost,
            f"{found.tokens:,.0f}",
            *(f"{found.latency_s[percent]:.1f}" for percent in (50, 95, 99)),
        )
    out.print(rows)
    use = new_table("plan", "tier", right=("asked", "accepted", "of these wrong"))
    for found in results:
        for tier, counts in found.tiers.items():
            use.add_row(found.plan, tier, str(counts.asked), str(counts.accepted), str(counts.accepted_wrong))
    out.print(use)


def _promised(found: PlanBench) -> tuple[str, str]:
    if found.promised is None:
        return "–", "–"
    accuracy, cost = found.promised["accuracy"], found.promised["usd_per_1000"]
    return f"{accuracy['low']:.1%} to {accuracy['high']:.1%}", f"{cost['mean']:.4f}"
