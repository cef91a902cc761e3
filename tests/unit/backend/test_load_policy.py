"""Which plan is taken as the load rises and falls."""

from __future__ import annotations

import re
from typing import Any

import pytest
from codecascade.load_policy import LoadLevel, LoadPolicy, load_note

LEVELS = (LoadLevel("cheaper", since=100, until=50), LoadLevel("cheapest", since=200, until=150))


def plans(*loads: int, policy: LoadPolicy | None = None) -> list[str | None]:
    policy = policy or LoadPolicy(LEVELS)
    return [policy.plan(requests) for requests in loads]


def test_without_levels_the_plan_is_the_files() -> None:
    policy = LoadPolicy(())
    assert plans(1, 10**6, policy=policy) == [None, None]
    assert policy.switches == 0


def test_a_level_begins_at_its_load_and_ends_below_a_lower_one() -> None:
    assert plans(99, 100, 99, 50, 49, 99) == [None, "cheaper", "cheaper", "cheaper", None, None]


def test_levels_follow_one_another_up_and_down() -> None:
    assert plans(100, 200, 160, 149, 49) == ["cheaper", "cheapest", "cheapest", "cheaper", None]


def test_a_jump_passes_all_levels_at_once() -> None:
    policy = LoadPolicy(LEVELS)
    assert plans(500, 0, policy=policy) == ["cheapest", None]
    assert policy.switches == 2


def test_a_load_that_swings_between_the_bounds_switches_once() -> None:
    policy = LoadPolicy(LEVELS)
    assert set(plans(*[100, 60] * 50, policy=policy)) == {"cheaper"}
    assert policy.switches == 1


def test_the_note_says_why() -> None:
    assert load_note("cheaper", None) == "plan 'cheaper' was taken because of load"
    assert load_note("cheaper", "no tests were run") == "plan 'cheaper' was taken because of load; no tests were run"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"plan": "", "since": 2, "until": 1}, "plan of a load level is '', must be a name of the plan file"),
        ({"plan": "p", "since": 2, "until": 2}, "has since 2 and until 2, must be whole numbers above 0, until below since"),
        ({"plan": "p", "since": 2, "until": 0}, "has since 2 and until 0"),
        ({"plan": "p", "since": 2.5, "until": 1}, "has since 2.5 and until 1"),
    ],
)
def test_a_level_that_is_none_is_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        LoadLevel(**values)
