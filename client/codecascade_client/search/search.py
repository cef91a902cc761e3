"""From a recording to a plan file: search and choose on the validation tasks, measure on the held-out ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

from codecascade.plans import FORMAT, step_entry
from codecascade.prices import PICODOLLARS
from codecascade.types import Plan

from codecascade_client.datasets.split import FRACTION, Split, split
from codecascade_client.errors import RecordingError
from codecascade_client.estimate import Estimate
from codecascade_client.recording.recording import Recording, RecordingManifest, StepOption
from codecascade_client.replay.table import Table, joined, tabulate
from codecascade_client.search.by_tier import TierMeasured, by_tier
from codecascade_client.search.certify import certificate
from codecascade_client.search.chains import every_chain
from codecascade_client.search.choose import (
    Bootstrap,
    Choice,
    Measured,
    choose,
    measure,
    single,
    single_plans,
    valued,
    weak_tiers,
)
from codecascade_client.search.frontier import Grid
from codecascade_client.search.offers import FOLDS, UNSEEN, Offer, at_values, evidence_that_pays, offers, patience_pays
from codecascade_client.search.savings import MeanSaving, mean_savings
from codecascade_client.words import price_ratio

DEFAULT_PLAN = "balanced"
VALUED_PLAN = "valued"  # the default where the value of a correct answer is said


@dataclass(frozen=True, slots=True)
class Rules:
    """How to search."""

    grid: Grid
    probability: float  # that a chosen plan is not worse than its reference, at least
    split_seed: int  # of the split into validation and held-out tasks
    splits: int  # how many seeded splits the savings are averaged over
    prices_from: str | None = None  # the file that gave the manifest its prices; None for the recording's own prices
    value_usd: float | None = None  # of a correct answer; then the plan that is worth most at it is the default


@dataclass(frozen=True, slots=True)
class Expected:
    """What a plan promised on the validation tasks, corrected for its choice."""

    cost_usd: Estimate  # per request
    accuracy: Estimate  # 0…1
    value_usd: float  # of a correct answer, at which it is worth most


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A plan on the validation tasks and on the held-out ones."""

    plan: Plan
    validation: Measured
    held_out: Measured
    by_dataset: Mapping[str, Measured]  # its held-out tasks apart; empty if there is one dataset
    certified: Mapping[str, Any]  # how much less accurate than the largest tier it is at most (see certify)
    tiers: Mapping[str, TierMeasured]  # on the held-out tasks
    expected: Expected | None = None  # None for a plan that was not chosen from many


@dataclass(frozen=True)
class SearchResult:
    """The plans that a search found, and the tasks it was done on."""

    manifests: tuple[RecordingManifest, ...]  # of the recordings, one for each dataset
    rules: Rules
    validation: Table
    held_out: Table
    weak: Mapping[str, float]  # excluded tiers → their greedy accuracy
    plans_searched: int  # for requests without tests
    chains_searched: int  # plans for requests that come with tests
    frontier: tuple[Evaluated, ...]
    choices: tuple[tuple[Choice, Evaluated], ...]
    singles: tuple[Evaluated, ...]  # every plan of one tier
    savings: Mapping[str, MeanSaving]  # by plan name

    @property
    def default_plan(self) -> Plan:
        name = DEFAULT_PLAN if self.rules.value_usd is None else VALUED_PLAN
        return next(choice.plan for choice, _ in self.choices if choice.plan.name == name)

    @property
    def manifest(self) -> RecordingManifest:
        return self.manifests[0]


