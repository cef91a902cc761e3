"""Small datasets for tests, and what the sandbox says of answers to them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codecascade.sandbox import SandboxPool
from codecascade.types import Verdict
from codecascade_client.datasets.humaneval import TESTS_CPU_S, BenchmarkTask
from codecascade_client.datasets.load import Dataset, load_dataset


def load(form: str, folder: Path, records: Sequence[dict[str, Any]]) -> Dataset:
    path = folder / f"{form}.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return load_dataset(f"{form}:{path}")


def only_task(form: str, folder: Path, record: dict[str, Any]) -> BenchmarkTask:
    (task,) = load(form, folder, [record]).tasks.values()
    return task


async def judge(task: BenchmarkTask, *programs: str) -> list[Verdict]:
    async with SandboxPool(workers=1) as pool:
        return [await pool.run_program(task.check_program(program), timeout_s=TESTS_CPU_S) for program in programs]
