"""What a chosen plan saves on tasks that it was not chosen on, over many splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from codecascade.types import Plan

from codecascade_client.datasets.split import split
from codecascade_client.replay.table import Table, outcome
from codecascade_client.search.choose import Bootstrap, choose, single_plans
from codecascade_client.search.frontier import Grid
from codecascade_client.search.offers import offers

_ROUNDING = 1e-12
PEERS_WITHIN = 0.005  # difference of accuracy to the single-model plans that the paper compares with
FRONTIER = "frontier"  # the name of the mean of a split's frontier plans


@dataclass(frozen=True, slots=True)
class Held:
    """A plan on held-out tasks."""

    cost_usd: float  # per request
    accuracy: float


@dataclass(frozen=True, slots=True)
class Saving:
    """What a plan saves on one split's test tasks: shares of a cost. None where there is nothing to compare with."""

    held_out: Held
    accuracy_change: float | None  # against the plan's reference
    against_reference: float | None  # against the plan that it was chosen against
    against_mean: float | None  # the paper's way: against the mean cost of the single-model plans within ±0.5 points
    against_cheapest: float | None  # against the cheapest single-model plan that is at least as accurate on these tasks


@dataclass(frozen=True, slots=True)
class MeanSaving:
    """The mean of a plan's savings over splits."""

    splits: int
    cost_usd: float
    accuracy: float
    accuracy_change: float | None
    against_reference: float | None
    against_mean: float | None
    against_mean_splits: int  # splits that have a single-model plan to compare with
    against_cheapest: float | None
    against_cheapest_splits: int  # splits that have a single-model plan to compare with


def mean_savings(table: Table, grid: Grid, probability: float, seeds: Sequence[int]) -> dict[str, MeanSaving]:
    """Choose plans on every seed's validation tasks and measure them on its test tasks. By plan name, and FRONTIER."""
    splits = [_savings(table, grid, probability, seed) for seed in seeds]
    return {name: _mean([savings[name] for savings in splits]) for name in splits[0]}


def saving(plan: Held, reference: Held | None, singles: Sequence[Held]) -> Saving:
    """What a plan saves. reference: the plan that it was chosen against. singles: every single-model plan on the same tasks."""
    peers = [single.cost_usd for single in singles if abs(single.accuracy - plan.accuracy) <= PEERS_WITHIN + _ROUNDING]
    as_good = [single.cost_usd for single in singles if single.accuracy >= plan.accuracy - _ROUNDING]
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
    offered = offers(validation, grid)
    chosen = choose(validation, offered, probability, Bootstrap(len(validation.tasks), seed))

    def held(plan: Plan) -> Held:
        tested = outcome(test, plan)
        return Held(tested.cost_usd, tested.accuracy)

    singles = [held(plan) for plan in single_plans(test)]
    named = {choice.plan.name: [saving(held(choice.plan), held(choice.reference), singles)] for choice in chosen}
    return {**named, FRONTIER: [saving(held(offer.plan), None, singles) for offer in offered]}


def _mean(splits: Sequence[Sequence[Saving]]) -> MeanSaving:
    """The mean of the splits' means."""
    against_mean = _defined([[saving.against_mean for saving in savings] for savings in splits])
    against_cheapest = _defined([[saving.against_cheapest for saving in savings] for savings in splits])
    return MeanSaving(
        splits=len(splits),
        cost_usd=fmean(fmean(saving.held_out.cost_usd for saving in savings) for savings in splits),
        accuracy=fmean(fmean(saving.held_out.accuracy for saving in savings) for savings in splits),
        accuracy_change=_mean_or_none(_defined([[saving.accuracy_change for saving in savings] for savings in splits])),
        against_reference=_mean_or_none(_defined([[saving.against_reference for saving in savings] for savings in splits])),
        against_mean=_mean_or_none(against_mean),
        against_mean_splits=len(against_mean),
        against_cheapest=_mean_or_none(against_cheapest),
        against_cheapest_splits=len(against_cheapest),
    )


def _defined(splits: Sequence[Sequence[float | None]]) -> list[float]:
    """The mean of every split that has a value."""
    known = [[value for value in values if value is not None] for values in splits]
    return [fmean(values) for values in known if values]


def _mean_or_none(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
