import asyncio
from dataclasses import replace

import numpy as np
import pytest
from codecascade.plans import PlanFile
from codecascade.prices import PICODOLLARS
from codecascade.trace import cost_of
from codecascade.types import GivenStep, Plan, PlanStep
from codecascade_client.errors import RecordingError
from codecascade_client.recording.recording import (
    GREEDY,
    Draw,
    PublishedRecording,
    PublishedStep,
    Recording,
    SampleRecording,
    StepOption,
    Unit,
)
from codecascade_client.replay.cascade import check_recorded, replay
from codecascade_client.replay.plans import check_same, replay_plans
from codecascade_client.replay.table import outcome, tabulate
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.client import synthetic_recordings as synthetic

LIMITS = st.sampled_from((-12.0, -9.0, -6.5, -3.0, 0.0))  # of log-probabilities
THRESHOLDS = (0.0, 0.1, 0.3, 0.5, 2 / 3, 0.7, 0.9, 1.0)


@st.composite
def plans(draw: st.DrawFn, tiers: tuple[str, ...] = tuple(synthetic.PRICES_PER_MTOK)) -> Plan:
    chosen = draw(st.lists(st.sampled_from(tiers), min_size=1, unique=True).map(lambda drawn: sorted(drawn, key=tiers.index)))
    steps = []
    for tier in chosen:
        k = draw(st.integers(0, synthetic.K))
        lines = draw(st.integers(1, synthetic.LINES)) if k else 0
        leave, accept = sorted(draw(st.tuples(LIMITS, LIMITS))) if k < 2 else (None, None)
        accept = draw(st.sampled_from([None, accept])) if k == 1 else accept
        leave = draw(st.sampled_from([None, leave])) if k == 1 else None
        steps.append(PlanStep(tier, k, lines, draw(st.sampled_from(THRESHOLDS)) if k else 0.0, accept, leave))
    given = draw(st.lists(st.sampled_from(tiers), unique=True).map(lambda drawn: sorted(drawn, key=tiers.index)))
    draws = st.integers(1, 1 + synthetic.K)
    return Plan("drawn", tuple(steps), tuple(GivenStep(tier, draw(draws)) for tier in given))


@given(seed=st.integers(0, 10**6), plan=plans())
@settings(max_examples=150, deadline=None)
def test_the_table_gives_just_what_the_loop_gives(seed: int, plan: Plan) -> None:
    recording = synthetic.recording(seed)
    table = tabulate(recording)
    fast = outcome(table, plan)
    for r, run in enumerate(table.runs):
        for t, task in enumerate(table.tasks):
            slow = asyncio.run(replay(plan, recording, task, run))
            trace = slow.answer.trace
            assert slow.correct == fast.correct[r, t]
            assert trace.answered_by == table.tiers[fast.answered_by[r, t]]
            assert sum(round(step.cost_usd * PICODOLLARS) for step in trace.steps) == fast.cost[r, t]


def test_replay_returns_the_recorded_text_and_its_truth() -> None:
    recording = synthetic.recording(1)
    plan = Plan("one", (PlanStep("large", 0),))
    replayed = asyncio.run(replay(plan, recording, "t/2", 0))
    unit = Unit("large", "t/2", GREEDY)
    assert replayed.answer.candidate.source == recording.draws[unit].solutions[0].text
    assert replayed.correct == recording.correct[unit][0]


def test_a_plan_is_refused_by_name_where_its_steps_were_not_recorded() -> None:
    recording = synthetic.recording(1)
    check_recorded(Plan("fine", (PlanStep("small", 3, 2, 0.5), PlanStep("large", 0))), recording)
    with pytest.raises(RecordingError, match="names tier 'huge', which was not recorded, recorded are small, medium, large"):
        check_recorded(Plan("p", (PlanStep("huge", 0),)), recording)
    with pytest.raises(RecordingError, match="wants k = 5, l = 2 of tier 'small', which was not recorded"):
        check_recorded(Plan("p", (PlanStep("small", 5, 2),)), recording)
    with pytest.raises(RecordingError, match="wants 5 draws of tier 'small', the recording holds 4"):
        check_recorded(Plan("p", (PlanStep("small", 0),), (GivenStep("small", 5),)), recording)
    with pytest.raises(RecordingError, match="5 draws of tier 'small' were not recorded"):
        outcome(tabulate(recording), Plan("p", (PlanStep("small", 0),), (GivenStep("small", 5),)))
    with pytest.raises(RecordingError, match="k = 5, l = 2 of tier 'small' was not recorded"):
        outcome(tabulate(recording), Plan("p", (PlanStep("small", 5, 2),)))


