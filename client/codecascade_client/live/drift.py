"""Running servers against the promise of their plan file, from what they count."""

from __future__ import annotations

import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from codecascade.drift import COST_BUCKETS_USD, Drift, Promise, Seen, drifts, promise_in
from codecascade.plans import PlanFile
from prometheus_client.parser import text_string_to_metric_families

from codecascade_client.errors import MetricsError, reason

Series = tuple[str, frozenset[tuple[str, str]]]
Totals = Counter[Series]
_REQUESTS, _DECISIONS, _COST = "codecascade_requests_total", "codecascade_decisions_total", "codecascade_request_cost_usd"
_READ_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class PlanDrift:
    """What the tests of a plan's promise say."""

    plan: str
    requests: int
    drifts: Sequence[Drift]


def read_totals(source: str) -> Totals:
    """The codecascade_… series of a server's /metrics: its URL, or a file that holds them. Raises MetricsError."""
    try:
        families = list(text_string_to_metric_families(_text(source)))
    except (OSError, ValueError) as error:
        raise MetricsError(f"metrics of {source} cannot be read: {reason(error)}") from error
    totals: Totals = Counter()
    for family in families:
        if family.name.startswith("codecascade_") and family.type in ("counter", "histogram"):
            for sample in family.samples:
                totals[sample.name, frozenset(sample.labels.items())] += sample.value  # type: ignore[assignment]
    if not totals:
        raise MetricsError(f"metrics of {source} have no series codecascade_…, must be those of a server with the cascade")
    return totals


def grown(before: Totals, after: Totals) -> Totals:
    """What came to the totals of one server. A total that is lower than before began anew, as the server did."""
    began_anew = any(after[series] < value for series, value in before.items())
    return after if began_anew else Counter({series: value - before[series] for series, value in after.items()})


def promised(file: PlanFile, plans: Sequence[str] | None) -> dict[str, Promise]:
    """By plan, of those named or all. Raises InvalidRequest for an unknown name, MetricsError if nothing is promised."""
    names = [file.choose(name).name for name in plans] if plans else list(file.plans)
    promises = {name: promise for name in names if (promise := promise_in(file, name))}
    if not promises:
        raise MetricsError(f"plans {', '.join(names)} promise nothing: they were not searched")
    return promises


def drifts_of(promises: Mapping[str, Promise], totals: Totals) -> list[PlanDrift]:
    """Of the plans that requests took."""
    seen = {plan: seen_of(plan, totals) for plan in promises}
    return [
        PlanDrift(plan, seen[plan].requests, drifts(promise, seen[plan]))
        for plan, promise in promises.items()
        if seen[plan].requests
    ]


def tests_of(file: PlanFile, promises: Mapping[str, Promise]) -> int:
    """How many tests there can be, whatever requests do: one of each plan's tiers and one of its cost."""
    return sum(len({*file.plans[plan].tiers, *promise.reach}) + 1 for plan, promise in promises.items())


def seen_of(plan: str, totals: Totals) -> Seen:
    """Answered requests only: these are what a plan file promises something about."""
    answered = {series: value for series, value in totals.items() if ("plan", plan) in series[1]}
    counted = {series: value for series, value in answered.items() if ("outcome", "answered") in series[1]}
    reached: Counter[str] = Counter()
    for (name, labels), value in counted.items():
        if name == _DECISIONS:
            reached[dict(labels)["tier"]] += round(value)
    return Seen(
        requests=round(sum(value for (name, _), value in counted.items() if name == _REQUESTS)),
        reached=reached,
        costs=_buckets({dict(labels)["le"]: value for (name, labels), value in answered.items() if name == f"{_COST}_bucket"}),
        cost_usd=sum(value for (name, _), value in answered.items() if name == f"{_COST}_sum"),
    )


def _buckets(cumulative: Mapping[str, float]) -> list[int]:
    """How many are in each bucket. Raises MetricsError if the buckets are not those of this version."""
    by_end = {float(end): value for end, value in cumulative.items()} or dict.fromkeys((*COST_BUCKETS_USD, float("inf")), 0.0)
    if sorted(by_end) != [*COST_BUCKETS_USD, float("inf")]:
        raise MetricsError(f"{_COST} has buckets up to {sorted(by_end)}, must have those of this version")
    counts = [by_end[end] for end in sorted(by_end)]
    return [round(count - before) for count, before in zip(counts, [0.0, *counts], strict=False)]


def _text(source: str) -> str:
    if not source.startswith(("http://", "https://")):
        return Path(source).read_text(encoding="utf-8")
    with urllib.request.urlopen(source, timeout=_READ_TIMEOUT_S) as answer:
        return str(answer.read().decode("utf-8"))
