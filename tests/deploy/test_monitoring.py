"""What the chart gives to Prometheus and Grafana."""

from __future__ import annotations

import json
import re
from typing import Any

import helm_python
import pytest
import yaml

from tests.deploy.chart import FULLNAME, Object, environment, named, of_kind, rendered, values
from tests.server.queries import FILES, dashboard, queries, read_by, rules


def release(**more: Any) -> list[Object]:
    return rendered(values("qwen2.5-coder", **more))


def test_neither_comes_unless_it_is_asked_for() -> None:
    objects = release()
    assert not of_kind(objects, "PrometheusRule")
    assert not [item for item in of_kind(objects, "ConfigMap") if item["metadata"]["name"].endswith("-dashboard")]


def test_the_rules_arrive_as_they_are_written() -> None:
    (rule,) = of_kind(release(**{"prometheusRule.enabled": True, "prometheusRule.labels": {"release": "kube"}}), "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((FILES / "alerts.yaml").read_text())
    assert rule["metadata"]["name"] == FULLNAME
    assert rule["metadata"]["labels"]["release"] == "kube"


def test_the_dashboard_arrives_as_it_is_and_where_grafana_looks() -> None:
    item = named(release(**{"grafanaDashboard.enabled": True}), "ConfigMap", "dashboard")
    assert json.loads(item["data"]["codecascade.json"]) == dashboard()
    assert item["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert len(item["data"]["codecascade.json"]) < 1 << 20  # the most that a ConfigMap holds


def test_every_query_is_promql_and_reads_something() -> None:
    assert all(read_by(query) for query in queries().values())
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        read_by("sum by (plan (rate(x[5m]))")


def test_every_rule_says_what_is_wrong_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}
        used = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
        grouped = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", rule["expr"]))))
        assert used <= grouped, f"{rule['alert']} names labels that its query does not keep"


def test_panels_have_places_of_their_own() -> None:
    panels = dashboard()["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len({panel["id"] for panel in panels}) == len(set(places)) == len(panels)


def test_shadow_traffic_is_a_setting_of_the_cascade() -> None:
    variables = environment(named(release(shadow={"plan": "cheap", "share": 0.05, "inFlight": 2}), "Deployment", "cascade"))
    told = {name: value for name, value in variables.items() if "SHADOW" in name}
    assert told == {
        "CODECASCADE_SHADOW_PLAN": "cheap",
        "CODECASCADE_SHADOW_SHARE": "0.05",
        "CODECASCADE_SHADOW_IN_FLIGHT": "2",
    }
    assert not [name for name in environment(named(release(), "Deployment", "cascade")) if "SHADOW" in name]
    with pytest.raises(helm_python.HelmError, match=r"shadow\.plan is chepa, must be a plan of plans"):
        release(shadow={"plan": "chepa"})
