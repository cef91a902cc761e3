"""The chart as Helm renders it, for the tests beside this file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import helm_python
import yaml
from codecascade_build.paths import PLANS, ROOT
from codecascade_build.recipes import load_recipe
from codecascade_build.render.repository import tiers_document

CHART = ROOT / "build" / "charts" / "codecascade"
RELEASE, NAMESPACE = "blue", "code"
FULLNAME = "blue-codecascade"
Object = dict[str, Any]


def values(family: str, /, **more: Any) -> dict[str, Any]:
    """values-<family>.yaml with a deployment, plans and a claim for the engines. more: dotted key → value."""
    chosen: dict[str, Any] = yaml.safe_load((CHART / f"values-{family}.yaml").read_text())
    chosen |= {"deployment": json.dumps(deployment(family)), "plans": plans(family), "models": {"claim": "engines"}}
    for key, value in more.items():
        *path, last = key.split(".")
        place = chosen
        for name in path:
            place = place.setdefault(name, {})
        place[last] = value
    return chosen


def deployment(family: str) -> dict[str, Any]:
    """A deployment file of the family's engine tiers, as the build writes it."""
    recipe = load_recipe(family)
    return tiers_document(recipe, "tensorrt_llm", {tier.name: tier.gpu for tier in recipe.tiers if tier.gpu})


def plans(family: str) -> str:
    """The family's plan file, or one for a family that has none yet."""
    path = PLANS / f"{family}.json"
    if path.exists():
        return path.read_text()
    first, *_, last = (tier.name for tier in load_recipe(family).tiers)
    steps = [{"tier": first, "k": 3, "lines_per_sample": 2, "threshold": 0.75}, {"tier": last, "k": 0}]
    two = {"default": "two", "plans": {"two": {"steps": steps}}}
    return json.dumps({"format": 1, "family": family, "provenance": {"method": "by hand"}, **two})


def rendered(given: Mapping[str, Any], name: str = RELEASE) -> list[Object]:
    """The objects of a release. Raises helm_python.HelmError."""
    return [json.loads(text) for text in _rendered(json.dumps(given, sort_keys=True), name)]


@cache
def _rendered(given: str, name: str) -> list[str]:
    chosen = json.loads(given)
    with helm_python.Chart.load(CHART) as chart:
        chart.validate_schema(chosen)
        texts = chart.render(chosen, name=name, namespace=NAMESPACE)
    documents = [document for path, text in texts.items() if path.endswith(".yaml") for document in yaml.safe_load_all(text)]
    return [json.dumps(document) for document in documents if document]


def named(objects: list[Object], kind: str, name: str) -> Object:
    """The one object of this kind and name."""
    matching = [item for item in objects if item["kind"] == kind and item["metadata"]["name"] == f"{FULLNAME}-{name}"]
    assert len(matching) == 1, f"{len(matching)} objects {kind} {FULLNAME}-{name}"
    return matching[0]


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [item for item in objects if item["kind"] == kind]


def with_triton(objects: list[Object]) -> list[Object]:
    """The Deployments of Tritons: all but the gateway's."""
    return [item for item in of_kind(objects, "Deployment") if container(item)["name"] == "triton"]


def container(workload: Object) -> Object:
    (only,) = workload["spec"]["template"]["spec"]["containers"]
    return dict(only)


def containers(workload: Object) -> list[Object]:
    pod = workload["spec"]["template"]["spec"]
    return [*pod.get("initContainers", []), *pod["containers"]]


def environment(workload: Object) -> dict[str, str]:
    """A container's variables by name. One that refers to its resources has their value, one of a secret NAME/KEY."""
    only = container(workload)
    variables = {}
    for variable in only["env"]:
        if secret := variable.get("valueFrom", {}).get("secretKeyRef"):
            variable = {**variable, "value": f"{secret['name']}/{secret['key']}"}
        elif "valueFrom" in variable:
            kind, resource = variable["valueFrom"]["resourceFieldRef"]["resource"].split(".")
            variable = {**variable, "value": only["resources"][kind][resource]}
        variables[variable["name"]] = variable["value"]
    return variables