def search(recordings: Sequence[Recording], rules: Rules) -> SearchResult:
    """Search the tasks of all recordings together, but for infills (see search_infills). Each dataset is split on its own.

    Raises RecordingError if a side of a split has no recorded task, the recordings differ in family, tiers or prices, or every
    tier is too weak.
    """
    recordings = [recording for recording in recordings if not recording.manifest.infill]
    if not recordings:
        raise RecordingError("the recordings hold infills alone, must hold solutions too")
    manifests = tuple(recording.manifest for recording in recordings)
    for manifest in manifests[1:]:
        _check_alike(manifests[0], manifest)
    table = joined([tabulate(recording) for recording in recordings])
    sides = [_sides(manifest, table, rules.split_seed) for manifest in manifests]
    parts = Split(*(tuple(task for side in sides for task in getattr(side, name)) for name in ("validation", "test")))
    weak = weak_tiers(table.only(tasks=parts.validation))
    strong = [tier for tier in table.tiers if tier not in weak]
    if not strong:
        shares = ", ".join(f"{tier} {accuracy:.1%}" for tier, accuracy in weak.items())
        raise RecordingError(f"every tier is right too rarely to be worth asking: {shares}")
    table = table.only(tiers=strong)
    validation, held_out = table.only(tasks=parts.validation), table.only(tasks=parts.test)
    on_validation = Bootstrap(len(validation.tasks), rules.split_seed)
    on_held_out = Bootstrap(len(held_out.tasks), rules.split_seed)
    largest = single(StepOption(table.tiers[-1], 0, 0))
    by_dataset = {
        manifest.dataset["name"]: (held_out.only(tasks=side.test), Bootstrap(len(side.test), rules.split_seed))
        for manifest, side in zip(manifests, sides, strict=True)
        if len(manifests) > 1
    }

    def evaluated(plan: Plan, offer: Offer | None = None) -> Evaluated:
        measured = measure(validation, plan, on_validation), measure(held_out, plan, on_held_out)
        apart = {name: measure(tasks, plan, bootstrap) for name, (tasks, bootstrap) in by_dataset.items()}
        tiers = by_tier(recordings, held_out, plan, rules.split_seed)
        return Evaluated(plan, *measured, apart, certificate(held_out, plan, largest), tiers, _expected(offer, on_validation))

    offered = offers(validation, rules.grid)
    choices = choose(validation, offered, rules.probability, on_validation)
    if rules.value_usd is not None:
        (offer,) = at_values(validation, rules.grid, [Fraction(rules.value_usd) * PICODOLLARS])
        choices.append(valued(VALUED_PLAN, f"{rules.value_usd:g} dollars", offer, validation, on_validation))
    return SearchResult(
        manifests=manifests,
        rules=rules,
        validation=validation,
        held_out=held_out,
        weak=weak,
        plans_searched=rules.grid.plans(validation),
        chains_searched=len(every_chain(validation)),
        frontier=tuple(evaluated(plan, offer) for plan, offer in zip(_named(offered), offered, strict=True)),
        choices=tuple((choice, evaluated(choice.plan, choice.offer)) for choice in choices),
        singles=tuple(evaluated(plan) for plan in single_plans(validation)),
        savings=mean_savings(table, rules.grid, rules.probability, range(rules.splits)),
    )


def _check_alike(first: RecordingManifest, other: RecordingManifest) -> None:
    for what in ("family", "prices"):
        one, two = getattr(first, what), getattr(other, what)
        if one != two:
            raise RecordingError(
                f"the recordings of {first.dataset['name']} and {other.dataset['name']} differ in {what}: {one} and {two}"
            )


def _sides(manifest: RecordingManifest, table: Table, seed: int) -> Split:
    """The recorded tasks of a dataset on each side of its split. Raises RecordingError if a side has none."""
    parts, name = split(manifest.dataset["task_ids"], seed), manifest.dataset["name"]
    recorded = set(table.tasks)
    for side, tasks in (("validation", parts.validation), ("held-out", parts.test)):
        if not recorded.intersection(tasks):
            raise RecordingError(f"none of the {len(tasks)} {side} tasks of {name} was answered by every tier: record more")
    return Split(*(tuple(task for task in tasks if task in recorded) for tasks in (parts.validation, parts.test)))


