import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from codecascade.errors import InvalidRequest
from codecascade.plans import load_plans
from codecascade.prices import PICODOLLARS
from codecascade.types import GivenStep, Plan, PlanStep
from codecascade_client.datasets.split import split
from codecascade_client.errors import RecordingError
from codecascade_client.recording.recording import SampleRecording, Unit
from codecascade_client.replay.cascade import replay
from codecascade_client.replay.plans import check_same
from codecascade_client.replay.table import joined, outcome, tabulate
from codecascade_client.report.tables import dataset_table, excluded
from codecascade_client.search.choose import Bootstrap, choose, measure, single_plans, weak_tiers
from codecascade_client.search.dial import dial
from codecascade_client.search.frontier import Grid
from codecascade_client.search.offers import Offer, offers
from codecascade_client.search.savings import FRONTIER, Held, mean_savings, saving
from codecascade_client.search.search import Rules, plan_file, search
from codecascade_client.words import in_words
from numpy.typing import NDArray

from tests.unit.client import synthetic_recordings as synthetic

GRID = Grid((0.3, 0.7, 1.0))
RULES = Rules(GRID, probability=0.9, split_seed=0, splits=3)


def per_task(*right: float) -> NDArray[np.float64]:
    return np.array(right, np.float64)


def without_given_tests(recording: SampleRecording) -> SampleRecording:
    return replace(recording, given={})


def test_the_probability_of_not_being_worse() -> None:
    bootstrap = Bootstrap(tasks=10, seed=0)
    right = per_task(*[1.0] * 6, *[0.0] * 4)
    assert bootstrap.not_worse(right, right) == 1.0
    assert bootstrap.not_worse(per_task(*[1.0] * 10), right) == 1.0
    assert bootstrap.not_worse(per_task(*[0.0] * 10), right) < 0.01
    one_lost = per_task(*[1.0] * 5, *[0.0] * 5)
    assert bootstrap.not_worse(one_lost, right) == pytest.approx(0.9**10, abs=0.03), "only if the lost task is not drawn"
    assert bootstrap.not_worse(one_lost, right, loss=0.1) == pytest.approx(2 * 0.9**10 + 0.04, abs=0.04)


def test_a_gain_elsewhere_does_not_hide_a_loss_in_pairs() -> None:
    bootstrap = Bootstrap(tasks=10, seed=0)
    right = per_task(1, 1, 0, 0, 0, 0, 0, 0, 0, 0)
    other = per_task(0, 0, 1, 1, 0, 0, 0, 0, 0, 0)
    assert 0.5 < bootstrap.not_worse(other, right) < 0.8, "equally accurate, but it might as well be worse"


def test_intervals_hold_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(100):
        estimate = Bootstrap(tasks=100, seed=int(rng.integers(1 << 30))).estimate((rng.random(100) < 0.7).astype(np.float64))
        held += estimate.low <= 0.7 <= estimate.high
    assert 88 <= held <= 99


def test_a_chosen_plan_never_costs_more_than_its_reference_nor_misses_its_rule() -> None:
    table = tabulate(without_given_tests(synthetic.recording(3, tasks=60)))
    bootstrap = Bootstrap(60, seed=0)
    chosen = {choice.plan.name: choice for choice in choose(table, offers(table, GRID), 0.9, bootstrap)}
    assert list(chosen) == ["cheap", "balanced", "accurate"]
    assert in_words(chosen["balanced"].reference) == "large k=0"
    assert min(choice.probability for choice in chosen.values()) >= 0.9
    for choice in chosen.values():
        cost, limit = (measure(table, plan, bootstrap).cost_usd.mean for plan in (choice.plan, choice.reference))
        assert cost <= limit + 1e-12


def test_the_reference_is_taken_where_what_is_as_good_costs_more() -> None:
    recording = never_right(synthetic.recording(3, tasks=60), "large")
    table = tabulate(recording)
    dear = Offer(Plan("p", (PlanStep("medium", 3, 2, 1.0), PlanStep("large", 3, 2))), np.full(60, 1.0), np.ones(60))
    chosen = choose(table, [dear], 0.9, Bootstrap(60, seed=0))
    assert [in_words(choice.plan) for choice in chosen[:2]] == ["large k=0"] * 2
    assert [choice.probability for choice in chosen] == [1.0] * 3


