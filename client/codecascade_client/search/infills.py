"""Steps for infills: searched on recordings of infills, beside the other steps of a plan, at the same value of a correct answer.

An infill is one greedy answer of each tier, so a plan is a limit of log-probability for each tier but the last. No test is
counted on: what an editor asks for seldom comes with any.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from codecascade.plans import step_entry
from codecascade.prices import PICODOLLARS
from codecascade.types import Plan, PlanStep

from codecascade_client.datasets.infills import source_of
from codecascade_client.datasets.split import Split, split
from codecascade_client.recording.recording import Recording
from codecascade_client.replay.table import Table, joined, tabulate
from codecascade_client.search.choose import NAMED_WORTHS, Bootstrap, measure
from codecascade_client.search.dial import Hull, hull
from codecascade_client.search.frontier import Grid, pareto_frontier
from codecascade_client.search.offers import WORTHS, greedy_answer
from codecascade_client.search.search import VALUED_PLAN, Rules, measured_entry, recorded_entry

LOG_PROBS = (-12, -8, -6, -5, -4, -3.5, -3, -2.5, -2, -1.75, -1.5, -1.25, -1, -0.8, -0.6, -0.5, -0.4, -0.3, -0.2, -0.1, -0.05)
"""Limits that are tried. A line that is surely right has about -0.1, one of ten unsure tokens -10."""
GRID = Grid(thresholds=(1.0,), ks=(0,), log_probs=LOG_PROBS)


@dataclass(frozen=True)
class InfillSearch:
    """The steps that are worth most at every value of a correct answer, and the infills that they are measured on."""

    recordings: tuple[Recording, ...]
    validation: Table
    held_out: Table
    best: Hull[tuple[PlanStep, ...]]
    split_seed: int

    def measured(self, steps: tuple[PlanStep, ...]) -> Mapping[str, Any]:
        """What steps are worth on the held-out infills."""
        found = measure(self.held_out, Plan("infills", steps), Bootstrap(len(self.held_out.tasks), self.split_seed))
        return measured_entry(found)


def search_infills(recordings: Sequence[Recording], split_seed: int) -> InfillSearch:
    """Search exactly on the validation infills. Infills of one solution are on one side.

    Raises RecordingError if a recording holds no infill that every tier answered.
    """
    tables = [tabulate(recording) for recording in recordings]
    sides = [split_sources(table.tasks, split_seed) for table in tables]
    table = joined(tables)
    validation = table.only(tasks=[task for side in sides for task in side.validation])
    held_out = table.only(tasks=[task for side in sides for task in side.test])
    points = pareto_frontier(validation, GRID)
    best = hull((point.cost, point.correct, point.plan.steps) for point in points)
    return InfillSearch(tuple(recordings), validation, held_out, best, split_seed)


def split_sources(tasks: Sequence[str], seed: int) -> Split:
    """The split of the solutions that infills were made from, as a split of the infills."""
    sources = split(list(dict.fromkeys(map(source_of, tasks))), seed)
    validation = set(sources.validation)
    return Split(
        validation=tuple(task for task in tasks if source_of(task) in validation),
        test=tuple(task for task in tasks if source_of(task) not in validation),
    )


def with_infills(content: str, recordings: Sequence[Recording], rules: Rules) -> str:
    """A plan file whose plans with a value of a correct answer have steps for infills too, where infills were recorded.

    content: of the file without them.
    """
    infills = [recording for recording in recordings if recording.manifest.infill]
    if not infills:
        return content
    search = search_infills(infills, rules.split_seed)
    data, values = json.loads(content), _values(search.validation, rules.value_usd)
    for name, plan in data["plans"].items():
        if name in values:
            steps = search.best.at(values[name])
            plan["infill"] = [step_entry(step, last=step is steps[-1]) for step in steps]
            plan["infill_held_out"] = search.measured(steps)
    data["provenance"]["also"] = [
        *data["provenance"].get("also", ()),
        *(recorded_entry(recording.manifest) for recording in search.recordings),
    ]
    data["provenance"]["infills"] = {
        "validation": len(search.validation.tasks),
        "held_out": len(search.held_out.tasks),
        "alone": {tier: search.measured((PlanStep(tier, k=0),)) for tier in search.held_out.tiers},
        "log_probs": list(LOG_PROBS),
    }
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def _values(table: Table, value_usd: float | None) -> dict[str, Fraction]:
    """Picodollars that a correct infill is worth, by the name of the plan: less than a solution, as it costs less."""
    worths = {**NAMED_WORTHS, "fast": NAMED_WORTHS["balanced"], **{f"worth-{worth:g}": worth for worth in WORTHS}}
    values = {name: Fraction(worth) * greedy_answer(table) for name, worth in worths.items()}
    return values if value_usd is None else {**values, VALUED_PLAN: Fraction(value_usd) * PICODOLLARS}
