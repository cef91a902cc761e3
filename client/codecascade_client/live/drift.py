"""Running servers against the promise of their plan file, from what they count."""

from __future__ import annotations

import math
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from codecascade.drift import COST_BUCKETS_USD, FULL_SCORE, Costs, Drift, Promise, Seen, SeenTier, drifts, promise_in
from codecascade.plans import PlanFile
from prometheus_client.parser import text_string_to_metric_families

from codecascade_client.errors import MetricsError, reason

Series = tuple[str, frozenset[tuple[str, str]]]
Totals = Counter[Series]
_REQUESTS, _DECISIONS, _SCORE = "codecascade_requests_total", "codecascade_decisions_total", "codecascade_score_ratio"
_COST, _STEP_COST = "codecascade_request_cost_usd", "codecascade_step_cost_usd"
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


def seen_of(plan: str, totals: Totals) -> Seen:
    """Answered requests only: these are what a plan file promises something about."""
    series = _Series(plan, totals)
    seen = Seen(requests=round(series.total(_REQUESTS)), costs=series.costs(_COST))
    for tier in series.tiers:
        tested = series.total(f"{_SCORE}_count", tier=tier)
        seen.tiers[tier] = SeenTier(
            asked=series.total(_DECISIONS, tier=tier),
            accepted=series.total(_DECISIONS, tier=tier, decision="accept"),
            given_tests=series.total(f"{_SCORE}_count", tier=tier, evidence="given_tests"),
            full_score=tested - series.total(f"{_SCORE}_bucket", tier=tier, le=f"{FULL_SCORE:g}"),
            costs=series.costs(_STEP_COST, tier=tier),
        )
    return seen


class _Series:
    """What is counted of a plan's answered requests."""

    def __init__(self, plan: str, totals: Totals) -> None:
        labelled = [(name, dict(labels), value) for (name, labels), value in totals.items() if ("plan", plan) in labels]
        self._series = [one for one in labelled if one[1].get("outcome", "answered") == "answered"]
        self.tiers = sorted({labels["tier"] for name, labels, _ in self._series if name == _DECISIONS})

    def total(self, name: str, **wanted: str) -> float:
        return sum(value for _, value in self._of(name, wanted))

    def costs(self, name: str, **wanted: str) -> Costs:
        """Raises MetricsError if the buckets are not those of this version."""
        cumulative: Counter[float] = Counter()
        for labels, value in self._of(f"{name}_bucket", wanted):
            cumulative[float(labels["le"])] += value  # type: ignore[assignment]
        if cumulative and sorted(cumulative) != [*COST_BUCKETS_USD, math.inf]:
            raise MetricsError(f"{name} has buckets up to {sorted(cumulative)}, must have those of this version")
        counts = [cumulative[end] for end in (*COST_BUCKETS_USD, math.inf)]
        apart = [round(count - before) for count, before in zip(counts, [0, *counts], strict=False)]
        return Costs(apart, self.total(f"{name}_sum", **wanted))

    def _of(self, name: str, wanted: Mapping[str, str]) -> list[tuple[dict[str, str], float]]:
        return [(labels, value) for known, labels, value in self._series if known == name and labels.items() >= wanted.items()]


def _text(source: str) -> str:
    if not source.startswith(("http://", "https://")):
        return Path(source).read_text(encoding="utf-8")
    with urllib.request.urlopen(source, timeout=_READ_TIMEOUT_S) as answer:
        return str(answer.read().decode("utf-8"))
