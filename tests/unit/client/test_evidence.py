"""How well recorded evidence tells right answers from wrong ones, on answers that are known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from codecascade.scoring import score_candidates
from codecascade.types import GivenStep, LogProbs, Plan, PlanStep, VerdictMatrix
from codecascade_client.errors import NotJudged
from codecascade_client.estimate import Z95, wilson
from codecascade_client.evidence.answers import JudgedAnswer, Passing, judged_answers
from codecascade_client.evidence.auroc import auroc
from codecascade_client.evidence.calibration import by_given_tests, by_log_probability
from codecascade_client.evidence.decisions import GIVEN_TESTS, LOG_PROBS, NOT_WHOLE, NOTHING, OWN_TESTS, decisions
from codecascade_client.evidence.kinds import KINDS, Kind, tell_apart
from codecascade_client.evidence.measure import ALL, measure
from codecascade_client.recording.recording import GREEDY, PublishedRecording, Unit
from codecascade_client.replay.plans import replay_plan
from codecascade_client.replay.table import outcome, tabulate
from codecascade_client.report.evidence_tables import auroc_table, calibration_table, decided_table, spent_table
from numpy.typing import NDArray

from tests.unit.client import synthetic_recordings as synthetic


def random_answers(seed: int, answers: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Ranks with ties, and what is right."""
    rng = np.random.default_rng(seed)
    right = rng.random(answers) < 0.6
    return rng.integers(0, 12, answers) + 3 * right, right


@pytest.mark.parametrize("seed", range(5))
def test_the_area_is_the_share_of_pairs_in_order(seed: int) -> None:
    ranks, right = random_answers(seed, 40)
    pairs = [float(np.sign(good - bad)) for good, bad in product(ranks[right], ranks[~right])]
    assert auroc(ranks, right, np.arange(40)).mean == pytest.approx(0.5 + np.mean(pairs) / 2)
    assert auroc(-ranks, right, np.arange(40)).mean == pytest.approx(0.5 - np.mean(pairs) / 2)


@pytest.mark.parametrize("seed", range(5))
def test_with_one_answer_to_a_task_the_interval_is_delongs(seed: int) -> None:
    ranks, right = random_answers(seed, 60)
    order = 0.5 + np.sign(ranks[right][:, None] - ranks[~right]) / 2
    variance = order.mean(axis=1).var(ddof=1) / right.sum() + order.mean(axis=0).var(ddof=1) / (~right).sum()
    area = order.mean()
    half = Z95 * np.sqrt(variance) / (area * (1 - area))
    estimate = auroc(ranks, right, np.arange(60))
    logits = [np.log(bound / (1 - bound)) - np.log(area / (1 - area)) for bound in (estimate.low, estimate.high)]
    assert logits == pytest.approx([-half, half])


def test_more_answers_of_the_same_kind_to_the_same_tasks_are_no_more_evidence() -> None:
    ranks, right = random_answers(1, 60)
    once = auroc(ranks, right, np.arange(60))
    thrice = auroc(np.tile(ranks, 3), np.tile(right, 3), np.tile(np.arange(60), 3))
    assert (thrice.mean, thrice.low, thrice.high) == pytest.approx((once.mean, once.low, once.high))
    apart = auroc(np.tile(ranks, 3), np.tile(right, 3), np.arange(180))
    assert apart.high - apart.low < 0.7 * (once.high - once.low)


@pytest.mark.parametrize("by_task", [0.0, 2.0], ids=["answers apart", "right and wrong answers to a task alike"])
def test_the_interval_is_that_of_a_bootstrap_over_tasks(by_task: float) -> None:
    rng = np.random.default_rng(5)
    tasks = np.repeat(np.arange(80), 3)
    right = rng.random(240) < 0.5
    ranks = np.round(right + np.repeat(by_task * rng.normal(size=80), 3) + rng.normal(size=240), 1)
    areas = []
    for _ in range(400):
        drawn = np.concatenate([np.arange(3) + 3 * task for task in rng.integers(0, 80, 80)])
        areas.append(auroc(ranks[drawn], right[drawn], tasks[drawn]).mean)
    estimate = auroc(ranks, right, tasks)
    assert (estimate.low, estimate.high) == pytest.approx(np.quantile(areas, (0.025, 0.975)).tolist(), abs=0.015)


