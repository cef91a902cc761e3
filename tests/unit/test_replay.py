import asyncio
from dataclasses import replace

import numpy as np
import pytest
from codecascade.plans import PlanFile
from codecascade.recordings import GREEDY, Recording, RecordingError, Unit
from codecascade.types import Plan, TierPlan
from codecascade_client.replay import check_recorded, replay
from codecascade_client.replay_run import check_same, replay_plans
from codecascade_client.tabulate import outcome, price, tabulate
from hypothesis import given, settings
from hypothesis import strategies as st
from unit import synthetic_recordings as synthetic

THRESHOLDS = (0.0, 0.1, 0.3, 0.5, 2 / 3, 0.7, 0.9, 1.0)


@st.composite
def plans(draw: st.DrawFn, tiers: tuple[str, ...] = tuple(synthetic.PRICES_PER_MTOK)) -> Plan:
    chosen = draw(st.lists(st.sampled_from(tiers), min_size=1, unique=True).map(lambda found: sorted(found, key=tiers.index)))
    steps = []
    for tier in chosen:
        k = draw(st.integers(0 if tier == chosen[-1] else 1, synthetic.K))
        lines = draw(st.integers(1, synthetic.LINES)) if k else 0
        steps.append(TierPlan(tier, k, lines, draw(st.sampled_from(THRESHOLDS)) if k else 0.0))
    return Plan("drawn", tuple(steps))


@given(seed=st.integers(0, 10**6), plan=plans())
@settings(max_examples=150, deadline=None)
def test_the_table_gives_just_what_the_loop_gives(seed: int, plan: Plan):
    recording = synthetic.recording(seed)
    table = tabulate(recording)
    prices = recording.manifest.prices
    fast = outcome(table, plan)
    for r, run in enumerate(table.runs):
        for t, task in enumerate(table.tasks):
            slow = asyncio.run(replay(plan, recording, task, run, prices))
            trace = slow.answer.trace
            assert slow.correct == fast.correct[r, t]
            assert trace.answered_by == table.tiers[fast.answered_by[r, t]]
            spent = {step.tier: step.completion_tokens for step in trace.steps}
            assert [spent.get(tier, 0) for tier in table.tiers] == fast.tokens[:, r, t].tolist()
            paid = sum(step.price_usd for step in trace.steps)
            assert paid == price(fast.tokens[:, r, t].tolist(), [prices[tier] for tier in table.tiers])


def test_replay_returns_the_recorded_text_and_its_truth():
    recording = synthetic.recording(1)
    plan = Plan("one", (TierPlan("large", 0),))
    found = asyncio.run(replay(plan, recording, "t/2", 0, recording.manifest.prices))
    unit = Unit("large", "t/2", GREEDY)
    assert found.answer.candidate.source == recording.draws[unit].solutions[0].text
    assert found.correct == recording.correct[unit][0]


def test_a_plan_is_refused_by_name_where_its_steps_were_not_recorded():
    recording = synthetic.recording(1)
    check_recorded(Plan("fine", (TierPlan("small", 3, 2, 0.5), TierPlan("large", 0))), recording)
    with pytest.raises(RecordingError, match="names tier 'huge', which was not recorded, recorded are small, medium, large"):
        check_recorded(Plan("p", (TierPlan("huge", 0),)), recording)
    with pytest.raises(RecordingError, match="wants k = 5, l = 2 of tier 'small', which was not recorded"):
        check_recorded(Plan("p", (TierPlan("small", 5, 2),)), recording)
    with pytest.raises(RecordingError, match="k = 5, l = 2 of tier 'small' was not recorded"):
        outcome(tabulate(recording), Plan("p", (TierPlan("small", 5, 2),)))


def test_tasks_that_one_tier_has_not_answered_yet_are_left_out():
    recording = synthetic.recording(1, tasks=4, runs=2)
    correct = {unit: value for unit, value in recording.correct.items() if unit != Unit("large", "t/1", 0)}
    table = tabulate(replace(recording, correct=correct))
    assert table.tasks == ("t/0", "t/2", "t/3")
    assert table.runs == (0, 1)


def test_a_run_that_is_not_whole_is_left_out():
    recording = synthetic.recording(1, tasks=4, runs=2)
    correct = {unit: value for unit, value in recording.correct.items() if unit != Unit("small", "t/1", 1)}
    table = tabulate(replace(recording, correct=correct))
    assert table.tasks == ("t/0", "t/1", "t/2", "t/3")
    assert table.runs == (0,)


def test_without_sampled_runs_the_greedy_steps_remain():
    table = tabulate(synthetic.recording(1, runs=0))
    assert table.runs == (GREEDY,)
    assert {option.k for option in table.options} == {0, 1}


def test_a_recording_without_one_whole_task_is_refused():
    recording = synthetic.recording(1, tasks=1)
    with pytest.raises(RecordingError, match="holds nothing judged of tier 'large'"):
        tabulate(replace(recording, correct={unit: c for unit, c in recording.correct.items() if unit.tier != "large"}))


def test_a_table_is_cut_to_tasks_and_tiers():
    table = tabulate(synthetic.recording(3))
    cut = table.only(tasks=["t/3", "t/0"], tiers=["small", "large"])
    assert (cut.tasks, cut.tiers) == (("t/0", "t/3"), ("small", "large"))
    plan = Plan("p", (TierPlan("small", 3, 2, 0.5), TierPlan("large", 0)))
    assert np.array_equal(outcome(cut, plan).correct, outcome(table, plan).correct[:, [0, 3]])
    with pytest.raises(RecordingError, match="none of these tasks"):
        table.only(tasks=["elsewhere/1"])


def plan_file(recording: Recording, **changes: object) -> PlanFile:
    plans = {
        "two": Plan("two", (TierPlan("small", 3, 2, 0.5), TierPlan("large", 0))),
        "huge": Plan("huge", (TierPlan("huge", 0),)),
    }
    provenance = {"dataset": {"name": "tiny", "sha256": recording.manifest.dataset["sha256"]}}
    return PlanFile(**{"family": "tiny", "provenance": provenance, "default": "two", "plans": plans, **changes})  # type: ignore[arg-type]


async def test_a_plan_file_is_replayed_over_everything_recorded():
    recording = synthetic.recording(3, tasks=6)
    table = tabulate(recording)
    (found,) = await replay_plans(plan_file(recording), recording, ["two"])
    fast = outcome(table, found.plan)
    assert (found.cells, found.right) == (12, int(fast.correct.sum()))
    assert found.cost_usd == pytest.approx(fast.cost_usd([recording.manifest.prices[tier] for tier in table.tiers]))
    assert found.answered_by["large"] == int((fast.answered_by == 2).sum())
    with pytest.raises(RecordingError, match="plan 'huge' names tier 'huge', which was not recorded"):
        await replay_plans(plan_file(recording), recording, None)


def test_plans_of_another_family_or_dataset_are_refused():
    recording = synthetic.recording(3)
    check_same(plan_file(recording, provenance={"method": "written by hand"}), recording)
    with pytest.raises(RecordingError, match="the plans are of family 'other', the recording is of 'tiny'"):
        check_same(plan_file(recording, family="other"), recording)
    with pytest.raises(RecordingError, match=r"searched on another dataset \(mbpp\) than was recorded \(tiny\)"):
        check_same(plan_file(recording, provenance={"dataset": {"name": "mbpp", "sha256": "1"}}), recording)
