"""What a chosen plan saves on tasks it was not chosen on, over many splits, both ways of counting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from codecascade.types import Plan

from codecascade_client.datasets.split import split
from codecascade_client.replay.table import Table, outcome
from codecascade_client.search.choose import Bootstrap, choose, single_plans
from codecascade_client.search.frontier import Grid, pareto_frontier

_ROUNDING = 1e-12
PEERS_WITHIN = 0.005  # of accuracy: the single-model plans that the paper compares with


@dataclass(frozen=True, slots=True)
class Held:
    """A plan on held-out tasks. cost_usd: per request."""

    cost_usd: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Saving:
    """A plan on one split's test tasks; the shares of a cost that it saves, None where there is nothing to compare with.

    against_reference: the plan that it was chosen against; accuracy_change: against that too. against_mean, the paper's way: the
    mean cost of the single-model plans within ±0.5 points of its accuracy. against_cheapest: the cheapest single-model plan
    that is at least as accurate on these very tasks.
    """

    held_out: Held
    accuracy_change: float | None
    against_reference: float | None
    against_mean: float | None
    against_cheapest: float | None


@dataclass(frozen=True, slots=True)
class MeanSaving:
    """Over splits. …_splits: in how many of them there was a single-model plan to compare with."""

    splits: int
    cost_usd: float
    accuracy: float
    accuracy_change: float | None
    against_reference: float | None
    against_mean: float | None
    against_mean_splits: int
    against_cheapest: float | None
    against_cheapest_splits: int


FRONTIER = "frontier"  # the name under which the mean of all frontier plans of a split stands


def mean_savings(table: Table, grid: Grid, probability: float, seeds: Sequence[int]) -> dict[str, MeanSaving]:
    """By plan name, and of the frontier: chosen on each seed's validation tasks, measured on its test tasks."""
    found = [_savings(table, grid, probability, seed) for seed in seeds]
    return {name: _mean([savings[name] for savings in found]) for name in found[0]}


def saving(plan: Held, reference: Held | None, singles: Sequence[Held]) -> Saving:
    """singles: every single-model plan on the same tasks."""
    peers = [each.cost_usd for each in singles if abs(each.accuracy - plan.accuracy) <= PEERS_WITHIN + _ROUNDING]
    as_good = [each.cost_usd for each in singles if each.accuracy >= plan.accuracy - _ROUNDING]
    return Saving(
        held_out=plan,
        accuracy_change=plan.accuracy - reference.accuracy if reference else None,
        against_reference=1 - plan.cost_usd / reference.cost_usd if reference else None,
        against_mean=1 - plan.cost_usd / fmean(peers) if peers else None,
        against_cheapest=1 - plan.cost_usd / min(as_good) if as_good else None,
    )


def _savings(table: Table, grid: Grid, probability: float, seed: int) -> dict[str, list[Saving]]:
    parts = split(table.tasks, seed)
    validation, test = table.only(tasks=parts.validation), table.only(tasks=parts.test)
    frontier = pareto_frontier(validation, grid)
    chosen = choose(validation, frontier, probability, Bootstrap(len(validation.tasks), seed))

    def held(plan: Plan) -> Held:
        found = outcome(test, plan)
        return Held(found.cost_usd, found.accuracy)

    singles = [held(plan) for plan in single_plans(test)]
    named = {choice.plan.name: [saving(held(choice.plan), held(choice.reference), singles)] for choice in chosen}
    return {**named, FRONTIER: [saving(held(point.plan), None, singles) for point in frontier]}


def _mean(splits: Sequence[Sequence[Saving]]) -> MeanSaving:
    """Of each split's mean."""
    against_mean = _defined([[each.against_mean for each in savings] for savings in splits])
    against_cheapest = _defined([[each.against_cheapest for each in savings] for savings in splits])
    return MeanSaving(
        splits=len(splits),
        cost_usd=fmean(fmean(each.held_out.cost_usd for each in savings) for savings in splits),
        accuracy=fmean(fmean(each.held_out.accuracy for each in savings) for savings in splits),
        accuracy_change=_mean_or_none(_defined([[each.accuracy_change for each in savings] for savings in splits])),
        against_reference=_mean_or_none(_defined([[each.against_reference for each in savings] for savings in splits])),
        against_mean=_mean_or_none(against_mean),
        against_mean_splits=len(against_mean),
        against_cheapest=_mean_or_none(against_cheapest),
        against_cheapest_splits=len(against_cheapest),
    )


def _defined(splits: Sequence[Sequence[float | None]]) -> list[float]:
    """The mean of each split that has a value at all."""
    known = [[value for value in values if value is not None] for values in splits]
    return [fmean(values) for values in known if values]


def _mean_or_none(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