def test_the_reference_is_taken_where_nothing_is_as_good() -> None:
    recording = never_right(synthetic.recording(3, tasks=60), "small")
    table = tabulate(recording)
    bad = Offer(Plan("p", (PlanStep("small", 0),)), np.zeros(60), np.zeros(60))
    assert [in_words(choice.plan) for choice in choose(table, [bad], 0.9, Bootstrap(60, seed=0))[:2]] == ["large k=0"] * 2


def test_a_careful_choice_loses_less_on_new_tasks_than_the_cheapest_that_looks_as_good() -> None:
    changes = {}
    for probability in (0.5, 0.9):
        savings = []
        for seed in range(3):
            recording = without_given_tests(synthetic.recording(seed, tasks=120))
            savings.append(mean_savings(tabulate(recording), GRID, probability, range(4))["balanced"])
        changes[probability] = float(np.array([saving.accuracy_change for saving in savings], np.float64).mean())
    assert changes[0.9] > changes[0.5] + 0.01


def test_savings_by_hand() -> None:
    singles = [Held(1.0, 0.50), Held(2.0, 0.603), Held(4.0, 0.598), Held(9.0, 0.80)]
    saved = saving(Held(1.5, 0.60), Held(2.0, 0.61), singles)
    assert saved.against_mean == pytest.approx(1 - 1.5 / 3.0), "the two within ±0.5 points"
    assert saved.against_cheapest == pytest.approx(1 - 1.5 / 2.0), "the cheaper of the two that are as good"
    assert saved.against_reference == pytest.approx(0.25)
    assert saved.accuracy_change == pytest.approx(-0.01)
    alone = saving(Held(5.0, 0.9), None, singles)
    assert (alone.against_mean, alone.against_cheapest, alone.against_reference) == (None, None, None)


WORTH = [f"worth-{worth}" for worth in (1, 2, 3.5, 5, 10, 20, 50, 100)]


@pytest.mark.parametrize("given_tests", [True, False])
def test_a_result_is_a_plan_file_that_the_server_loads(tmp_path: Path, given_tests: bool) -> None:
    recording = synthetic.recording(7, tasks=40) if given_tests else without_given_tests(synthetic.recording(7, tasks=40))
    result = search([recording], RULES)
    text = plan_file(result)
    assert text == plan_file(search([recording], RULES)), "the same recording and rules give the same file"
    (tmp_path / "tiny.json").write_text(text)
    loaded = load_plans(tmp_path / "tiny.json")
    assert (loaded.family, loaded.default) == ("tiny", "balanced")
    alone = ["small-alone", "medium-alone", "large-alone"]
    frontier = WORTH if given_tests else [f"frontier-{n}" for n in range(1, len(result.frontier) + 1)]
    named = ["cheap", "balanced", "accurate", *(["fast"] if given_tests else [])]
    assert [name.replace("-0", "-") for name in loaded.plans] == [*named, *alone, *frontier]
    for choice, evaluated in result.choices:
        assert bool(choice.plan.given_steps) == given_tests
        assert loaded.plans[choice.plan.name] == choice.plan
        assert outcome(result.validation, loaded.plans[choice.plan.name]).accuracy == evaluated.validation.accuracy.mean
    assert loaded.provenance["split"] == {
        "seed": 0,
        "fraction": 0.3,
        "validation_tasks": 12,
        "held_out_tasks": 28,
        "sampled_runs": 2,
    }
    promise = json.loads(text)["plans"]["balanced"]["held_out"]["accuracy"]
    assert promise["low"] <= promise["mean"] <= promise["high"]
    assert set(loaded.provenance["savings"]) == {*named, FRONTIER}


def test_the_plan_for_a_value_of_a_correct_answer_is_the_default(tmp_path: Path) -> None:
    recording = synthetic.recording(7, tasks=40)
    result = search([recording], replace(RULES, value_usd=0.001))
    (tmp_path / "tiny.json").write_text(plan_file(result))
    chosen = load_plans(tmp_path / "tiny.json").choose(None)
    best = dial(result.validation, GRID).at(Fraction(0.001) * PICODOLLARS)
    assert (chosen.name, chosen.steps, chosen.given_steps) == ("valued", best.steps, best.given_steps)
    expected = json.loads(plan_file(result))["plans"]["valued"]["expected"]
    assert expected["usd_per_correct"] == 0.001


