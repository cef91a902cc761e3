"""Whether a dataset's own solutions pass its own tests, in the sandbox and within the limits that answers are judged in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from codecascade.sandbox import SandboxPool
from codecascade.types import Verdict

from codecascade_client.datasets.humaneval import TESTS_CPU_S
from codecascade_client.datasets.load import Dataset

_BATCH = 32  # tasks between two reports of progress


def own_programs(dataset: Dataset) -> dict[str, str]:
    """Each task's canonical solution with the task's tests, by task_id, where the dataset has a solution."""
    programs = {}
    for task_id, task in dataset.tasks.items():
        if own := task.own_program():
            programs[task_id] = task.check_program(own)
    return programs


async def judge_own(programs: Mapping[str, str], pool: SandboxPool, on_tasks: Callable[[int], None]) -> dict[str, Verdict]:
    """A verdict for each program, by its task_id. Raises SandboxUnavailable."""
    verdicts: dict[str, Verdict] = {}
    names = list(programs)
    for start in range(0, len(names), _BATCH):
        batch = names[start : start + _BATCH]
        ran = await asyncio.gather(*(pool.run_program(programs[name], timeout_s=TESTS_CPU_S) for name in batch))
        verdicts.update(zip(batch, ran, strict=True))
        on_tasks(len(batch))
    return verdicts