def test_perfect_order_of_few_answers_is_no_certainty() -> None:
    ranks, right = np.arange(12), np.arange(12) >= 7
    assert auroc(ranks, right, np.arange(12)) == wilson(5, 5)
    assert auroc(ranks, ~right, np.arange(12)) == wilson(0, 5)
    one = auroc(np.array([3, 1, 2, 4]), np.array([True, False, False, False]), np.arange(4))
    assert (one.mean, one.low, one.high) == pytest.approx((2 / 3, wilson(2 / 3, 1).low, wilson(2 / 3, 1).high))


def test_an_interval_holds_its_share() -> None:
    extremes = [wilson(right, total) for total in range(1, 300) for right in (0, total)]
    assert all(0 <= share.low <= share.mean <= share.high <= 1 for share in extremes)


def answer(
    right: bool, *, task: str = "", given: Passing | None = None, own: Passing | None = None, mean: float | None = None
) -> JudgedAnswer:
    log_probs = None if mean is None else LogProbs(4 * mean, 2 * mean, 4)
    return JudgedAnswer(task or f"t/{right}/{given}/{mean}", right, given, own, own.share if own else None, log_probs)


def kind(name: str) -> Kind:
    return next(kind for kind in KINDS if kind.name == name)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("given tests", "not judged"),
        ("sum of log-probabilities", "not recorded"),
        ("mean log-probability", "not recorded"),
        ("lowest log-probability", "not recorded"),
        ("own tests", "not judged"),
        ("own tests, paper's score", "not judged"),
        ("given tests, then mean", "not judged"),
        ("given tests, then sum", "not judged"),
        ("own tests, then mean", "not judged"),
    ],
)
def test_what_is_missing_is_said_in_words(name: str, missing: str) -> None:
    told = tell_apart(kind(name), [answer(True), answer(False)])
    assert (told.answers, told.auroc, told.untold) == (0, None, missing)


def test_a_combination_says_which_part_is_missing() -> None:
    answers = [answer(right, given=Passing(int(right), 1)) for right in (True, False)]
    assert tell_apart(kind("given tests, then mean"), answers).untold == "not recorded"


@pytest.mark.parametrize(
    ("answers", "untold"),
    [
        ([], "no answers"),
        ([answer(True, mean=-0.1), answer(True, mean=-0.2)], "all are right"),
        ([answer(False, mean=-0.1), answer(False, mean=-0.2)], "all are wrong"),
        ([answer(True, mean=-0.1), answer(False, mean=-0.1)], "the same for all"),
    ],
)
def test_where_nothing_can_be_told_no_figure_is_made_up(answers: Sequence[JudgedAnswer], untold: str) -> None:
    told = tell_apart(kind("mean log-probability"), answers)
    assert (told.auroc, told.untold) == (None, untold)


def test_answers_without_the_evidence_are_left_out_and_counted() -> None:
    told = tell_apart(kind("mean log-probability"), [answer(True, mean=-0.1), answer(False, mean=-0.3), answer(False)])
    assert told.answers == 2
    assert told.auroc
    assert told.auroc.mean == 1


def test_tasks_without_given_tests_rank_between_passing_and_failing() -> None:
    ranked = [Passing(0, 3), Passing(99, 100), Passing(0, 0), Passing(1, 1)]
    ranks = [kind("given tests").rank(answer(True, given=tests)) for tests in ranked]
    assert ranks == sorted(ranks, key=lambda rank: rank or ())
    assert len(set(ranks)) == len(ranked)


def test_the_second_kind_of_evidence_decides_only_where_the_first_is_equal() -> None:
    answers = [
        answer(True, given=Passing(1, 1), mean=-9),
        answer(True, given=Passing(1, 2), mean=-3),
        answer(False, given=Passing(1, 2), mean=-4),
        answer(False, given=Passing(0, 2), mean=-1),
    ]
    areas = {name: tell_apart(kind(name), answers).auroc for name in ("given tests", "given tests, then mean")}
    assert {name: area and area.mean for name, area in areas.items()} == {"given tests": 7 / 8, "given tests, then mean": 1}


