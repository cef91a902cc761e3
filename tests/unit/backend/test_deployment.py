import json
from pathlib import Path
from typing import Any

import pytest
from codecascade.deployment import Deployment, load_deployment
from codecascade.errors import DeploymentError, InvalidRequest
from codecascade.load_policy import LoadLevel
from codecascade.prices import Prices, TokenPrice
from codecascade.types import Plan, PlanStep

TIER = {"name": "small", "style": "chatml", "context_tokens": 4096, "max_completion_tokens": 512, "price_per_mtok": 2.0}
GOOD: dict[str, Any] = {"format": 1, "family": "tiny", "runtime": "llama_cpp", "plans": "plans/tiny.json", "tiers": [TIER]}


def load(tmp_path: Path, data: Any) -> Deployment:
    path = tmp_path / "tiny.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return load_deployment(path)


def test_prices_are_those_of_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD).prices == Prices({"small": TokenPrice(2.0)})
    tier = {**TIER, "prompt_price_per_mtok": 0.25}
    deployment = load(tmp_path, {**GOOD, "tiers": [tier], "sandbox_price_per_cpu_s": 1e-5})
    assert deployment.prices == Prices({"small": TokenPrice(2.0, 0.25)}, 1e-5)


def test_the_longest_prompt_is_the_files_or_256_kib(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD).max_prompt_bytes == 256 * 1024
    assert load(tmp_path, {**GOOD, "max_prompt_bytes": 1000}).max_prompt_bytes == 1000


def test_bounds_are_the_files_or_have_defaults(tmp_path: Path) -> None:
    plain = load(tmp_path, GOOD)
    assert (plain.max_requests, plain.max_request_bytes) == (1_000, 4 * 1024 * 1024)
    assert (plain.sandbox_max_in_flight, plain.sandbox_max_queue) == (64, 2_000)
    assert (plain.tiers["small"].max_in_flight, plain.tiers["small"].max_queue) == (None, 2_000)
    bounds = {"max_requests": 7, "max_request_bytes": 9, "sandbox_max_in_flight": 3, "sandbox_max_queue": 0}
    told = load(tmp_path, {**GOOD, **bounds, "tiers": [{**TIER, "max_in_flight": 2, "max_queue": 5}]})
    assert {name: getattr(told, name) for name in bounds} == bounds
    assert (told.tiers["small"].max_in_flight, told.tiers["small"].max_queue) == (2, 5)


def test_plans_for_times_of_load_are_the_files(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD).load_policy == ()
    level = {"plan": "cheap", "since": 20, "until": 10}
    assert load(tmp_path, {**GOOD, "load_policy": [level]}).load_policy == (LoadLevel("cheap", 20, 10),)


def test_the_packages_of_the_sandbox_are_those_of_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD).sandbox_modules == ()
    assert load(tmp_path, {**GOOD, "sandbox_modules": ["numpy", "pandas"]}).sandbox_modules == ("numpy", "pandas")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("{", "Expecting property name"),
        ({**GOOD, "format": 3}, "format is 3, this version reads format 1"),
        ({**GOOD, "tiers": []}, "tiers is empty, must hold at least one"),
        ({**GOOD, "tiers": [{**TIER, "style": "xml"}]}, "tier 'small' has style 'xml', allowed are base, alpaca, chatml"),
        (
            {**GOOD, "tiers": [{**TIER, "price_per_mtok": float("nan")}]},
            "price_per_mtok of tier 'small' is nan, must be",
        ),
        ({**GOOD, "tiers": [{**TIER, "prompt_price_per_mtok": -1}]}, "prompt_price_per_mtok of tier 'small' is -1"),
        ({**GOOD, "sandbox_price_per_cpu_s": "dear"}, "sandbox_price_per_cpu_s is 'dear', must be 0 or more dollars"),
        ({**GOOD, "tiers": [{**TIER, "context_tokens": 0}]}, "tier 'small' has context_tokens"),
        ({**GOOD, "max_prompt_bytes": 0}, "max_prompt_bytes is 0, must be a whole number, 1 or more"),
        ({**GOOD, "max_requests": 0}, "max_requests is 0, must be a whole number, 1 or more"),
        ({**GOOD, "max_request_bytes": 1.5}, "max_request_bytes is 1.5, must be a whole number, 1 or more"),
        ({**GOOD, "sandbox_max_queue": -1}, "sandbox_max_queue is -1, must be a whole number, 0 or more"),
        (
            {**GOOD, "tiers": [{**TIER, "max_in_flight": 0}]},
            "max_in_flight of tier 'small' is 0, must be a whole number, 1 or more",
        ),
        (
            {**GOOD, "tiers": [{**TIER, "max_queue": "no"}]},
            "max_queue of tier 'small' is 'no', must be a whole number, 0",
        ),
        (
            {**GOOD, "load_policy": [{"plan": "a", "since": 9, "until": 5}, {"plan": "b", "since": 8, "until": 6}]},
            "load_policy must be by rising load",
        ),
        ({**GOOD, "load_policy": [{"plan": "a", "since": 9, "until": 9}]}, "load level of plan 'a' has since 9 and until 9"),
        ({"format": 1}, "'tiers' is missing"),
        ({**GOOD, "sandbox_modules": "numpy"}, "sandbox_modules is 'numpy', must be a list of names of packages"),
        ({**GOOD, "sandbox_modules": ["numpy.linalg"]}, "sandbox_modules is ('numpy.linalg',), must be names of packages"),
        ({**GOOD, "sandbox_modules": [1]}, "sandbox_modules is (1,), must be names of packages"),
    ],
)
def test_a_bad_deployment_file_is_refused_in_one_sentence(tmp_path: Path, data: Any, sentence: str) -> None:
    with pytest.raises(DeploymentError) as refused:
        load(tmp_path, data)
    assert sentence in str(refused.value)
    assert "tiny.json cannot be used" in str(refused.value)


def test_a_plan_that_names_a_tier_that_is_not_deployed_is_refused(tmp_path: Path) -> None:
    plan = Plan("big", (PlanStep("huge", k=0),))
    with pytest.raises(InvalidRequest, match="plan 'big' names tier 'huge', which is not deployed, deployed are small"):
        load(tmp_path, GOOD).check(plan)
