"""Replays every published plan from the authors' own stage table and compares cost and accuracy, row by row.

python -m tests.bench.check_published FOLDER      exit 0: every row is reproduced; 1: some are not, each is named
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codecascade.errors import CascadeError
from codecascade.prices import PICODOLLARS
from codecascade.types import Plan
from codecascade_client.datasets.split import split
from codecascade_client.recording.published import PlanTable, PublishedPlan, import_published, read_plan_tables
from codecascade_client.recording.recording import Recording, option_of
from codecascade_client.replay.cascade import replay
from codecascade_client.replay.table import Outcome, Table, outcome, tabulate

COST_TOLERANCE = 1e-6  # relative
ACCURACY_TOLERANCE = 1e-9  # percent: only the rounding of a printed float
LOOP_PLANS = 12  # of each file, replayed through run_cascade as well


@dataclass(frozen=True)
class Figures:
    cost: float
    """Dollars per 1,000 tasks."""
    accuracy: float
    """Percent."""


def main(folder: Path) -> int:
    try:
        with tempfile.TemporaryDirectory() as scratch:
            recording = import_published(folder, Path(scratch) / "recording", stages=True).load()
        files = read_plan_tables(folder)
        table = tabulate(recording)
    except CascadeError as error:
        print(error, file=sys.stderr)
        return 2
    failed = sum(check(file, table.only(tasks=tasks_of(file, table.tasks)), recording) for file in files)
    rows = sum(len(file.plans) for file in files)
    print(f"{rows - failed} of {rows} published plans reproduced: cost within {COST_TOLERANCE:g} relative, accuracy exact")
    return 1 if failed else 0


def tasks_of(file: PlanTable, tasks: Sequence[str]) -> Sequence[str]:
    if file.part == "full":
        return tasks
    parts = split(tasks, file.seed)
    return parts.validation if file.part == "val" else parts.test


def check(file: PlanTable, table: Table, recording: Recording) -> int:
    """Print each row that is not reproduced, and what differs. Returns their number."""
    reproduced = []
    worst = 0.0
    for row in file.plans:
        try:
            replayed = figures(outcome(table, row.plan))
        except CascadeError as error:
            print(f"{file.path.name}:{row.line}: plan {row.plan.name}: {error}")
            continue
        off = abs(replayed.cost - row.cost) / row.cost
        worst = max(worst, off)
        if off <= COST_TOLERANCE and abs(replayed.accuracy - row.accuracy) <= ACCURACY_TOLERANCE:
            reproduced.append(row.plan)
        else:
            print(f"{file.path.name}:{row.line}: plan {row.plan.name}: {difference(row, replayed, table)}")
    looped = asyncio.run(check_loop(reproduced, table, recording))
    print(
        f"{file.path.name}: {len(reproduced)} of {len(file.plans)} plans on {len(table.tasks)} tasks, "
        f"cost off by {worst:.1e} at most; {looped} of them also through run_cascade, equal"
    )
    return len(file.plans) - len(reproduced)


def figures(outcome: Outcome) -> Figures:
    return Figures(cost=1000 * outcome.cost_usd, accuracy=100 * outcome.accuracy)


def difference(row: PublishedPlan, replayed: Figures, table: Table) -> str:
    untested = sum(int((table.pairs[table.of(option_of(step))] == 0).sum()) for step in row.plan.steps if step.k > 0)
    why = (
        f"in {untested} cells a step has no test line: the published rule accepts there (0 ≥ θ·0), this one escalates"
        if untested
        else "the stage table does not give this row under accept ⇔ n_s·n_t ≥ θ·pairs"
    )
    published = f"published cost {row.cost!r} and accuracy {row.accuracy!r} %"
    return f"{published}, replayed {replayed.cost!r} and {replayed.accuracy!r} % ({why})"


async def check_loop(plans: Sequence[Plan], table: Table, recording: Recording) -> int:
    """Replay some plans through run_cascade too. Every cell must equal the table's. Returns the number of plans."""
    chosen = random.Random(0).sample(plans, min(LOOP_PLANS, len(plans)))
    for plan in chosen:
        fast = outcome(table, plan)
        for r, run in enumerate(table.runs):
            for t, task in enumerate(table.tasks):
                slow = await replay(plan, recording, task, run)
                paid = sum(round(step.cost_usd * PICODOLLARS) for step in slow.answer.trace.steps)
                assert (slow.correct, paid) == (bool(fast.correct[r, t]), fast.cost[r, t]), (plan.name, run, task)
    return len(chosen)


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
