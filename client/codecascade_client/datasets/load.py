"""Datasets by name or file: HumanEval, MBPP, APPS, or a JSON Lines file of tasks in HumanEval's form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codecascade.types import Task

from codecascade_client.datasets.apps import apps_id, apps_records, apps_task
from codecascade_client.datasets.humaneval import BenchmarkTask, humaneval
from codecascade_client.datasets.infills import infills
from codecascade_client.datasets.mbpp import MBPP_COLUMNS, mbpp_task
from codecascade_client.datasets.records import json_lines, read_json, read_text, records
from codecascade_client.datasets.usable import left_out_in_words, why_unusable
from codecascade_client.errors import DatasetError, reason

HUMANEVAL = "humaneval"
_INFILL = "infill:"
_REQUIRED = ("task_id", "prompt", "entry_point", "test")
_ODD = (ValueError, TypeError, KeyError, AttributeError, IndexError, SyntaxError, RecursionError)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Benchmark tasks under a name."""

    name: str
    tasks: Mapping[str, BenchmarkTask]  # by task_id, in order
    left_out: Mapping[str, str] = field(default_factory=dict)  # why, by task_id or by place in the file

    @property
    def sha256(self) -> str:
        """A hash of everything that decides what is asked and what is right."""
        digest = hashlib.sha256()
        for task in self.tasks.values():
            setup = [task.setup] if task.setup else []
            suffix = [task.suffix] if task.source else []
            digest.update(json.dumps([task.task_id, task.prompt, task.entry_point, task.test, *setup, *suffix]).encode())
        return digest.hexdigest()

    @property
    def left_out_sentence(self) -> str | None:
        """How many tasks are left out, and the first of them by name. None if none is."""
        if not self.left_out:
            return None
        count = len(self.left_out)
        tasks = "task is" if count == 1 else "tasks are"
        return f"{self.name}: {count:,} {tasks} left out ({left_out_in_words(self.left_out)})"

    def task(self, task_id: str) -> Task:
        """What a tier may see of a task."""
        task = self.tasks[task_id]
        if task.source:
            return Task(task.prompt, task.entry_point, task.suffix, infill=True, one_line=task.kind == "single-line")
        return Task(task.prompt, task.entry_point)


def load_dataset(name: str) -> Dataset:
    """Load a dataset. Records that are no task and tasks that the sandbox cannot judge are left out. Raises DatasetError.

    name: one of
      `humaneval`,
      `mbpp:PATH` or `apps:PATH`, as published, or as JSON Lines or Parquet from Hugging Face,
      the path of a JSON Lines file with task_id, prompt, entry_point and test (which defines `check`),
      `infill:NAME`, infills made from the own solutions of any of these.
    """
    if name.startswith(_INFILL):
        source = load_dataset(name.removeprefix(_INFILL))
        return _checked(Dataset(_INFILL + source.name, infills(source.tasks), source.left_out), Path(name))
    if name == HUMANEVAL:
        return Dataset(HUMANEVAL, humaneval())
    form, colon, path = name.partition(":")
    if colon and form == "mbpp":
        return _published("mbpp", Path(path), records(Path(path), MBPP_COLUMNS), mbpp_task, lambda record: record.get("task_id"))
    if colon and form == "apps":
        return _published("apps", Path(path), apps_records(Path(path)), apps_task, apps_id)
    return _own(Path(name))


def _published(
    name: str,
    path: Path,
    entries: Iterable[tuple[str, Mapping[str, Any] | ValueError]],
    read: Callable[[Mapping[str, Any]], BenchmarkTask | None],
    id_of: Callable[[Mapping[str, Any]], object],
) -> Dataset:
    tasks: dict[str, BenchmarkTask] = {}
    left_out: dict[str, str] = {}
    try:
        for place, record in entries:
            label = place
            try:
                if isinstance(record, ValueError):
                    raise record
                number = id_of(record)
                label = place if number is None else f"{name.upper()}/{number}"
                task = read(record)
            except _ODD as error:
                left_out[_unused(label, place, left_out)] = reason(error) if str(error) else type(error).__name__
                continue
            if task:
                _add(task, tasks, left_out)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DatasetError(f"dataset {path} cannot be read: {reason(error)}") from error
    return _checked(Dataset(name, tasks, left_out), path)


def _add(task: BenchmarkTask, tasks: dict[str, BenchmarkTask], left_out: dict[str, str]) -> None:
    if task.task_id in tasks:
        raise ValueError(f"task {task.task_id!r} is there twice")
    if why := why_unusable(task):
        left_out[task.task_id] = why
    else:
        tasks[task.task_id] = task


def _unused(label: str, place: str, left_out: Mapping[str, str]) -> str:
    label = label.encode("utf-8", "backslashreplace").decode()
    return f"{label} ({place})" if label in left_out else label


def _checked(dataset: Dataset, path: Path) -> Dataset:
    if not dataset.tasks:
        why = f" that can be used ({left_out_in_words(dataset.left_out)})" if dataset.left_out else ""
        raise DatasetError(f"dataset {path} holds no task{why}")
    return dataset


def _own(path: Path) -> Dataset:
    tasks: dict[str, BenchmarkTask] = {}
    left_out: dict[str, str] = {}
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise DatasetError(f"dataset {str(path)!r} is neither {HUMANEVAL} nor a file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"dataset {path} cannot be read: {error}") from error
    for number, line in json_lines(text):
        where = f"{path}, line {number}"
        try:
            _add(_task(line, where), tasks, left_out)
        except ValueError as error:
            raise DatasetError(f"{where}: {error}") from error
    return _checked(Dataset(path.stem, tasks, left_out), path)


def _task(line: str, where: str) -> BenchmarkTask:
    try:
        record = read_json(line)
        fields = {name: record[name] for name in _REQUIRED}
    except (ValueError, TypeError, RecursionError) as error:
        raise DatasetError(f"{where}: not a JSON object ({error})") from error
    except KeyError as error:
        raise DatasetError(f"{where}: {error.args[0]!r} is missing") from None
    for name, value in fields.items():
        if not isinstance(value, str) or not value:
            raise DatasetError(f"{where}: {name} is {value!r}, it must be a text that is not empty")
    solution = record.get("canonical_solution")
    return BenchmarkTask(**fields, canonical_solution=solution if isinstance(solution, str) else "")
