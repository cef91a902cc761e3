"""A plan on benchmark tasks, live. Answers are checked with the benchmark's own tests, here, in the sandbox."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codecascade.errors import InvalidRequest
from codecascade.plans import PlanFile
from codecascade.sandbox import SandboxPool
from codecascade.types import Verdict

from codecascade_client.client import AsyncCascadeClient
from codecascade_client.datasets.humaneval import TESTS_CPU_S, BenchmarkTask
from codecascade_client.datasets.load import HUMANEVAL
from codecascade_client.estimate import Estimate
from codecascade_client.together import together


@dataclass(frozen=True, slots=True)
class Result:
    """What the cascade did for one task, and what the benchmark's tests say about its answer."""

    task_id: str
    program: str
    inserted: str  # the program without the prompt
    tier: str
    score: float
    cost_usd: float
    trace: Mapping[str, Any]  # as the server gives it
    verdict: Verdict
    latency_s: float

    @property
    def passed(self) -> bool:
        return self.verdict is Verdict.PASS

    @property
    def tokens(self) -> int:
        return sum(self.trace["cost"]["completion_tokens"].values())

    @property
    def asked(self) -> list[str]:
        """The tiers that were asked, in order."""
        return [step["tier"] for step in self.trace["steps"]]


def _ignore(result: Result) -> None:
    pass


async def evaluate(
    client: AsyncCascadeClient,
    tasks: Sequence[BenchmarkTask],
    plan: str | None,
    seed: int,
    timeout_s: float,
    *,
    concurrency: int = 1,
    on_result: Callable[[Result], None] = _ignore,
) -> list[Result]:
    """Ask and check every task once, `concurrency` at a time. The results are in the order of the tasks.

    plan: None for the server's default. Raises RequestFailed, SandboxUnavailable.
    """
    turn = asyncio.Semaphore(concurrency)

    async def run(task: BenchmarkTask, pool: SandboxPool) -> Result:
        async with turn:
            started = time.perf_counter()
            answer = await client.complete(
                task.prompt, timeout_s=timeout_s, entry_point=task.entry_point, plan=plan, seed=seed, return_trace=True
            )
            latency_s = time.perf_counter() - started
            verdict = await pool.run_program(task.check_program(answer.text), timeout_s=TESTS_CPU_S)
        result = Result(
            task.task_id,
            answer.text,
            answer.inserted,
            answer.tier,
            answer.score,
            answer.cost_usd,
            answer.trace or {},
            verdict,
            latency_s,
        )
        on_result(result)
        return result

    async with SandboxPool(workers=min(concurrency, os.cpu_count() or 1)) as pool:
        return await together(run(task, pool) for task in tasks)


def promise_of(file: PlanFile, plan: str | None) -> Estimate:
    """The accuracy that a searched file promises for a plan (None: the default). Raises InvalidRequest if there is none."""
    name = file.choose(plan).name
    promised = file.promise(name, HUMANEVAL)
    if promised is None:
        raise InvalidRequest(f"plan {name!r} promises nothing: it was not searched")
    return Estimate(**promised["accuracy"])
