import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from codecascade.deployment import Deployment, Tier
from codecascade.errors import InvalidRequest, PlanFileError
from codecascade.plans import LOOK_S, PlanFile, PlanStore, Wish, load_plans, step_entry
from codecascade.types import Plan, PlanStep

GOOD: dict[str, Any] = {
    "format": 1,
    "family": "tiny",
    "provenance": {"method": "written by hand"},
    "default": "balanced",
    "plans": {
        "balanced": {"steps": [{"tier": "small", "k": 3, "lines_per_sample": 2, "threshold": 0.7}, {"tier": "large", "k": 0}]},
        "cheap": {"steps": [{"tier": "small", "k": 0}]},
    },
}


def of_step(**step: Any) -> dict[str, Any]:
    """A change: the file's only plan has one step."""
    return {"plans": {"balanced": {"steps": [{"tier": "a", "lines_per_sample": int(step["k"] > 0), **step}]}}}


def write(path: Path, data: Any) -> Path:
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


DEPLOYMENT = Deployment(
    "tiny", Path("tiny.json"), {name: Tier(name, "base", 2048, 512, price_per_mtok=1.0) for name in ("small", "large")}
)


def anything(plans: PlanFile) -> None:
    """Every plan file fits."""


def test_a_plan_file_gives_its_plans_by_name(tmp_path: Path) -> None:
    plans = load_plans(write(tmp_path / "p.json", GOOD))
    assert plans.choose(None) == Plan("balanced", (PlanStep("small", 3, 2, 0.7), PlanStep("large", 0)))
    assert plans.choose("cheap").name == "cheap"


def test_a_plan_has_steps_for_infills(tmp_path: Path) -> None:
    infill = [{"tier": "small", "accept_log_prob": -1.5}, {"tier": "large", "k": 0}]
    data = {**GOOD, "plans": {"balanced": {**GOOD["plans"]["balanced"], "infill": infill}}}
    plan = load_plans(write(tmp_path / "p.json", data)).choose(None)
    assert plan.infill_steps == (PlanStep("small", 0, accept_log_prob=-1.5), PlanStep("large", 0))
    assert [step_entry(step, last=last) for step, last in zip(plan.infill_steps, (False, True), strict=True)] == [
        {"tier": "small", "k": 0, "accept_log_prob": -1.5},
        {"tier": "large", "k": 0},
    ]


def test_an_unknown_plan_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="plan 'best' is unknown, allowed are balanced, cheap"):
        load_plans(write(tmp_path / "p.json", GOOD)).choose("best")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ('{"format": 1, "fam', "cannot be read: Unterminated string"),
        ([], "is not valid"),
        ({"format": 2}, "format is 2, this version reads format 1"),
        ({"default": "best"}, "default is 'best', must be one of the plans balanced, cheap"),
        ({"family": None}, "family is None"),
        ({"plans": {}}, "default is 'balanced', must be one of the plans"),
        ({"plans": {"balanced": {"steps": []}}}, "plan 'balanced' has no steps"),
        ({"plans": {"balanced": {"steps": [{"tier": "small"}]}}}, "missing 1 required positional argument: 'k'"),
        ({"plans": {"balanced": {"steps": [{"tier": "a", "k": 3}]}}}, "lines_per_sample of tier 'a' is 0, must be 1 to 100"),
        ({"plans": {"balanced": {"steps": [{"tier": "a", "k": -1}]}}}, "k of tier 'a' is -1, must be 0 to 100"),
        ({"plans": {"balanced": {"steps": [{"tier": "a", "k": "3"}]}}}, "k of tier 'a' is '3'"),
        (
            {"plans": {"balanced": {"steps": [{"tier": "a", "k": 1, "lines_per_sample": 2, "threshold": 7}]}}},
            "threshold of tier 'a' is 7",
        ),
        (
            {"plans": {"balanced": {"steps": [{"tier": "a", "k": 0}, {"tier": "b", "k": 0}]}}},
            "k = 0 and no accept_log_prob before its last one",
        ),
        (of_step(k=1, accept_log_prob=0.5), "accept_log_prob of tier 'a' is 0.5, must be -1000000 to 0"),
        (of_step(k=1, leave_log_prob="low"), "leave_log_prob of tier 'a' is 'low', must be -1000000 to 0"),
        (of_step(k=3, accept_log_prob=-1), "needs a greedy answer, k is 3, must be 0 or 1"),
        (of_step(k=0, leave_log_prob=-1), "leave_log_prob of tier 'a' saves tests, k is 0, must be 1"),
        (
            of_step(k=1, accept_log_prob=-4, leave_log_prob=-3),
            "leave_log_prob of tier 'a' is -3, must be accept_log_prob, -4, or less",
        ),
        ({"plans": {"balanced": {"steps": [{"tier": "a", "k": 1, "lines_per_sample": 2}] * 2}}}, "names a tier twice: a, a"),
        ({"plans": {"balanced": {"steps": [{"tier": "a", "k": 0, "retries": 2}]}}}, "unexpected keyword argument 'retries'"),
    ],
)
def test_a_bad_plan_file_is_refused_in_one_sentence(tmp_path: Path, change: Any, sentence: str) -> None:
    path = write(tmp_path / "p.json", {**GOOD, **change} if isinstance(change, dict) else change)
    with pytest.raises(PlanFileError, match=f"plan file {path} ") as refused:
        load_plans(path)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_plan_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlanFileError, match=r"nowhere.json cannot be read"):
        load_plans(tmp_path / "nowhere.json")