def test_named_plans_are_worth_most_at_their_values_of_a_correct_answer() -> None:
    result = search([synthetic.recording(7, tasks=40)], RULES)
    places = {evaluated.plan.name: evaluated.plan for evaluated in result.frontier}
    for choice, _ in result.choices[:3]:
        place = places[{"cheap": "worth-3.5", "balanced": "worth-5", "accurate": "worth-50"}[choice.plan.name]]
        assert (choice.plan.steps, choice.plan.given_steps) == (place.steps, place.given_steps)
        assert in_words(choice.reference) == "large k=0"


@pytest.mark.parametrize("seed", range(4))
def test_a_fast_plan_has_no_slower_requests_than_the_largest_tier_and_is_worth_as_much(seed: int) -> None:
    table = tabulate(synthetic.recording(seed, tasks=60))
    offered = offers(table, GRID)
    fast = choose(table, offered, 0.9, Bootstrap(60, seed=0))[-1]
    assert fast.plan.name == "fast"
    costs, largest = (outcome(table, plan).usd_per_task for plan in (fast.plan, fast.reference))
    assert np.quantile(costs, 0.95) <= np.quantile(largest, 0.95) + 1e-12
    (balanced,) = (offer for offer in offered if offer.worth == 5)
    assert balanced.value_usd is not None
    right = outcome(table, fast.reference).right_per_task.mean()
    alone = balanced.value_usd * right - largest.mean()
    assert (fast.offer is None) == (fast.plan.steps == fast.reference.steps and not fast.plan.given_steps)
    if fast.offer:
        assert balanced.value_usd * fast.offer.right.mean() - fast.offer.cost_usd.mean() > alone


def test_what_a_recording_lacks_for_given_tests_is_said_in_a_sentence() -> None:
    result = search([without_given_tests(synthetic.recording(7, tasks=40))], RULES)
    said = "no plans for requests that come with tests: tier 'small', task t/0, run -1 was not judged against the tests"
    assert [sentence.startswith(said) for sentence in excluded(result)] == [True]
    assert excluded(search([synthetic.recording(7, tasks=40)], RULES)) == []


def test_the_held_out_figures_are_of_tasks_that_no_plan_was_chosen_on() -> None:
    result = search([synthetic.recording(7, tasks=40)], RULES)
    assert not set(result.validation.tasks) & set(result.held_out.tasks)
    assert len(result.validation.tasks) + len(result.held_out.tasks) == 40
    assert len(result.singles) == len(single_plans(result.validation))


def never_right(recording: SampleRecording, tier: str) -> SampleRecording:
    correct = {unit: right & (unit.tier != tier) for unit, right in recording.correct.items()}
    return replace(recording, correct=correct)


def test_the_reach_of_a_tier_is_the_share_of_the_replayed_requests_that_it_sees() -> None:
    recording = without_given_tests(synthetic.recording(7, tasks=40))
    result = search([recording], RULES)
    longest = max(result.frontier, key=lambda evaluated: len(evaluated.plan.steps))
    cells = [(task, run) for task in result.held_out.tasks for run in result.held_out.runs]
    steps = [
        step.tier for task, run in cells for step in asyncio.run(replay(longest.plan, recording, task, run)).answer.trace.steps
    ]
    assert len(longest.plan.steps) > 1
    for step in longest.plan.steps:
        assert longest.held_out.reach[step.tier] == pytest.approx(steps.count(step.tier) / len(cells))
    written = json.loads(plan_file(result))["plans"][longest.plan.name]["held_out"]["reach"]
    assert written == {tier: round(share, 6) for tier, share in longest.held_out.reach.items()}


def test_a_tier_that_is_hardly_ever_right_is_left_out_and_named() -> None:
    recording = never_right(synthetic.recording(7, tasks=40), "small")
    assert weak_tiers(tabulate(recording)) == {"small": 0.0}
    result = search([recording], RULES)
    assert result.weak == {"small": 0.0}
    assert all(step.tier != "small" for evaluated in (*result.frontier, *result.singles) for step in evaluated.plan.steps)
    assert '"excluded_tiers": {\n   "small": 0.0\n  }' in plan_file(result)