def test_an_answers_paper_score_is_the_cascades() -> None:
    recording = synthetic.recording(7, tasks=12)
    answers = judged_answers(recording, "small", sampled=True)
    units = [unit for unit in recording.correct if unit.tier == "small" and unit.run != GREEDY]
    assert len(answers) == synthetic.K * len(units)
    for place, unit in enumerate(units):
        mine = answers[synthetic.K * place : synthetic.K * (place + 1)]
        matrix = recording.judged[unit, synthetic.LINES].matrix
        assert max(answer.paper_score or 0 for answer in mine) == pytest.approx(score_candidates(matrix).value)
        assert [(one.own or Passing(-1, -1)).passed for one in mine] == matrix.passed.sum(axis=1).tolist()


def test_greedy_and_sampled_answers_are_apart_and_counted() -> None:
    recording = synthetic.recording(7, tasks=12, runs=2)
    measured = {(one.tier, one.sampled): one for one in measure(recording)}
    assert set(measured) == {(tier, sampled) for tier in recording.manifest.tiers for sampled in (False, True)}
    for (tier, sampled), one in measured.items():
        verdicts = [right for unit, right in recording.correct.items() if unit.tier == tier and (unit.run != GREEDY) == sampled]
        assert one.groups[ALL].right == int(np.concatenate(verdicts).sum())
        assert one.answers == 12 * (2 * synthetic.K if sampled else 1)
        apart = [group.right + group.wrong for group in one.groups.values()]
        assert apart == [one.answers * 2 // 3, one.answers // 3, one.answers]


def test_an_unjudged_recording_is_refused() -> None:
    recording = synthetic.recording(7, tasks=2)
    with pytest.raises(NotJudged, match=r"^no answer of the recording is judged: `codecascade verdicts` judges it$"):
        measure(replace(recording, correct={}))
    with pytest.raises(NotJudged, match="holds scores"):
        measure(PublishedRecording(recording.manifest, {}))


def test_calibration_counts_answers_and_takes_those_to_one_task_for_one() -> None:
    answers = [answer(n < 3, task=f"t/{n % 2}", given=Passing(2, 2)) for n in range(4)]
    answers += [answer(False, task="t/2", given=Passing(1, 2)), answer(True, task="t/3", given=Passing(0, 0))]
    some_fail, none_given, all_pass = by_given_tests([*answers, answer(True)])
    assert (all_pass.answers, all_pass.right, all_pass.share) == (4, 3, wilson(1.5, 2))
    assert (some_fail.answers, some_fail.right, some_fail.share) == (1, 0, wilson(0, 1))
    assert (none_given.answers, none_given.right, none_given.share) == (1, 1, wilson(1, 1))


def test_quarters_hold_equal_parts_and_equal_figures_together() -> None:
    bins = by_log_probability([answer(n >= 6, task=f"t/{n}", mean=-(8 - n) / 10) for n in range(8)])
    assert [(each.answers, each.right) for each in bins] == [(2, 0), (2, 0), (2, 0), (2, 2)]
    same = by_log_probability([answer(True, task=f"t/{n}", mean=-0.5) for n in range(8)])
    assert sorted(each.answers for each in same) == [0, 0, 0, 8]
    assert by_log_probability([answer(True)]) == by_given_tests([answer(True)]) == []


def test_the_tables_name_every_kind_and_never_a_half_for_what_is_missing() -> None:
    recording = synthetic.recording(7, tasks=40)
    whole, lacking = measure(recording)[0], measure(synthetic.without_log_probs(recording))[0]
    assert [row[0] for row in auroc_table(whole).rows] == ["answers", *(kind.name for kind in KINDS)]
    rows = {row[0]: row[1:] for row in auroc_table(lacking).rows}
    assert rows["mean log-probability"] == ("not recorded",) * 3
    assert rows["given tests"][1] == "the same for all"
    assert re.search(r"\) of \d+$", auroc_table(whole).rows[3][3]), "some answers have no log-probabilities"
    assert all("0.500" not in cell for cell in rows["given tests, then mean"])
    assert calibration_table(lacking).rows[-1][:2] == ("mean log-probability", "not recorded")
    assert len(calibration_table(whole).rows) == 3 + 4
    for table in (auroc_table(whole), calibration_table(whole), calibration_table(lacking)):
        assert {len(row) for row in table.rows} == {len(table.left) + len(table.right)}


LOOKING = Plan(
    "looking",
    (PlanStep("small", 0, 0, accept_log_prob=-4.0), PlanStep("medium", 1, 2, 0.5, -2.0, -7.0), PlanStep("large", 0, 0)),
)
PLANS = (
    LOOKING,
    Plan("own", (PlanStep("small", 2, 2, 0.5), PlanStep("medium", 3, 1, 1.0), PlanStep("large", 0, 0))),
    Plan("both", (PlanStep("small", 2, 2, 0.7), PlanStep("large", 2, 2)), (GivenStep("small", 2), GivenStep("medium", 1))),
)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
async def test_what_was_decided_and_spent_adds_up(plan: Plan) -> None:
    recording = synthetic.recording(7, tasks=30, runs=2)
    table = tabulate(recording)
    found = await decisions(plan, [recording], table.tasks, table.runs)
    replayed, tabulated = await replay_plan(plan, recording, table.tasks, table.runs), outcome(table, plan)
    assert found.requests == replayed.cells == 60
    assert all(row.requests == row.accepted + row.kept + row.escalated for row in found.decided)
    assert sum(row.accepted + row.kept for row in found.decided) == found.requests
    assert sum(row.accepted_right + row.kept_right for row in found.decided) == replayed.right
    assert {spent.tier: spent.answered for spent in found.spent if spent.answered} == dict(replayed.answered_by)
    assert sum(spent.cost_usd for spent in found.spent) == pytest.approx(60 * replayed.cost_usd)
    asked = {spent.tier: spent.asked for spent in found.spent}
    assert asked == {tier: int(tabulated.asked[table.tiers.index(tier)].sum()) for tier in asked}
    for tabled in (decided_table(found), spent_table(found)):
        assert {len(row) for row in tabled.rows} == {len(tabled.left) + len(tabled.right)}


async def test_every_request_is_put_down_to_what_decided_it() -> None:
    recording = synthetic.recording(7, tasks=30, runs=2)
    table = tabulate(recording)
    _, own, both = [(await decisions(plan, [recording], table.tasks, table.runs)).decided for plan in PLANS]
    assert {row.by for row in own if row.tier == "large"} == {NOTHING}, "one greedy answer, nothing tested"
    assert all(row.accepted == row.escalated == 0 for row in own if row.tier == "large"), "the last tier keeps what it has"
    assert {(row.tier, row.by) for row in both} >= {("small", GIVEN_TESTS), ("medium", GIVEN_TESTS), ("small", OWN_TESTS)}
    given = sum(row.requests for row in both if (row.tier, row.by) == ("small", GIVEN_TESTS))
    assert given == 2 * int(table.given.sum())


async def test_what_a_log_probability_decided_is_told_from_tests_and_from_answers_that_are_no_program() -> None:
    recording = synthetic.recording(7, tasks=60)
    table = tabulate(recording)
    rows = {(row.tier, row.by): row for row in (await decisions(LOOKING, [recording], table.tasks, (0,))).decided}
    answers = [recording.draw("small", task, 0, 0).candidate for task in table.tasks]
    likely = [answer.whole and answer.log_prob is not None and answer.log_prob >= -4 for answer in answers]
    whole, small = sum(answer.whole for answer in answers), rows["small", LOG_PROBS]
    assert (small.requests, small.accepted, small.escalated) == (whole, sum(likely), whole - sum(likely))
    assert rows["small", NOT_WHOLE].escalated == 60 - whole > 0
    assert rows["medium", OWN_TESTS].requests > 0
    assert {by for tier, by in rows if tier == "large"} == {NOTHING}


def test_a_unit_without_a_line_of_its_own_passes_none() -> None:
    recording = synthetic.recording(7, tasks=1)
    unit = Unit("small", "t/0", 0)
    empty = replace(
        recording.judged[unit, synthetic.LINES], matrix=VerdictMatrix(np.zeros((3, 0), np.int8), np.zeros(3)), lines=()
    )
    recording = replace(recording, judged={**recording.judged, (unit, synthetic.LINES): empty})
    first = judged_answers(recording, "small", sampled=True)[0]
    assert (first.own, first.paper_score) == (Passing(0, 0), 0)
    assert kind("own tests").rank(first) == (0.0,)
