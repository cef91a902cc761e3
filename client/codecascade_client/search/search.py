"""From a recording to a plan file: search and choose on the validation tasks, measure on the held-out ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from codecascade.plans import FORMAT, step_entry
from codecascade.types import Plan

from codecascade_client.datasets.split import FRACTION, split
from codecascade_client.errors import RecordingError
from codecascade_client.estimate import Estimate
from codecascade_client.recording.recording import Recording, RecordingManifest
from codecascade_client.replay.table import Table, tabulate
from codecascade_client.search.choose import Bootstrap, Choice, Measured, choose, measure, single_plans, weak_tiers
from codecascade_client.search.frontier import Grid, Point, pareto_frontier
from codecascade_client.search.savings import MeanSaving, mean_savings
from codecascade_client.words import price_ratio

DEFAULT_PLAN = "balanced"


@dataclass(frozen=True, slots=True)
class Rules:
    """How to search."""

    grid: Grid
    probability: float  # that a chosen plan is not worse than its reference, at least
    split_seed: int  # of the split into validation and held-out tasks
    splits: int  # how many seeded splits the savings are averaged over
    prices_from: str | None = None  # the file that gave the manifest its prices; None for the recording's own prices


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A plan on the validation tasks and on the held-out ones."""

    plan: Plan
    validation: Measured
    held_out: Measured


@dataclass(frozen=True)
class SearchResult:
    """The plans that a search found, and the tasks it was done on."""

    manifest: RecordingManifest
    rules: Rules
    validation: Table
    held_out: Table
    weak: Mapping[str, float]  # excluded tiers → their greedy accuracy
    plans_searched: int
    frontier: tuple[Evaluated, ...]
    choices: tuple[tuple[Choice, Evaluated], ...]
    singles: tuple[Evaluated, ...]  # every plan of one tier
    savings: Mapping[str, MeanSaving]  # by plan name


def search(recording: Recording, rules: Rules) -> SearchResult:
    """Raises RecordingError if a side of the split has no recorded task, or every tier is too weak."""
    manifest = recording.manifest
    table = tabulate(recording)
    parts = split(manifest.dataset["task_ids"], rules.split_seed)
    for side, tasks in (("validation", parts.validation), ("held-out", parts.test)):
        if not set(tasks) & set(table.tasks):
            raise RecordingError(f"none of the {len(tasks)} {side} tasks was answered by every tier: record more")
    weak = weak_tiers(table.only(tasks=parts.validation))
    strong = [tier for tier in table.tiers if tier not in weak]
    if not strong:
        shares = ", ".join(f"{tier} {accuracy:.1%}" for tier, accuracy in weak.items())
        raise RecordingError(f"every tier is right too rarely to be worth asking: {shares}")
    table = table.only(tiers=strong)
    validation, held_out = table.only(tasks=parts.validation), table.only(tasks=parts.test)
    on_validation = Bootstrap(len(validation.tasks), rules.split_seed)
    on_held_out = Bootstrap(len(held_out.tasks), rules.split_seed)

    def evaluated(plan: Plan) -> Evaluated:
        return Evaluated(plan, measure(validation, plan, on_validation), measure(held_out, plan, on_held_out))

    points = pareto_frontier(validation, rules.grid)
    choices = choose(validation, points, rules.probability, on_validation)
    return SearchResult(
        manifest=manifest,
        rules=rules,
        validation=validation,
        held_out=held_out,
        weak=weak,
        plans_searched=rules.grid.plans(validation),
        frontier=tuple(evaluated(plan) for plan in _named(points)),
        choices=tuple((choice, evaluated(choice.plan)) for choice in choices),
        singles=tuple(evaluated(plan) for plan in single_plans(validation)),
        savings=mean_savings(table, rules.grid, rules.probability, range(rules.splits)),
    )


def plan_file(result: SearchResult) -> str:
    """The text of `plans/<family>.json`, which the server loads as it is. It depends on the recording and the rules alone."""
    named = {choice.plan.name: {**_entry(evaluated), "chosen": _chosen(choice)} for choice, evaluated in result.choices}
    alone = {single.plan.name: _entry(single) for single in result.singles if single.plan.steps[0].k == 0}
    frontier = {evaluated.plan.name: _entry(evaluated) for evaluated in result.frontier}
    content = {
        "format": FORMAT,
        "family": result.manifest.family,
        "provenance": provenance(result),
        "default": DEFAULT_PLAN,
        "plans": {**named, **alone, **frontier},
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def provenance(result: SearchResult) -> dict[str, Any]:
    manifest, grid = result.manifest, result.rules.grid
    return {
        "method": "searched: exact Pareto frontier on the validation tasks, replayed from a recording",
        "dataset": {"name": manifest.dataset["name"], "sha256": manifest.dataset["sha256"]},
        "recording": {"settings": dict(manifest.settings), **manifest.provenance},
        "prices": {
            "from": result.rules.prices_from or "the recording",
            "ratio": price_ratio(manifest.prices),
            **asdict(manifest.prices),
        },
        "excluded_tiers": {tier: round(accuracy, 4) for tier, accuracy in result.weak.items()},
        "split": {
            "seed": result.rules.split_seed,
            "fraction": FRACTION,
            "validation_tasks": len(result.validation.tasks),
            "held_out_tasks": len(result.held_out.tasks),
            "sampled_runs": len(result.validation.runs),
        },
        "grid": {**asdict(grid), "plans": result.plans_searched},
        "rule": f"cheapest frontier plan that by paired bootstrap is not worse with probability ≥ {result.rules.probability:g}",
        "savings": {name: _rounded(asdict(saving)) for name, saving in result.savings.items()},
    }


def _named(points: list[Point]) -> list[Plan]:
    digits = len(str(len(points)))
    return [Plan(f"frontier-{number:0{digits}}", point.plan.steps) for number, point in enumerate(points, start=1)]


def _entry(evaluated: Evaluated) -> dict[str, Any]:
    last = evaluated.plan.steps[-1]
    steps = [step_entry(step, last=step is last) for step in evaluated.plan.steps]
    return {"steps": steps, "validation": _measured(evaluated.validation), "held_out": _measured(evaluated.held_out)}


def _measured(measured: Measured) -> dict[str, Any]:
    usd = measured.cost_usd
    return {
        "usd_per_1000": _rounded(asdict(Estimate(1e3 * usd.mean, 1e3 * usd.low, 1e3 * usd.high))),
        "accuracy": _rounded(asdict(measured.accuracy)),
        "reach": _rounded(measured.reach),
    }


def _chosen(choice: Choice) -> dict[str, Any]:
    return {"rule": choice.rule, "probability": round(choice.probability, 3)}


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in values.items()}