def test_a_recording_that_was_not_judged_against_given_tests_says_so() -> None:
    older = replace(synthetic.recording(1), given={})
    table = tabulate(older)
    said = r"tier .small., task t/0, run -1 was not judged against the tests that come with its task: `codecascade verdicts`"
    plan = Plan("p", (PlanStep("large", 0),), (GivenStep("small", 2),))
    with pytest.raises(RecordingError, match=said):
        outcome(table, plan)
    with pytest.raises(RecordingError, match=said):
        asyncio.run(replay(plan, older, "t/0", 0))
    assert outcome(table, replace(plan, given_steps=())).correct.shape == (2, 4)


def test_tasks_that_one_tier_has_not_answered_yet_are_left_out() -> None:
    recording = synthetic.recording(1, tasks=4, runs=2)
    correct = {unit: value for unit, value in recording.correct.items() if unit != Unit("large", "t/1", 0)}
    table = tabulate(replace(recording, correct=correct))
    assert table.tasks == ("t/0", "t/2", "t/3")
    assert table.runs == (0, 1)


def test_a_run_that_is_not_whole_is_left_out() -> None:
    recording = synthetic.recording(1, tasks=4, runs=2)
    correct = {unit: value for unit, value in recording.correct.items() if unit != Unit("small", "t/1", 1)}
    table = tabulate(replace(recording, correct=correct))
    assert table.tasks == ("t/0", "t/1", "t/2", "t/3")
    assert table.runs == (0,)


def test_without_sampled_runs_the_greedy_steps_remain() -> None:
    table = tabulate(synthetic.recording(1, runs=0))
    assert table.runs == (GREEDY,)
    assert {option.k for option in table.options} == {0, 1}


def test_a_recording_without_one_whole_task_is_refused() -> None:
    recording = synthetic.recording(1, tasks=1)
    with pytest.raises(RecordingError, match="holds nothing judged of tier 'large'"):
        tabulate(replace(recording, correct={unit: c for unit, c in recording.correct.items() if unit.tier != "large"}))


def test_a_table_is_cut_to_tasks_and_tiers() -> None:
    table = tabulate(synthetic.recording(3))
    cut = table.only(tasks=["t/3", "t/0"], tiers=["small", "large"])
    assert (cut.tasks, cut.tiers) == (("t/0", "t/3"), ("small", "large"))
    plan = Plan("p", (PlanStep("small", 3, 2, 0.5), PlanStep("large", 0)))
    assert np.array_equal(outcome(cut, plan).correct, outcome(table, plan).correct[:, [0, 3]])
    with pytest.raises(RecordingError, match="none of these tasks"):
        table.only(tasks=["elsewhere/1"])


def plan_file(recording: Recording, **changes: object) -> PlanFile:
    plans = {
        "two": Plan("two", (PlanStep("small", 3, 2, 0.5), PlanStep("large", 0))),
        "huge": Plan("huge", (PlanStep("huge", 0),)),
    }
    provenance = {"dataset": {"name": "tiny", "sha256": recording.manifest.dataset["sha256"]}}
    return PlanFile(**{"family": "tiny", "provenance": provenance, "default": "two", "plans": plans, "promises": {}, **changes})  # type: ignore[arg-type]


