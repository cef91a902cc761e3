"""The command `replay`: the plans of a file over a recording, through the cascade's own loop."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from codecascade.plans import PlanFile
from codecascade.recordings import Recording, RecordingError
from codecascade.types import Plan
from rich.console import Console

from codecascade_client.replay import check_recorded, replay
from codecascade_client.selection import in_words
from codecascade_client.tables import new_table
from codecascade_client.tabulate import tabulate

_WIDTH = 180


@dataclass(frozen=True, slots=True)
class ReplayedPlan:
    """A plan over all cells, a cell being one task in one run. cost_usd: per request. answered_by: cells, by tier."""

    plan: Plan
    cells: int
    right: int
    cost_usd: float
    answered_by: Mapping[str, int]


def check_same(file: PlanFile, recording: Recording) -> None:
    """Raises RecordingError unless the plans are of the recording's family and, if they were searched, of its dataset."""
    manifest = recording.manifest
    if file.family != manifest.family:
        raise RecordingError(f"the plans are of family {file.family!r}, the recording is of {manifest.family!r}")
    dataset = file.provenance.get("dataset")
    if dataset and dataset["sha256"] != manifest.dataset["sha256"]:
        raise RecordingError(
            f"the plans were searched on another dataset ({dataset['name']}) than was recorded ({manifest.dataset['name']})"
        )


async def replay_plan(plan: Plan, recording: Recording, tasks: Sequence[str], runs: Sequence[int]) -> ReplayedPlan:
    """Raises RecordingError if a step was not recorded."""
    check_recorded(plan, recording)
    found = [await replay(plan, recording, task, run) for run in runs for task in tasks]
    return ReplayedPlan(
        plan=plan,
        cells=len(found),
        right=sum(each.correct for each in found),
        cost_usd=sum(step.price_usd for each in found for step in each.answer.trace.steps) / len(found),
        answered_by=Counter(each.answer.tier for each in found),
    )


async def replay_plans(file: PlanFile, recording: Recording, names: Sequence[str] | None) -> list[ReplayedPlan]:
    """On every task that all tiers answered. Raises RecordingError, InvalidRequest for an unknown name."""
    check_same(file, recording)
    table = tabulate(recording)
    plans = [file.choose(name) for name in names or file.plans]
    return [await replay_plan(plan, recording, table.tasks, table.runs) for plan in plans]


def print_replayed(found: Sequence[ReplayedPlan]) -> None:
    """On stdout."""
    rows = new_table("plan", "steps", "answered by", right=("answers", "accuracy", "$/1000"))
    for each in found:
        answered = ", ".join(f"{tier} {count / each.cells:.0%}" for tier, count in each.answered_by.items())
        figures = (str(each.cells), f"{each.right / each.cells:.1%}", f"{1e3 * each.cost_usd:.4f}")
        rows.add_row(each.plan.name, in_words(each.plan), answered, *figures)
    Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH).print(rows)
