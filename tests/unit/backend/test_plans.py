import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from codecascade.errors import InvalidRequest, PlanFileError
from codecascade.plans import LOOK_S, PlanFile, PlanStore, Wish, load_plans
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


def anything(plans: PlanFile) -> None:
    """Every plan file fits."""


def test_a_plan_file_gives_its_plans_by_name(tmp_path: Path) -> None:
    plans = load_plans(write(tmp_path / "p.json", GOOD))
    assert plans.choose(None) == Plan("balanced", (PlanStep("small", 3, 2, 0.7), PlanStep("large", 0)))
    assert plans.choose("cheap").name == "cheap"


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