def plan_file(result: SearchResult) -> str:
    """The text of `plans/<family>.json`, which the server loads as it is. It depends on the recording and the rules alone."""
    named = {choice.plan.name: {**_entry(evaluated), "chosen": _chosen(choice)} for choice, evaluated in result.choices}
    alone = {single.plan.name: _entry(single) for single in result.singles if single.plan.steps[0].k == 0}
    frontier = {evaluated.plan.name: _entry(evaluated) for evaluated in result.frontier}
    content = {
        "format": FORMAT,
        "family": result.manifest.family,
        "provenance": provenance(result),
        "default": result.default_plan.name,
        "plans": {**named, **alone, **frontier},
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def provenance(result: SearchResult) -> dict[str, Any]:
    manifest, grid = result.manifest, result.rules.grid
    return {
        "method": "searched: exactly, on the validation tasks, replayed from a recording",
        **recorded_entry(manifest),
        **({"also": [recorded_entry(other) for other in result.manifests[1:]]} if len(result.manifests) > 1 else {}),
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
        **_how_chosen(result),
        "savings": {name: _rounded(asdict(saving)) for name, saving in result.savings.items()},
    }


def recorded_entry(manifest: RecordingManifest) -> dict[str, Any]:
    return {
        "dataset": {"name": manifest.dataset["name"], "sha256": manifest.dataset["sha256"]},
        "recording": {"settings": dict(manifest.settings), **manifest.provenance},
    }


def _how_chosen(result: SearchResult) -> dict[str, Any]:
    if not result.chains_searched:
        probability = f"{result.rules.probability:g}"
        return {"rule": f"cheapest frontier plan that by paired bootstrap is not worse with probability ≥ {probability}"}
    tasks = int(result.validation.given.sum())
    rest = evidence_that_pays(result.validation, result.rules.grid)
    return {
        "given_tests": {
            "validation_tasks_with_tests": tasks,
            "validation_tasks_without": len(result.validation.tasks) - tasks,
            "plans": result.chains_searched,
            "patient": patience_pays(result.validation),
        },
        "without_tests": {"log_probabilities": bool(rest.log_probs), "own_tests": rest.ks != (0,)},
        "rule": "worth most at a value of a correct answer, for requests with and without tests apart; "
        "worth-N: N greedy answers of the largest tier",
        "expected": f"{UNSEEN:g} of each task with the plan found without it (in {FOLDS} parts for tasks without tests), "
        "the rest as seen",
    }


def _named(offered: list[Offer]) -> list[Plan]:
    if any(offer.worth for offer in offered):
        return [offer.plan for offer in offered]
    digits = len(str(len(offered)))
    return [replace(offer.plan, name=f"frontier-{number:0{digits}}") for number, offer in enumerate(offered, start=1)]


def _expected(offer: Offer | None, bootstrap: Bootstrap) -> Expected | None:
    """None for a plan of the frontier, whose figures are those of the tasks that it was found on."""
    if offer is None or offer.value_usd is None:
        return None
    return Expected(bootstrap.estimate(offer.cost_usd), bootstrap.estimate(offer.right), offer.value_usd)


def _entry(evaluated: Evaluated) -> dict[str, Any]:
    plan, expected, apart = evaluated.plan, evaluated.expected, evaluated.by_dataset
    steps = [step_entry(step, last=step is plan.steps[-1]) for step in plan.steps]
    return {
        **({"given_tests": [asdict(step) for step in plan.given_steps]} if plan.given_steps else {}),
        "steps": steps,
        **({"expected": _promised(expected)} if expected else {}),
        "validation": measured_entry(evaluated.validation),
        "held_out": {
            **measured_entry(evaluated.held_out),
            "tiers": {tier: _tier(did) for tier, did in evaluated.tiers.items()},
        },
        "certified": dict(evaluated.certified),
        **({"by_dataset": {name: measured_entry(part) for name, part in apart.items()}} if apart else {}),
    }


def _promised(expected: Expected) -> dict[str, Any]:
    return {"usd_per_correct": round(expected.value_usd, 9), **_figures(expected.cost_usd, expected.accuracy)}


def measured_entry(measured: Measured) -> dict[str, Any]:
    return {**_figures(measured.cost_usd, measured.accuracy), "reach": _rounded(measured.reach)}


def _tier(measured: TierMeasured) -> dict[str, Any]:
    return {"asked": round(measured.asked, 6), **_rounded(measured.shares), "usd_per_1000": _per_1000(measured.cost_usd)}


def _figures(usd: Estimate, accuracy: Estimate) -> dict[str, Any]:
    return {"usd_per_1000": _per_1000(usd), "accuracy": _rounded(asdict(accuracy))}


def _per_1000(usd: Estimate) -> dict[str, Any]:
    return _rounded(asdict(Estimate(1e3 * usd.mean, 1e3 * usd.low, 1e3 * usd.high)))


def _chosen(choice: Choice) -> dict[str, Any]:
    return {"rule": choice.rule, "probability": round(choice.probability, 3)}


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in values.items()}