def test_nothing_to_search_is_said() -> None:
    recording = synthetic.recording(7, tasks=40)
    for tier in synthetic.PRICES_PER_MTOK:
        recording = never_right(recording, tier)
    with pytest.raises(RecordingError, match="every tier is right too rarely"):
        search([recording], RULES)
    begun = synthetic.recording(7, tasks=40)
    validation = split([f"t/{n}" for n in range(40)], seed=0).validation
    begun = replace(begun, correct={unit: right for unit, right in begun.correct.items() if unit.task in validation})
    with pytest.raises(RecordingError, match="none of the 28 held-out tasks of tiny was answered by every tier"):
        search([begun], RULES)
    with pytest.raises(InvalidRequest, match=r"a split of 3 tasks at 0.3 leaves a side empty"):
        search([synthetic.recording(7, tasks=3)], RULES)


def of_dataset(recording: SampleRecording, name: str) -> SampleRecording:
    """The same answers to the tasks of another dataset."""

    def renamed(task: str) -> str:
        return task.replace("t/", f"{name}/")

    def units(values: Mapping[Unit, Any]) -> dict[Unit, Any]:
        return {replace(unit, task=renamed(unit.task)): value for unit, value in values.items()}

    manifest = recording.manifest
    dataset = {"name": name, "sha256": name * 9, "task_ids": [renamed(task) for task in manifest.dataset["task_ids"]]}
    return replace(
        recording,
        manifest=replace(manifest, dataset=dataset),
        draws=units(recording.draws),
        judged={(replace(unit, task=renamed(unit.task)), lines): value for (unit, lines), value in recording.judged.items()},
        correct=units(recording.correct),
        broken=units(recording.broken),
        given=units(recording.given),
    )


def test_recordings_of_several_datasets_are_searched_together_and_measured_apart(tmp_path: Path) -> None:
    recordings = [synthetic.recording(7, tasks=40), of_dataset(synthetic.recording(8, tasks=20), "other")]
    result = search(recordings, RULES)
    for side, size in ((result.validation, 12 + 6), (result.held_out, 28 + 14)):
        assert len(side.tasks) == size
    apart = [split(recording.manifest.dataset["task_ids"], 0).test for recording in recordings]
    assert result.held_out.tasks == (*apart[0], *apart[1])
    (_, evaluated), *_ = result.choices
    for recording, tasks in zip(recordings, apart, strict=True):
        alone = outcome(tabulate(recording).only(tasks=tasks), evaluated.plan)
        measured = evaluated.by_dataset[recording.manifest.dataset["name"]]
        assert (measured.accuracy.mean, measured.cost_usd.mean) == pytest.approx((alone.accuracy, alone.cost_usd))
    (tmp_path / "tiny.json").write_text(plan_file(result))
    loaded = load_plans(tmp_path / "tiny.json")
    promised = loaded.promise("balanced", "other")
    assert promised
    assert promised["usd_per_1000"] != loaded.promises["balanced"]["held_out"]["usd_per_1000"]
    assert loaded.promise("balanced", "a third") == loaded.promises["balanced"]["held_out"]
    for recording in recordings:
        check_same(loaded, recording)
    with pytest.raises(RecordingError, match=r"searched on another dataset \(tiny, other\) than was recorded \(third\)"):
        check_same(loaded, of_dataset(recordings[0], "third"))
    assert [row[:2] for row in dataset_table(result).rows][:2] == [("cheap", "tiny"), ("cheap", "other")]


def test_recordings_that_do_not_go_together_are_refused() -> None:
    recording = synthetic.recording(7, tasks=40)
    with pytest.raises(RecordingError, match=r"task t/0 is in two recordings"):
        search([recording, recording], RULES)
    dearer = of_dataset(synthetic.recording(7, tasks=40, prices_per_mtok={"small": 2.0, "medium": 3.7, "large": 11.3}), "other")
    with pytest.raises(RecordingError, match="the recordings of tiny and other differ in prices: "):
        search([recording, dearer], RULES)


def test_joined_tables_hold_what_both_know() -> None:
    whole, greedy = tabulate(synthetic.recording(7)), tabulate(of_dataset(synthetic.recording(8, runs=1), "other"))
    table = joined([whole, greedy])
    assert (table.tasks, table.runs) == ((*whole.tasks, *greedy.tasks), whole.runs[:1])
    plan = Plan("p", (PlanStep("small", 1, 2, 0.5, accept_log_prob=-3.0), PlanStep("large", 3, 2)), (GivenStep("small", 2),))
    assert outcome(table, plan).cost[0].tolist() == [*outcome(whole, plan).cost[0], *outcome(greedy, plan).cost[0]]
