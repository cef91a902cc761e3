"""Whatever comes as a request or a plan file: it is read, or refused in one sentence."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from codecascade.deployment import Deployment, Tier
from codecascade.errors import InvalidRequest, PlanFileError
from codecascade.plans import PlanFile, PlanStore, Wish, load_plans
from codecascade.triton.arrival import context_of_now
from codecascade.triton.cascade_contract import Received, read_asked
from codecascade_build.paths import PLANS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.backend.any_request import REQUESTS, TYPES

FILE = PLANS / "qwen2.5-coder.json"
SHIPPED: dict[str, Any] = json.loads(FILE.read_text())
DEPLOYMENT = Deployment(
    "qwen2.5-coder",
    FILE,
    {name: Tier(name, "chatml", 4096, 512, price_per_mtok=1.0) for name in ("qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")},
)


@given(request=REQUESTS)
@settings(deadline=None, max_examples=300)
def test_a_request_is_read_or_refused(request: Any) -> None:
    sentence, asked = "", None
    try:
        received = context_of_now().run(Received, request)
        asked = read_asked(received, tuple(TYPES), load_plans(FILE), DEPLOYMENT, lambda: None)
    except InvalidRequest as error:
        sentence = str(error)
    assert bool(sentence.strip()) == (asked is None)
    assert asked is None or (asked.priority in range(10) and 0 <= (asked.max_cost_usd or 0) < float("inf"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document but the whole."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inside:
        yield (*path, key)
        yield from paths(item, (*path, key))


PLACES = [path for path in paths(SHIPPED) if path[0] != "provenance"]


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    document = copy.deepcopy(SHIPPED)
    inside: Any = document
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    return document


def use(plans: PlanFile) -> None:
    for wish in (Wish(), Wish(min_accuracy=0.5), Wish(value_per_correct=0.1)):
        assert plans.wished(wish).name in plans.plans


@given(path=st.sampled_from(PLACES), value=JSON)
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_plan_file_is_used_or_refused(tmp_path: Path, path: tuple[Any, ...], value: Any) -> None:
    file = tmp_path / "plans.json"
    file.write_text(json.dumps(changed(path, value)))
    try:
        plans = PlanStore(file, pytest.fail, DEPLOYMENT.check_plans).current()
    except PlanFileError as error:
        sentence = str(error)
    else:
        sentence = ""
        use(plans)
    assert not sentence or sentence.startswith(f"plan file {file} ")


@given(length=st.integers(0, len(FILE.read_bytes()) - 2))
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_plan_file_that_is_half_written_is_refused(tmp_path: Path, length: int) -> None:
    file = tmp_path / "plans.json"
    file.write_bytes(FILE.read_bytes()[:length])
    with pytest.raises(PlanFileError, match="cannot be read"):
        load_plans(file)
