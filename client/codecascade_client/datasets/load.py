"""Datasets by name or file: HumanEval, MBPP, APPS, or a JSON Lines file of tasks in HumanEval's form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from codecascade.types import Task

from codecascade_client.datasets.humaneval import BenchmarkTask, humaneval
from codecascade_client.datasets.mbpp_apps import (
    APPS_COLUMNS,
    MBPP_COLUMNS,
    apps_records,
    apps_task,
    mbpp_task,
    parquet_files,
    parquet_records,
)
from codecascade_client.errors import DatasetError, reason

HUMANEVAL = "humaneval"
_REQUIRED = ("task_id", "prompt", "entry_point", "test")


@dataclass(frozen=True, slots=True)
class Dataset:
    """Benchmark tasks under a name."""

    name: str
    tasks: Mapping[str, BenchmarkTask]  # by task_id, in order

    @property
    def sha256(self) -> str:
        """A hash of everything that decides what is asked and what is right."""
        digest = hashlib.sha256()
        for task in self.tasks.values():
            digest.update(json.dumps([task.task_id, task.prompt, task.entry_point, task.test]).encode())
        return digest.hexdigest()

    def task(self, task_id: str) -> Task:
        """What a tier may see of a task."""
        return Task(self.tasks[task_id].prompt, self.tasks[task_id].entry_point)


def load_dataset(name: str) -> Dataset:
    """Load a dataset. Raises DatasetError.

    name: one of
      `humaneval`,
      `mbpp:PATH` or `apps:PATH`, as published, or as JSON Lines or Parquet from Hugging Face,
      the path of a JSON Lines file with task_id, prompt, entry_point and test (which defines `check`).
    """
    if name == HUMANEVAL:
        return Dataset(HUMANEVAL, humaneval())
    form, colon, path = name.partition(":")
    if colon and form in ("mbpp", "apps"):
        tasks = _published(Path(path), _mbpp if form == "mbpp" else _apps)
        return Dataset(form, tasks)
    return _json_lines(Path(name))


def _published(path: Path, read: Callable[[Path], list[BenchmarkTask]]) -> dict[str, BenchmarkTask]:
    tasks: dict[str, BenchmarkTask] = {}
    try:
        for task in read(path):
            if task.task_id in tasks:
                raise ValueError(f"task {task.task_id!r} is there twice")
            tasks[task.task_id] = task
    except (OSError, ValueError, TypeError, KeyError, AttributeError, SyntaxError) as error:
        raise DatasetError(f"dataset {path} cannot be read: {reason(error)}") from error
    if not tasks:
        raise DatasetError(f"dataset {path} holds no task")
    return tasks


def _mbpp(path: Path) -> list[BenchmarkTask]:
    if files := parquet_files(path):
        return [mbpp_task(record) for record in parquet_records(files, MBPP_COLUMNS)]
    text = path.read_text(encoding="utf-8")
    records = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines() if line]
    return [mbpp_task(record) for record in records]


def _apps(path: Path) -> list[BenchmarkTask]:
    files = parquet_files(path)
    records = parquet_records(files, APPS_COLUMNS) if files else apps_records(path)
    return [task for record in records if (task := apps_task(record))]


def _json_lines(path: Path) -> Dataset:
    tasks: dict[str, BenchmarkTask] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DatasetError(f"dataset {str(path)!r} is neither {HUMANEVAL} nor a file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"dataset {path} cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            task = _task(line, f"{path}, line {number}")
            if task.task_id in tasks:
                raise DatasetError(f"{path}, line {number}: task {task.task_id!r} is there twice")
            tasks[task.task_id] = task
    if not tasks:
        raise DatasetError(f"dataset {path} holds no task")
    return Dataset(path.stem, tasks)


def _task(line: str, where: str) -> BenchmarkTask:
    try:
        record = json.loads(line)
        fields = {name: record[name] for name in _REQUIRED}
    except (ValueError, TypeError) as error:
        raise DatasetError(f"{where}: not a JSON object ({error})") from error
    except KeyError as error:
        raise DatasetError(f"{where}: {error.args[0]!r} is missing") from None
    for name, value in fields.items():
        if not isinstance(value, str) or not value:
            raise DatasetError(f"{where}: {name} is {value!r}, it must be a text that is not empty")
    return BenchmarkTask(**fields, canonical_solution=str(record.get("canonical_solution", "")))
