"""The queries of the chart's dashboard and alert rules, and which series they read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import promql_parser
import yaml
from codecascade_build.paths import ROOT
from prometheus_client.parser import text_string_to_metric_families

FILES = ROOT / "build" / "charts" / "codecascade" / "files"
GIVEN_BY_PROMETHEUS = {"namespace", "pod", "job", "instance"}
_VARIABLES = {"$__rate_interval": "5m", "$namespace": ".*", "$plan": ".*"}


@dataclass(frozen=True, slots=True)
class Read:
    """A series that a query reads."""

    metric: str
    labels: frozenset[str]
    """That it chooses or groups by."""
    values: frozenset[tuple[str, str]]
    """Of labels that must be equal to something."""


def dashboard() -> dict[str, Any]:
    return dict(json.loads((FILES / "dashboard.json").read_text(encoding="utf-8")))


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FILES / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries() -> dict[str, str]:
    """PromQL by where it stands; a dashboard's variables have values."""
    panels = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
    shown = {f"{panel['title']} {target['refId']}": target["expr"] for panel in panels for target in panel["targets"]}
    for name, value in _VARIABLES.items():
        shown = {place: query.replace(name, value) for place, query in shown.items()}
    return {**shown, **{rule["alert"]: rule["expr"] for rule in rules()}}


def read_by(query: str) -> list[Read]:
    """Raises ValueError if it is no PromQL."""
    return list(_reads(promql_parser.parse(query), frozenset()))


def _reads(part: Any, grouped: frozenset[str]) -> Iterator[Read]:
    if isinstance(part, promql_parser.VectorSelector):
        matchers = part.matchers.matchers
        equal = frozenset((matcher.name, matcher.value) for matcher in matchers if str(matcher.op).endswith(".Equal"))
        assert part.name, part.prettify()
        yield Read(part.name, grouped | {matcher.name for matcher in matchers}, equal)
    elif isinstance(part, promql_parser.AggregateExpr):
        by = part.modifier.labels if part.modifier and str(part.modifier.type).endswith(".By") else []
        yield from _reads(part.expr, frozenset(by))
    else:
        for below in _below(part):
            yield from _reads(below, grouped)


def _below(part: Any) -> list[Any]:
    found = [getattr(part, name, None) for name in ("lhs", "rhs", "expr", "vector_selector")]
    return [below for below in (*found, *getattr(part, "args", ())) if below is not None]


def labels_of(metrics: str) -> dict[str, dict[str, set[str]]]:
    """Of a /metrics: series' name → label → its values."""
    known: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            written = (
                sample.name if f"\n{sample.name}" in metrics else sample.name.removesuffix("_total")
            )  # the parser appends it
            labels = known.setdefault(written, {})
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(value)
    return known


def missing(read: Read, known: Mapping[str, Mapping[str, set[str]]]) -> str | None:
    """What the server does not tell of what a query reads, in words."""
    if read.metric not in known:
        return f"no series {read.metric}"
    labels = known[read.metric]
    if unknown := read.labels - set(labels) - GIVEN_BY_PROMETHEUS:
        return f"{read.metric} has no label {', '.join(sorted(unknown))}"
    wrong = [f'{name}="{value}"' for name, value in read.values if value not in labels.get(name, set())]
    return f"{read.metric} has never {', '.join(sorted(wrong))}" if wrong else None