async def test_a_plan_file_is_replayed_over_everything_recorded() -> None:
    recording = synthetic.recording(3, tasks=6)
    table = tabulate(recording)
    (replayed,) = await replay_plans(plan_file(recording), recording, ["two"])
    fast = outcome(table, replayed.plan)
    assert (replayed.cells, replayed.right) == (12, int(fast.correct.sum()))
    assert replayed.cost_usd == pytest.approx(fast.cost_usd)
    assert replayed.answered_by["large"] == int((fast.answered_by == 2).sum())
    with pytest.raises(RecordingError, match="plan 'huge' names tier 'huge', which was not recorded"):
        await replay_plans(plan_file(recording), recording, None)


def test_plans_of_another_family_or_dataset_are_refused() -> None:
    recording = synthetic.recording(3)
    check_same(plan_file(recording, provenance={"method": "written by hand"}), recording)
    with pytest.raises(RecordingError, match="the plans are of family 'other', the recording is of 'tiny'"):
        check_same(plan_file(recording, family="other"), recording)
    with pytest.raises(RecordingError, match=r"searched on another dataset \(mbpp\) than was recorded \(tiny\)"):
        check_same(plan_file(recording, provenance={"dataset": {"name": "mbpp", "sha256": "1"}}), recording)


def test_a_step_is_charged_for_what_it_reads_writes_and_runs() -> None:
    """By hand: two solutions and two test samples of one line, of units in which everything is known."""
    recording = synthetic.recording(3)
    unit = Unit("medium", "t/1", 0)
    draw, judged = recording.draws[unit], recording.judged[unit, synthetic.LINES]
    read = draw.solutions[0].prompt_tokens + draw.tests[synthetic.LINES][0].prompt_tokens
    written = sum(sample.completion_tokens for sample in draw.solutions[:2])
    written += sum(sample.line_tokens[0] or 0 for sample in draw.tests[synthetic.LINES][:2])
    seconds = float(judged.cut(2, 1).cpu_s.sum())
    expected = 3.7e-6 * written + 3.7e-6 * synthetic.PROMPT_SHARE * read + synthetic.SANDBOX_PRICE_PER_CPU_S * seconds
    replayed = asyncio.run(replay(Plan("p", (PlanStep("medium", 2, 1),)), recording, "t/1", 0))
    assert cost_of(replayed.answer.trace.steps).cost_usd == pytest.approx(expected, abs=1e-12)
    assert seconds > 0


def priced(recording: SampleRecording, price_per_mtok: float, **others: float) -> SampleRecording:
    tiers = {tier: {"price_per_mtok": price_per_mtok, **others} for tier in recording.manifest.tiers}
    return replace(recording, manifest=replace(recording.manifest, tiers=tiers, sandbox_price_per_cpu_s=0.0))


def test_costs_that_cannot_be_counted_exactly_are_refused() -> None:
    recording = synthetic.recording(3)
    tabulate(priced(recording, 1e5))
    with pytest.raises(RecordingError, match=r"a plan can cost [\d,]+ dollars .*, it is counted exactly up to 9,007: give lower"):
        tabulate(priced(recording, 1e7))


def test_what_was_not_recorded_is_not_charged_as_nothing() -> None:
    recording = priced(synthetic.recording(3), 1.0, prompt_price_per_mtok=0.1)
    draws = {unit: Draw(tuple(replace(s, prompt_tokens=0) for s in draw.solutions), {}) for unit, draw in recording.draws.items()}
    with pytest.raises(RecordingError, match="holds no prompt tokens of tier 'small', prompt_price_per_mtok must be 0"):
        tabulate(replace(recording, draws=draws))
    stages = {
        (Unit(tier, f"t/{n}", GREEDY), StepOption(tier, 0, 0)): PublishedStep(0, 0, 0, 10, correct=True)
        for tier in recording.manifest.tiers
        for n in range(4)
    }
    manifest = replace(priced(recording, 1.0).manifest, sandbox_price_per_cpu_s=1e-5)
    with pytest.raises(RecordingError, match="holds no CPU seconds, sandbox_price_per_cpu_s must be 0"):
        tabulate(PublishedRecording(manifest, stages))
    assert tabulate(PublishedRecording(replace(manifest, sandbox_price_per_cpu_s=0.0), stages)).cost[0, 0, 0] == 10 * 10**6
