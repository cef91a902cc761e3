"""HumanEval through a running server: each answer is checked with HumanEval's own tests, here, in the sandbox."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codecascade.errors import InvalidRequest
from codecascade.plans import PlanFile
from codecascade.sandbox import SandboxPool
from codecascade.types import Plan, Verdict

from codecascade_client.client import CascadeClient
from codecascade_client.datasets.humaneval import BenchmarkTask
from codecascade_client.estimate import Estimate
from codecascade_client.recording.recording import Recording
from codecascade_client.replay.cascade import replay

_CHECK_S = 10.0  # CPU seconds for all tests of one task


@dataclass(frozen=True, slots=True)
class Result:
    """One task: what the cascade did, and what HumanEval's tests say about its answer. trace: as the server gives it."""

    task_id: str
    tier: str
    score: float
    cost_usd: float
    trace: Mapping[str, Any]
    verdict: Verdict
    seconds: float

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


async def evaluate(
    client: CascadeClient, tasks: Sequence[BenchmarkTask], plan: str | None, seed: int, timeout_s: float
) -> list[Result]:
    """One task after the other, printing a line for each. Raises RequestFailed, SandboxUnavailable."""
    results = []
    async with SandboxPool(workers=1) as pool:
        for task in tasks:
            started = time.perf_counter()
            answer = await client.complete(task.prompt, task.entry_point, plan, seed=seed, return_trace=True, timeout_s=timeout_s)
            seconds = time.perf_counter() - started
            verdict = await pool.run_program(task.check_program(answer.text), timeout_s=_CHECK_S)
            results.append(Result(task.task_id, answer.tier, answer.score, answer.cost_usd, answer.trace or {}, verdict, seconds))
            print(f"{task.task_id}: {answer.tier}, {verdict.name.lower()}, {seconds:.1f} s", file=sys.stderr, flush=True)
    return results


async def as_recorded(results: Sequence[Result], plan: Plan, recording: Recording, run: int) -> int:
    """How many answers are what the plan gives in a recording: the same tier, tokens and verdict. Raises RecordingError."""
    same = 0
    for result in results:
        found = await replay(plan, recording, result.task_id, run)
        tokens = found.answer.trace.as_dict()["cost"]["completion_tokens"]
        same += (found.answer.tier, tokens, found.correct) == (
            result.tier,
            result.trace["cost"]["completion_tokens"],
            result.passed,
        )
    return same


def promise_of(file: PlanFile, plan: str | None) -> Estimate:
    """The accuracy that a searched file promises for a plan (None: the default). Raises InvalidRequest if there is none."""
    name = file.choose(plan).name
    if name not in file.promises:
        raise InvalidRequest(f"plan {name!r} promises nothing: it was not searched")
    return Estimate(**file.promises[name]["accuracy"])
