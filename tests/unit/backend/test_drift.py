"""The tests of a plan file's promise: false alarms at the stated rate at most, and real changes seen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from codecascade.drift import (
    COST,
    COST_BUCKETS_USD,
    REACH,
    Costs,
    Promise,
    Seen,
    TierPromise,
    costs_more,
    drifts,
    how_many_tests,
    promise_in,
    share_changed,
)
from codecascade.plans import load_plans
from codecascade.trace import StepTrace
from codecascade_build.paths import PLANS

TASKS = 115  # of the simulations
RATE = 0.05
STAKES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
RUNS = 400
REQUESTS = 1_000


def alarms(log_e_values: Iterable[float], rate: float = RATE) -> bool:
    """Whether somebody who looks after every request is alarmed."""
    return any(value >= math.log(1 / rate) for value in log_e_values)


def shares(rng: np.random.Generator, before: float, now: float, requests: int = REQUESTS) -> Iterator[float]:
    """The e-value after every request, of a promise that is itself an estimate from held-out tasks."""
    promised, hits = rng.binomial(TASKS, before), np.cumsum(rng.random(requests) < now)
    return (share_changed(promised, TASKS, int(hit), count) for count, hit in enumerate(hits, start=1))


def costs(rng: np.random.Generator, mean: float, promised: float, requests: int = REQUESTS) -> Iterator[float]:
    """The same of heavy-tailed costs, after every tenth request."""
    seen = Costs()
    for number, cost in enumerate(rng.lognormal(math.log(mean) - 0.5, 1.0, requests)):
        seen.add(float(cost))
        if number % 10 == 0:
            yield costs_more(seen, promised)


def most_alarms(rate: float, runs: int) -> float:
    """What a test with this rate stays below in all but 1 of 1,000 tries."""
    return runs * rate + 3.1 * math.sqrt(runs * rate * (1 - rate))


@pytest.mark.parametrize("share", [0.02, 0.43, 0.9])
def test_shares_that_stay_raise_no_more_false_alarms_than_stated(share: float) -> None:
    rng = np.random.default_rng(1)
    assert sum(alarms(shares(rng, share, share)) for _ in range(RUNS)) <= most_alarms(RATE, RUNS)


def test_costs_that_stay_raise_no_more_false_alarms_than_stated() -> None:
    rng = np.random.default_rng(2)
    raised = sum(alarms(costs(rng, 1.4e-4, 1.4e-4, 300)) for _ in range(RUNS // 2))
    assert raised <= most_alarms(RATE, RUNS // 2)


@pytest.mark.parametrize(("before", "now"), [(0.43, 0.80), (0.43, 0.10), (0.05, 0.30)])
def test_a_share_that_changes_is_seen(before: float, now: float) -> None:
    rng = np.random.default_rng(3)
    assert sum(alarms(shares(rng, before, now), rate=1e-3) for _ in range(50)) >= 45


def test_costs_that_double_are_seen() -> None:
    rng = np.random.default_rng(4)
    assert sum(alarms(costs(rng, 2.8e-4, 1.4e-4), rate=1e-3) for _ in range(20)) == 20


def test_costs_that_fall_raise_no_alarm() -> None:
    assert not alarms(costs(np.random.default_rng(5), 0.5e-4, 1.4e-4))


@pytest.mark.parametrize("seed", range(5))
def test_the_capital_is_never_more_than_the_bets_on_the_costs_themselves_give(seed: int) -> None:
    """Else a histogram could raise alarms that the costs do not."""
    rng, promised = np.random.default_rng(seed), 1.4e-4
    spent = [0.0, 1e-6, 3.0, *rng.lognormal(math.log(2e-4), 1.5, 200)]
    seen = Costs()
    for cost in spent:
        seen.add(float(cost))
    exact = np.log(np.mean([np.prod(1 + stake * (np.array(spent) / promised - 1)) for stake in STAKES]))
    assert exact - 0.25 * len(spent) < costs_more(seen, promised) <= exact


def test_costs_on_the_ends_of_buckets_lose_nothing() -> None:
    seen = Costs()
    for cost in (COST_BUCKETS_USD[6], COST_BUCKETS_USD[6], COST_BUCKETS_USD[8]):
        seen.add(cost)
    gains = [math.prod(1 + stake * (cost / 1e-4 - 1) for cost in (1e-4, 1e-4, 5e-4)) for stake in STAKES]
    assert costs_more(seen, 1e-4) == pytest.approx(math.log(sum(gains) / len(gains)))


def test_what_is_free_by_promise_and_is_not_is_certain() -> None:
    free = Costs()
    free.add(0.0)
    assert costs_more(free, 0.0) == 0
    free.add(1e-7)
    assert costs_more(free, 0.0) > 1000


SMALL = TierPromise(108, {"accepted": 65, "given_tests": 108, "full_score": 65}, cost_usd=0.7e-4, most_usd=0.8e-4)
PROMISE = Promise(TASKS, {"small": 0.94, "large": 0.43}, cost_usd=1.3e-4, most_usd=1.6e-4, tiers={"small": SMALL})


def step(tier: str, cost_usd: float, decision: str = "accept", tests: int = 3, score: float = 1.0) -> StepTrace:
    return StepTrace(tier, 1, 1.0, decision, "", n_given_tests=tests, score=score, cost_usd=cost_usd)


def seen_of(*requests: tuple[StepTrace, ...]) -> Seen:
    seen = Seen()
    for steps in requests:
        seen.add(steps)
    return seen


def test_all_that_is_promised_of_requests_and_tiers_is_tested() -> None:
    left = step("small", 1e-4, "escalate", score=0.5)
    found = drifts(PROMISE, seen_of((step("small", 1e-4, tests=0),), (left, step("large", 2e-4))))
    assert [(drift.what, drift.tier, drift.promised, drift.seen) for drift in found] == [
        (COST, "", 1.3e-4, pytest.approx(2e-4)),
        (REACH, "small", pytest.approx(0.94), 1.0),
        ("accepted", "small", 65 / 108, 0.5),
        ("given_tests", "small", 1.0, 0.5),
        ("full_score", "small", 65 / 108, 0.5),
        (COST, "small", 0.7e-4, 1e-4),
        (REACH, "large", pytest.approx(0.43), 0.5),
    ]
    assert all(drift.log10_e < 1 for drift in found)
    assert how_many_tests(PROMISE, ["small", "large"]) == len(found)


@pytest.mark.parametrize(
    ("steps", "drifted"),
    [
        ((step("small", 0.7e-4, "escalate"), step("large", 1e-4)), {("accepted", "small"), (REACH, "large")}),
        ((step("small", 0.7e-4, tests=0, score=0.0),), {("given_tests", "small"), ("full_score", "small"), (REACH, "large")}),
        ((step("small", 3e-4),), {(COST, "small"), (COST, ""), (REACH, "large")}),
        ((step("huge", 1e-5),), {(REACH, "small"), (REACH, "large"), (REACH, "huge")}),
    ],
    ids=["acceptance", "evidence", "cost", "another tier"],
)
def test_a_change_is_told_where_it_is(steps: tuple[StepTrace, ...], drifted: set[tuple[str, str]]) -> None:
    found = drifts(PROMISE, seen_of(*[steps] * 200))
    assert {(drift.what, drift.tier) for drift in found if drift.log10_e > 3} >= drifted
    assert all(drift.tier in ("", "large", "huge", "small") for drift in found)


def test_nothing_is_said_before_the_first_request() -> None:
    assert drifts(PROMISE, Seen()) == []


@pytest.mark.parametrize("family", ["qwen2.5-coder", "wizardcoder-python"])
def test_searched_plan_files_promise_what_is_tested(family: str) -> None:
    file = load_plans(PLANS / f"{family}.json")
    promises = {name: promise_in(file, name) for name in file.plans}
    for name, promise in promises.items():
        assert promise is not None
        assert promise.tasks == file.provenance["split"]["held_out_tasks"] >= TASKS
        assert set(promise.reach) <= set(file.plans[name].tiers)
        assert 0 < promise.cost_usd <= promise.most_usd


def test_what_a_plan_file_says_of_tiers_adds_up_to_what_it_says_of_requests() -> None:
    file = load_plans(PLANS / "qwen2.5-coder.json")
    for name in file.plans:
        promise = promise_in(file, name)
        assert promise is not None
        assert {tier: did.asked / promise.tasks for tier, did in promise.tiers.items()} == pytest.approx(promise.reach, abs=1e-5)
        parts = sum(did.asked * did.cost_usd for did in promise.tiers.values())
        assert parts / promise.tasks == pytest.approx(promise.cost_usd, rel=1e-4)
        assert all(0 <= share <= did.asked for did in promise.tiers.values() for share in did.shares.values())


def test_a_plan_written_by_hand_promises_nothing() -> None:
    file = load_plans(PLANS / "codegen-mono.json")
    assert promise_in(file, file.default) is None
