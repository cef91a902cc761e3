"""Plans for requests that come with tests: searched exactly, and with promises of tasks that the search did not see."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from statistics import fmean

import numpy as np
import pytest
from codecascade.prices import PICODOLLARS
from codecascade.types import GivenStep, Plan, PlanStep
from codecascade_client.replay.table import Outcome, Table, outcome, tabulate
from codecascade_client.search.chains import DRAWS, every_chain
from codecascade_client.search.dial import dial, hull
from codecascade_client.search.frontier import Grid, pareto_frontier
from codecascade_client.search.offers import (
    WORTHS,
    at_values,
    cross_fitted,
    evidence_that_pays,
    greedy_answer,
    offers,
    patience_pays,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.client import synthetic_recordings as synthetic

GRID = Grid((0.5, 1.0))
SEEDS = st.integers(0, 10**6)
REST = (PlanStep("large", 0),)


def enumerated(table: Table) -> Iterator[tuple[GivenStep, ...]]:
    """Every chain by the rules as they are written: no tier is skipped, some numbers of draws, never more of a larger tier."""
    numbers = [number for number in DRAWS if number <= synthetic.K + 1]
    for size in range(1, len(table.tiers) + 1):
        for draws in itertools.product(numbers, repeat=size):
            if list(draws) == sorted(draws, reverse=True):
                yield tuple(map(GivenStep, table.tiers[:size], draws))


def with_tests(table: Table) -> Table:
    return table.only(tasks=[task for task, comes in zip(table.tasks, table.given, strict=True) if comes])


def without_tests(table: Table) -> Table:
    return table.only(tasks=[task for task, comes in zip(table.tasks, table.given, strict=True) if not comes])


def worth(result: Outcome, value: Fraction) -> Fraction:
    return value * int(result.correct.sum()) - int(result.cost.sum())


@given(seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_every_chain_costs_and_gets_right_what_the_plan_does(seed: int) -> None:
    table = tabulate(synthetic.recording(seed, tasks=7))
    chains = every_chain(table)
    assert {chain.steps for chain in chains} == set(enumerated(table))
    assert len(chains) == len({chain.steps for chain in chains})
    for chain in chains[::7]:
        alone = outcome(with_tests(table), Plan("p", REST, chain.steps))
        assert chain.cost.tolist() == alone.cost.sum(axis=0).tolist()
        assert chain.correct.tolist() == alone.correct.sum(axis=0).tolist()


def may_go_on(table: Table, steps: tuple[GivenStep, ...]) -> bool:
    """Whether each tier but the last draws as often as costs no more than one greedy answer of the next."""
    given_tests = with_tests(table)
    greedy = [int(given_tests.draws[step.tier].cost[0].sum()) for step in steps]
    most = [min(synthetic.K + 1, larger // smaller) for smaller, larger in itertools.pairwise(greedy)]
    return all(step.draws >= draws for step, draws in zip(steps[:-1], most, strict=True))


@given(seed=SEEDS)
@settings(max_examples=8, deadline=None)
def test_patient_plans_draw_more_before_a_dearer_tier_is_asked(seed: int) -> None:
    table = tabulate(synthetic.recording(seed, tasks=7))
    patient = {chain.steps for chain in every_chain(table, patient=True)}
    assert patient == {steps for steps in enumerated(table) if may_go_on(table, steps)}
    assert dial(table, GRID, patient=True).given == hull(
        (int(chain.cost.sum()), int(chain.correct.sum()), chain.steps) for chain in every_chain(table) if chain.steps in patient
    )


@given(seed=SEEDS)
@settings(max_examples=6, deadline=None)
def test_patience_is_chosen_by_tasks_that_the_search_did_not_see(seed: int) -> None:
    table = with_tests(tabulate(synthetic.recording(seed, tasks=7)))
    values = [Fraction(worth_) * greedy_answer(table) for worth_ in WORTHS]
    sums = []
    for patient in (False, True):
        cost, right = cross_fitted(table, GRID, values, patient=patient)
        sums.append(sum(float((right[row] - cost[row] / float(value / PICODOLLARS)).sum()) for row, value in enumerate(values)))
    if sums[0] != pytest.approx(sums[1]):
        assert patience_pays(table) == (sums[1] > sums[0])
    assert not patience_pays(replace(table, draws={}))


@given(seed=SEEDS)
@settings(max_examples=6, deadline=None)
def test_evidence_is_chosen_by_tasks_that_the_search_did_not_see(seed: int) -> None:
    table = without_tests(tabulate(synthetic.recording(seed, tasks=12)))
    values = [Fraction(worth_) * greedy_answer(table) for worth_ in WORTHS]
    whole = Grid((0.5, 1.0), log_probs=(-6.0, -2.0))
    kinds = [replace(whole, ks=(0,), log_probs=()), replace(whole, ks=(0,)), replace(whole, log_probs=()), whole]
    sums = []
    for kind in kinds:
        cost, right = cross_fitted(table, kind, values)
        sums.append(sum(float((right[row] - cost[row] / float(value / PICODOLLARS)).sum()) for row, value in enumerate(values)))
    best = max(sums)
    assert evidence_that_pays(table, whole) == next(
        kind for kind, total in zip(kinds, sums, strict=True) if total == pytest.approx(best)
    )
    assert evidence_that_pays(with_tests(tabulate(synthetic.recording(seed, tasks=7))), whole) == whole


@given(seed=SEEDS, dollars=st.floats(1e-6, 1e-1))
@settings(max_examples=15, deadline=None)
def test_no_plan_is_worth_more_than_the_dials(seed: int, dollars: float) -> None:
    table = tabulate(synthetic.recording(seed, tasks=7))
    value = Fraction(dollars) * PICODOLLARS
    plan = dial(table, GRID).at(value)
    given_tests, rest = with_tests(table), without_tests(table)
    best_given = max(worth(outcome(given_tests, Plan("p", REST, steps)), value) for steps in enumerated(table))
    best_rest = max(value * point.correct - point.cost for point in pareto_frontier(rest, GRID))
    assert worth(outcome(given_tests, plan), value) == best_given
    assert worth(outcome(rest, plan), value) == best_rest
    assert worth(outcome(table, plan), value) == best_given + best_rest


@given(points=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), min_size=1, max_size=30), value=st.integers(0, 60))
def test_a_hull_has_the_best_point_of_every_value(points: list[tuple[int, int]], value: int) -> None:
    found = hull((cost, correct, (cost, correct)) for cost, correct in points)
    cost, correct = found.at(Fraction(value))
    assert value * correct - cost == max(value * right - paid for paid, right in points)
    assert list(found.values) == sorted(set(found.values)), "each value is one place of the dial"


@given(seed=SEEDS)
@settings(max_examples=8, deadline=None)
def test_a_task_is_promised_what_the_search_without_it_gives(seed: int) -> None:
    table = tabulate(synthetic.recording(seed, tasks=8))
    values = [worth_ * greedy_answer(table) for worth_ in (2, 20)]
    cost, right = cross_fitted(table, GRID, values)
    for column, task in enumerate(table.tasks):
        others = dial(table.only(tasks=[other for other in table.tasks if other != task]), GRID)
        for row, value in enumerate(values):
            alone = outcome(table.only(tasks=[task]), others.at(value))
            assert right[row, column] == pytest.approx(alone.accuracy), (
                "each task without tests is a part of its own: they are few"
            )
            assert cost[row, column] == pytest.approx(alone.cost_usd)


def test_a_promise_is_kept_where_the_best_plan_only_looks_better() -> None:
    """Every answer is right by the toss of a coin, so no plan is better than another."""
    looked, promised, kept = [], [], []
    for seed in range(30):
        recording, rng = synthetic.recording(seed, tasks=60, runs=1), np.random.default_rng(seed)
        tossed = {unit: rng.random(len(right)) < 0.5 for unit, right in recording.correct.items()}
        table = tabulate(replace(recording, correct=tossed))
        searched, new = table.only(tasks=table.tasks[:20]), table.only(tasks=table.tasks[20:])
        (offer,) = at_values(searched, GRID, [20 * greedy_answer(searched)])
        looked.append(outcome(searched, offer.plan).accuracy)
        promised.append(float(offer.right.mean()))
        kept.append(outcome(new, offer.plan).accuracy)
    assert fmean(looked) > fmean(kept) + 0.07
    assert fmean(promised) == pytest.approx(fmean(kept), abs=0.06)


def test_the_dial_is_offered_at_its_places_and_dearer_ones_cost_more() -> None:
    table = tabulate(synthetic.recording(3, tasks=40))
    offered = offers(table, GRID)
    assert [offer.plan.name for offer in offered] == [f"worth-{worth_}" for worth_ in (1, 2, 3.5, 5, 10, 20, 50, 100)]
    costs = [outcome(table, offer.plan).cost_usd for offer in offered]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]
    assert offered[3].value_usd == pytest.approx(5 * outcome(table, Plan("p", REST)).cost_usd)


def test_without_tasks_that_come_with_tests_the_frontier_is_offered() -> None:
    recording = synthetic.recording(3, tasks=20)
    table = tabulate(replace(recording, given={}))
    assert [offer.plan.steps for offer in offers(table, GRID)] == [point.plan.steps for point in pareto_frontier(table, GRID)]
    assert every_chain(table) == []
    assert dial(table, GRID).at(Fraction(10**9)).given_steps == ()


def test_where_every_task_comes_with_tests_the_rest_is_searched_on_all() -> None:
    table = with_tests(tabulate(synthetic.recording(3, tasks=20)))
    assert dial(table, GRID).rest == hull((point.cost, point.correct, point.plan.steps) for point in pareto_frontier(table, GRID))
