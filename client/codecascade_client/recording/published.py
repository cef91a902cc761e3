"""The paper's published runs as a recording, and its published plans, which check replay."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codecascade.types import Plan, PlanStep

from codecascade_client.datasets.load import HUMANEVAL, load_dataset
from codecascade_client.errors import RecordingError, reason
from codecascade_client.recording.published_prices import PUBLISHED
from codecascade_client.recording.recording import (
    GREEDY,
    PUBLISHED_LINES,
    Draw,
    PublishedStep,
    RecordedSample,
    RecordingManifest,
    StepOption,
    Unit,
)
from codecascade_client.recording.store import RecordingFolder, create_recording

FAMILY = "wizardcoder-python"
TIERS = {"7B": f"{FAMILY}-7b", "13B": f"{FAMILY}-13b", "34B": f"{FAMILY}-34b"}  # as published → as in the recipe, small to large
_SKIPPED = -1  # in the columns k1, k2, k3
_PLAN_FILE = re.compile(r"(?:full|(?P<seed>\d+)_(?P<part>val|test))_threshold(?P<threshold>\d+(?:\.\d+)?)\.csv")
_IMPORTS = "import math\nfrom typing import List, Tuple\n\n"  # what the authors ran each solution with


@dataclass(frozen=True, slots=True)
class PublishedPlan:
    """A row of a plan file."""

    plan: Plan
    cost: float  # dollars per 1,000 tasks
    accuracy: float  # percent
    line: int  # of the file


@dataclass(frozen=True, slots=True)
class PlanTable:
    """A plan file."""

    path: Path
    part: str  # "full", or the "val" or "test" tasks of a split
    seed: int  # of the split
    plans: tuple[PublishedPlan, ...]


def import_published(source: Path, destination: Path, *, stages: bool) -> RecordingFolder:
    """Make a recording of published runs: of the authors' scores (stages), or of samples, which have to be judged.

    Raises RecordingError if the source lacks a file or a column, or the destination is in use.
    """
    path = source / ("stages.csv.gz" if stages else "samples.jsonl.gz")
    if stages:
        scored = read_stages(path)
        folder = create_recording(destination, _manifest(path, {unit for unit, _ in scored}))
        with folder.writing():
            folder.add_stages(scored)
        return folder
    draws = read_draws(path)
    folder = create_recording(destination, _manifest(path, set(draws)))
    with folder.writing():
        folder.add_draws(draws)
    return folder


def read_stages(path: Path) -> dict[tuple[Unit, StepOption], PublishedStep]:
    """The authors' table of scored steps. Raises RecordingError."""
    with _reading(path), gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return dict(_published_step(row) for row in csv.DictReader(file))


def read_draws(path: Path) -> dict[Unit, Draw]:
    """Every published completion. Raises RecordingError."""
    solutions: dict[Unit, dict[int, RecordedSample]] = {}
    tests: dict[Unit, dict[int, RecordedSample]] = {}
    names = {task_id: task.entry_point for task_id, task in load_dataset(HUMANEVAL).tasks.items()}
    with _reading(path), gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            unit = _unit(row)
            kind, sample = (solutions, _solution(row)) if row["kind"] == "solution" else (tests, _tests(row, names))
            kind.setdefault(unit, {})[row["sample"]] = sample
    return {
        unit: Draw(_in_order(samples), _by_asked_lines(_in_order(tests.get(unit, {})))) for unit, samples in solutions.items()
    }


def read_plan_tables(source: Path) -> list[PlanTable]:
    """Every plan file of a folder of published runs. Raises RecordingError if there is none, or one cannot be read."""
    paths = sorted((source / "plans").glob("*.csv"))
    if not paths:
        raise RecordingError(f"{source / 'plans'} holds no plan files (full_threshold….csv)")
    return [_plan_table(path) for path in paths]


def _plan_table(path: Path) -> PlanTable:
    name = _PLAN_FILE.fullmatch(path.name)
    if name is None:
        raise RecordingError(f"{path} is not named as a plan file (full_threshold….csv, <seed>_val_… or <seed>_test_…)")
    with _reading(path), path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        plans = tuple(_published_plan(row, float(name["threshold"]), reader.line_num) for row in reader)
    return PlanTable(path, name["part"] or "full", int(name["seed"] or 0), plans)


def _published_plan(row: Mapping[str, str], threshold: float, line: int) -> PublishedPlan:
    steps = tuple(
        PlanStep(tier, k, int(row[f"t{place}"]) if k else 0, threshold if k else 0.0)
        for place, tier in enumerate(TIERS.values(), start=1)
        if (k := int(row[f"k{place}"])) != _SKIPPED
    )
    name = ",".join(row[column] for column in ("k1", "k2", "k3", "t1", "t2", "t3"))
    return PublishedPlan(Plan(name, steps), float(row["cost"]), float(row["accuracy"]), line)


def _published_step(row: Mapping[str, str]) -> tuple[tuple[Unit, StepOption], PublishedStep]:
    unit = _unit(row)
    step = PublishedStep(int(row["n_s"]), int(row["n_t"]), int(row["pairs"]), int(row["tokens"]), row["correct"] == "1")
    return (unit, StepOption(unit.tier, int(row["k"]), int(row["l"]))), step


def _solution(row: Mapping[str, Any]) -> RecordedSample:
    return RecordedSample(_IMPORTS + row["text"], row["tokens"])


def _tests(row: Mapping[str, Any], names: Mapping[str, str]) -> RecordedSample:
    """The text as a tier would give it: without the start that is part of the prompt."""
    cuts = {int(lines): tokens for lines, tokens in row["tokens_at"].items()}
    longest = max(cuts)
    line_tokens = tuple(cuts.get(lines) for lines in range(1, longest + 1))
    text = row["text"].removeprefix(f"assert {names[row['task']]}")
    return RecordedSample(text, cuts[longest], asked_lines=longest, line_tokens=line_tokens)


def _by_asked_lines(samples: tuple[RecordedSample, ...]) -> dict[int, tuple[RecordedSample, ...]]:
    return {samples[0].asked_lines: samples} if samples else {}


def _in_order(samples: Mapping[int, RecordedSample]) -> tuple[RecordedSample, ...]:
    return tuple(sample for _, sample in sorted(samples.items()))


def _unit(row: Mapping[str, Any]) -> Unit:
    return Unit(TIERS[row["tier"]], row["task"], _run(row["run"]))


def _run(name: Any) -> int:
    return GREEDY if name == "greedy" else int(name)


def _manifest(path: Path, units: set[Unit]) -> RecordingManifest:
    prices = PUBLISHED[FAMILY][HUMANEVAL]
    return RecordingManifest(
        family=FAMILY,
        dataset={
            "name": HUMANEVAL,
            "sha256": load_dataset(HUMANEVAL).sha256,
            "task_ids": sorted({unit.task for unit in units}, key=lambda task: int(task.rpartition("/")[2])),
        },
        tiers={tier: {"price_per_mtok": prices[published], "style": "alpaca"} for published, tier in TIERS.items()},
        settings={"lines": PUBLISHED_LINES},
        provenance={
            "source": path.name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "runs": "of arXiv 2405.15842, published by its first author: github.com/BoyuanJackChen/code_cascading_shared",
            "prices_from": "the same paper: HumanEval on RTX 3090 at $0.44 an hour each",
        },
    )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise RecordingError(f"{path} cannot be read as published runs: {reason(error)}") from error