def test_a_changed_file_is_in_force_within_a_second_and_a_corrupt_one_never(tmp_path: Path) -> None:
    path = write(tmp_path / "p.json", GOOD)
    seconds = itertools.count(start=0, step=LOOK_S)
    problems: list[str] = []
    store = PlanStore(path, problems.append, anything, clock=lambda: next(seconds))
    assert store.current().default == "balanced"
    write(path, {**GOOD, "default": "cheap"})
    assert store.current().default == "cheap"
    write(path, "{ half a fi")
    assert store.current().default == "cheap"
    assert store.current().default == "cheap"
    path.unlink()
    assert store.current().default == "cheap"
    assert [problem.split(":")[0] for problem in problems] == [f"plan file {path} cannot be read"] * 2
    write(path, GOOD)
    assert store.current().default == "balanced"
    assert len(problems) == 2


def test_the_file_is_not_looked_at_for_every_request(tmp_path: Path) -> None:
    path = write(tmp_path / "p.json", GOOD)
    store = PlanStore(path, pytest.fail, anything, clock=lambda: 0.0)
    write(path, {**GOOD, "default": "cheap"})
    assert store.current().default == "balanced"


def test_the_older_name_of_lines_per_sample_is_read(tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    path.write_text(json.dumps(GOOD).replace("lines_per_sample", "test_lines"))
    assert load_plans(path).plans["balanced"].steps[0].lines_per_sample == 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"family": "other"}, "does not fit the deployment: its family is 'other', must be 'tiny', which is deployed"),
        (
            {"plans": {**GOOD["plans"], "far": {"steps": [{"tier": "huge", "k": 0}]}}},
            "does not fit the deployment: plan 'far' names tier 'huge', which is not deployed, deployed are small, large",
        ),
        (
            {"plans": {**GOOD["plans"], "far": {**GOOD["plans"]["cheap"], "given_tests": [{"tier": "huge", "draws": 1}]}}},
            "names tier 'huge', which is not deployed",
        ),
        ("[" * 100_000, "cannot be read: maximum recursion depth exceeded"),
        (json.dumps(GOOD)[:-20], "cannot be read: "),
    ],
)
def test_a_file_that_does_not_fit_the_deployment_is_never_in_force(tmp_path: Path, change: Any, sentence: str) -> None:
    bad = change if isinstance(change, str) else {**GOOD, **change}
    path = write(tmp_path / "p.json", bad)
    with pytest.raises(PlanFileError, match=sentence):
        PlanStore(path, pytest.fail, DEPLOYMENT.check_plans)
    write(path, GOOD)
    seconds = itertools.count(start=0, step=LOOK_S)
    problems: list[str] = []
    store = PlanStore(path, problems.append, DEPLOYMENT.check_plans, clock=lambda: next(seconds))
    write(path, bad)
    for _ in range(3):
        assert store.current().plans.keys() == {"balanced", "cheap"}
    (problem,) = problems
    assert sentence in problem
    assert problem.endswith("; the earlier plans stay in force")


def promised(**plans: tuple[float, float]) -> dict[str, Any]:
    """A file that promises of each plan an accuracy and dollars per 1,000 requests."""
    return {
        **GOOD,
        "plans": {
            **GOOD["plans"],
            **{
                name: {
                    "steps": [{"tier": "small", "k": 0}],
                    "held_out": {"accuracy": {"mean": accuracy}, "usd_per_1000": {"mean": usd_per_1000}},
                }
                for name, (accuracy, usd_per_1000) in plans.items()
            },
        },
    }


OFFER = promised(poor=(0.5, 1.0), good=(0.8, 2.0), twin=(0.8, 2.0), best=(0.9, 9.0))


@pytest.mark.parametrize(
    ("wish", "plan"),
    [
        (Wish(), "balanced"),
        (Wish(plan="best"), "best"),
        (Wish(min_accuracy=0.0), "poor"),
        (Wish(min_accuracy=0.8), "good"),
        (Wish(min_accuracy=0.81), "best"),
        (Wish(value_per_correct=0.0), "poor"),
        (Wish(value_per_correct=0.01), "good"),
        (Wish(value_per_correct=1.0), "best"),
    ],
)
def test_a_plan_is_wished_for_by_what_is_promised_of_it(tmp_path: Path, wish: Wish, plan: str) -> None:
    assert load_plans(write(tmp_path / "p.json", OFFER)).wished(wish).name == plan


def test_a_wish_that_no_plan_meets_is_refused_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"min_accuracy is 0\.95, must be 0\.9 or less, .* promises of 'best'"):
        load_plans(write(tmp_path / "p.json", OFFER)).wished(Wish(min_accuracy=0.95))
    silent = load_plans(write(tmp_path / "p.json", GOOD))
    for wish, sentence in (
        (Wish(min_accuracy=0.5), "min_accuracy is 0.5"),
        (Wish(value_per_correct=2.0), "value_per_correct is 2"),
    ):
        with pytest.raises(InvalidRequest, match=f"{sentence}, but the plan file of family 'tiny' promises nothing"):
            silent.wished(wish)


def test_only_one_wish_is_taken() -> None:
    with pytest.raises(InvalidRequest, match=r"plan is 'a' and value_per_correct is 1.0, only one of plan, min_accuracy, value_"):
        Wish(plan="a", value_per_correct=1.0)


@pytest.mark.parametrize("figure", ["0.8", None, 1.5, -0.1, float("nan")])
def test_a_promise_that_is_none_is_refused(tmp_path: Path, figure: Any) -> None:
    with pytest.raises(PlanFileError, match="is not valid"):
        load_plans(write(tmp_path / "p.json", promised(odd=(figure, 1.0))))
