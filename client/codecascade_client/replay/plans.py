"""The plans of a file over a recording, through the cascade's own loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from codecascade.plans import PlanFile
from codecascade.types import Plan

from codecascade_client.errors import RecordingError
from codecascade_client.recording.recording import Recording
from codecascade_client.replay.cascade import check_recorded, replay
from codecascade_client.replay.table import tabulate


@dataclass(frozen=True, slots=True)
class ReplayedPlan:
    """What a plan gives over a recording. A cell is one task in one run."""

    plan: Plan
    cells: int
    right: int  # cells
    cost_usd: float  # per request
    answered_by: Mapping[str, int]  # tier → cells


def check_same(file: PlanFile, recording: Recording) -> None:
    """Raises RecordingError unless the plans are of the recording's family and, if they were searched, of its dataset."""
    manifest = recording.manifest
    if file.family != manifest.family:
        raise RecordingError(f"the plans are of family {file.family!r}, the recording is of {manifest.family!r}")
    searched = [recorded["dataset"] for recorded in (file.provenance, *file.provenance.get("also", ())) if "dataset" in recorded]
    if searched and manifest.dataset["sha256"] not in [dataset["sha256"] for dataset in searched]:
        names = ", ".join(dataset["name"] for dataset in searched)
        raise RecordingError(
            f"the plans were searched on another dataset ({names}) than was recorded ({manifest.dataset['name']})"
        )


async def replay_plan(plan: Plan, recording: Recording, tasks: Sequence[str], runs: Sequence[int]) -> ReplayedPlan:
    """Raises RecordingError if a step was not recorded."""
    check_recorded(plan, recording)
    cells = [await replay(plan, recording, task, run) for run in runs for task in tasks]
    return ReplayedPlan(
        plan=plan,
        cells=len(cells),
        right=sum(cell.correct for cell in cells),
        cost_usd=sum(step.cost_usd for cell in cells for step in cell.answer.trace.steps) / len(cells),
        answered_by=Counter(cell.answer.tier for cell in cells),
    )


async def replay_plans(file: PlanFile, recording: Recording, names: Sequence[str] | None) -> list[ReplayedPlan]:
    """The named plans, or all, on every task that all tiers answered. Raises RecordingError, InvalidRequest."""
    check_same(file, recording)
    table = tabulate(recording)
    plans = [file.choose(name) for name in names or file.plans]
    return [await replay_plan(plan, recording, table.tasks, table.runs) for plan in plans]
