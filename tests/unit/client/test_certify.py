import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from codecascade.plans import load_plans
from codecascade.types import GivenStep, Plan, PlanStep
from codecascade_client.datasets.split import split
from codecascade_client.replay.table import outcome, tabulate
from codecascade_client.search.certify import (
    at_most_worse,
    certificate,
    in_a_sentence,
    most_loss,
    tasks_needed,
)
from numpy.typing import NDArray

from tests.unit.client import synthetic_recordings as synthetic

LARGE = Plan("large-alone", (PlanStep("large", 0),))


def outcomes(tasks: int) -> Iterator[tuple[int, int]]:
    """Every number of losses and gains."""
    return ((lost, gained) for lost in range(tasks + 1) for gained in range(tasks + 1 - lost))


def probability(tasks: int, lost: int, gained: int, p_lost: float, p_gained: float) -> float:
    ties = tasks - lost - gained
    ways = math.comb(tasks, lost) * math.comb(tasks - lost, gained)
    return float(ways * p_lost**lost * p_gained**gained * max(1 - p_lost - p_gained, 0.0) ** ties)


def pairs(tasks: int, lost: int, gained: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Answers of a plan and its reference."""
    place = np.arange(tasks)
    return (place >= lost), (place < lost) | (place >= lost + gained)


@pytest.mark.parametrize("tasks", [5, 9])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_bound_is_too_low_no_more_often_than_it_says_whatever_the_truth(tasks: int, confidence: float) -> None:
    bounds = {outcome: most_loss(tasks, *outcome, confidence) for outcome in outcomes(tasks)}
    shares = np.linspace(0, 1, 21)
    most_often = 0.0
    for p_lost, p_gained in ((a, b) for a in shares for b in shares if a + b <= 1):
        too_low = [outcome for outcome, bound in bounds.items() if bound < p_lost - p_gained - 1e-12]
        often = sum(probability(tasks, *outcome, p_lost, p_gained) for outcome in too_low)
        assert often <= 1 - confidence, (p_lost, p_gained)
        most_often = max(most_often, often)
    assert most_often > 0.4 * (1 - confidence), "no wider than it must be"


@pytest.mark.parametrize(
    ("certain", "doubtful", "gained"), [(0.15, 0.0, 0.0), (0.1, 0.2, 0.15), (0.0, 0.3, 0.1), (0.02, 0.1, 0.05)]
)
def test_with_several_runs_the_bound_is_too_low_at_most_5_times_in_100(certain: float, doubtful: float, gained: float) -> None:
    """certain: tasks that the plan always loses. doubtful: tasks that it loses in half of its runs. gained: always gained."""
    tasks, runs, draws = 24, 3, 1000
    rng = np.random.default_rng(5)
    kind = rng.random((draws, 1, tasks))
    coin = rng.random((draws, runs, tasks)) < 0.5
    reference = np.broadcast_to(kind < certain + doubtful, coin.shape)
    plan = np.where(reference, (kind >= certain) & coin, kind >= 1 - gained)
    bounds = np.array([at_most_worse(*answers) for answers in zip(plan, reference, strict=True)], np.float64)
    too_low = (bounds < certain + doubtful / 2 - gained).mean()
    assert too_low <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / draws)


@pytest.mark.parametrize(("tasks", "lost", "gained"), [(115, 5, 10), (700, 60, 40)])
def test_at_the_bound_no_worse_outcomes_come_5_times_in_100(tasks: int, lost: int, gained: int) -> None:
    rng = np.random.default_rng(2)

    def badness(lost: NDArray[np.float64] | int, gained: NDArray[np.float64] | int) -> NDArray[np.float64]:
        return np.asarray(lost - gained + 1.645 * np.sqrt(lost + gained + 1), np.float64)

    def most_often(loss: float) -> float:
        shares = [(p_gained + loss, p_gained, 1 - 2 * p_gained - loss) for p_gained in (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)]
        drawn = [rng.multinomial(tasks, share, size=40_000).T for share in shares]
        return max(float((badness(*outcome[:2]) <= badness(lost, gained) + 1e-9).mean()) for outcome in drawn)

    bound = most_loss(tasks, lost, gained)
    assert most_often(bound) < 0.054 < 0.056 < most_often(bound - 0.01)


def test_equal_answers_leave_what_so_many_tasks_cannot_rule_out() -> None:
    for tasks in (10, 115, 400):
        assert most_loss(tasks, 0, 0) == pytest.approx(1 - 0.05 ** (1 / tasks), abs=7e-4), "about three in so many tasks"


def test_the_bound_by_hand() -> None:
    assert most_loss(1, 1, 0) == 1.0, "one lost task rules nothing out"
    assert most_loss(1, 0, 1) == pytest.approx(0.9, abs=1e-3), "a gain still has 5 % where 95 % are lost"
    assert most_loss(3, 0, 3) == pytest.approx(1 - 2 * 0.05 ** (1 / 3), abs=2e-3), "as many gains as losses could be"
    assert most_loss(115, 2, 12) == 0.0
    assert at_most_worse(*pairs(115, 5, 10)) == most_loss(115, 5, 10) == pytest.approx(0.0153, abs=2e-4)


def test_the_bound_rises_with_confidence_and_losses_and_falls_with_gains_and_tasks() -> None:
    by_confidence = [most_loss(30, 4, 6, confidence) for confidence in (0.5, 0.8, 0.9, 0.95, 0.99, 0.999)]
    by_losses = [most_loss(30, lost, 6) for lost in range(6)]
    by_gains = [-most_loss(30, 6, gained) for gained in range(6)]
    by_tasks = [-most_loss(tasks, 6, 4) for tasks in (20, 40, 80, 160)]
    for bounds in (by_confidence, by_losses, by_gains, by_tasks):
        assert bounds == sorted(bounds)
        assert bounds[0] < bounds[-1]


def test_runs_count_in_turn() -> None:
    reference = np.ones((2, 40), np.bool_)
    for run, tasks, lost in (
        (0, slice(0, None, 2), 20),
        (0, slice(1, None, 2), 0),
        (1, slice(0, None, 2), 0),
        (1, slice(1, None, 2), 20),
    ):
        plan = reference.copy()
        plan[run, tasks] = False
        assert at_most_worse(plan, reference) == most_loss(40, lost, 0), (
            "the first run has the even tasks, the second the odd ones"
        )


def test_what_is_no_answers_to_the_same_tasks_is_refused() -> None:
    some = np.ones(3, np.bool_)
    with pytest.raises(ValueError, match="of 1 task or more"):
        at_most_worse(some[:0], some[:0])
    with pytest.raises(ValueError, match="must be true or false"):
        at_most_worse(np.full(3, 0.5), some)
    with pytest.raises(ValueError, match="the plan answers 2 tasks and the reference 3, must be the same tasks"):
        at_most_worse(some[:2], some)
    with pytest.raises(ValueError, match="confidence is 95, must be between 0 and 1"):
        at_most_worse(some, some, 95)


@pytest.mark.parametrize(("loss", "lost", "gained"), [(0.1, 0.0, 0.0), (0.1, 0.02, 0.1), (0.2, 0.05, 0.05)])
def test_so_many_tasks_suffice_about_8_times_in_10(loss: float, lost: float, gained: float) -> None:
    tasks = tasks_needed(loss, lost, gained)
    assert tasks is not None
    rng = np.random.default_rng(3)
    counts = rng.multinomial(tasks, [lost, gained, 1 - lost - gained], size=200)[:, :2].tolist()
    assert np.mean([most_loss(tasks, *outcome) <= loss for outcome in counts]) > 0.72
    fewer = rng.multinomial(tasks // 2, [lost, gained, 1 - lost - gained], size=200)[:, :2].tolist()
    assert np.mean([most_loss(tasks // 2, *outcome) <= loss for outcome in fewer]) < 0.72


def test_no_number_of_tasks_shows_what_is_not_so() -> None:
    assert tasks_needed(0.05, 0.1, 0.05) is None
    assert tasks_needed(0.01, 0.1, 0.0901) is None, "millions would"
    assert tasks_needed(0.01, 0.0, 0.0) == 300, "three in so many tasks"
    assert tasks_needed(0.01, 0.08, 0.08) == pytest.approx(2.49**2 * 0.16 / 0.01**2, rel=0.15), "as the normal distribution says"
    needed = [tasks_needed(loss, 0.06, 0.06) or 0 for loss in (0.01, 0.02, 0.05, 0.1)]
    assert needed == sorted(needed, reverse=True)


def test_a_certificate_is_of_the_held_out_tasks(tmp_path: Path) -> None:
    table = tabulate(synthetic.recording(3, tasks=300))
    parts = split(table.tasks, 0)
    held_out = table.only(tasks=parts.test)
    better = Plan("better", (PlanStep("large", 0),), (GivenStep("large", 3),))
    right, reference = outcome(held_out, better).correct, outcome(held_out, LARGE).correct
    certified = certificate(held_out, better, LARGE)
    bound = 100 * at_most_worse(right, reference)
    assert certified == {"against": "large", "points": pytest.approx(bound, abs=0.1), "confidence": 0.95, "tasks": 210}
    assert certified["points"] >= bound, "rounded up"
    assert "accurate than large alone (95 % confidence, 210 held-out tasks)" in in_a_sentence(certified)
    written = {"format": 1, "family": "f", "provenance": {}, "default": "p"}
    (tmp_path / "f.json").write_text(
        json.dumps({**written, "plans": {"p": {"steps": [{"tier": "large", "k": 0}], "certified": certified}}})
    )
    assert load_plans(tmp_path / "f.json").default == "p"


def test_a_certificate_is_refused_where_the_tasks_do_not_allow_it() -> None:
    held_out = tabulate(synthetic.recording(3, tasks=100))
    cheap = Plan("cheap", (PlanStep("small", 0),))
    refused = certificate(held_out, cheap, LARGE)
    change = outcome(held_out, LARGE).accuracy - outcome(held_out, cheap).accuracy
    assert change > 0.05
    assert refused["tasks_needed"] == {"5": None, "2": None, "1": None}
    assert refused["refused"] == (
        "100 held-out tasks do not show with 95 % confidence that it is at most 5 points less accurate than large alone; "
        f"on these it is {100 * change:.1f} points less accurate"
    )
    few = held_out.only(tasks=held_out.tasks[:20])
    needed = certificate(few, Plan("same", (PlanStep("large", 0),), (GivenStep("large", 1),)), LARGE)["tasks_needed"]
    assert needed == {"5": 59, "2": 150, "1": 300}, "its answers are those of the tier alone"
    assert in_a_sentence({"refused": "no", "tasks_needed": {"5": 1200, "2": None}}) == (
        "no. Tasks that would probably show at most 5 points: 1,200; 2 points: no number"
    )


def test_a_tier_alone_is_as_accurate_as_itself() -> None:
    held_out = tabulate(synthetic.recording(3, tasks=10))
    certified = certificate(held_out, LARGE, LARGE)
    assert certified["points"] == 0.0
    assert in_a_sentence(certified) == "not less accurate than large alone (95 % confidence, 10 held-out tasks)"
