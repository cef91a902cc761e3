import numpy as np
import pytest
from codecascade.scoring import accepts, decide, score_candidates
from codecascade.types import Decision, PlanStep, Score, Verdict, VerdictMatrix

PASS, FAIL, ERROR, TIMEOUT = Verdict


def matrix(*rows: list[Verdict]) -> VerdictMatrix:
    verdicts = np.array(rows, np.int8)
    return VerdictMatrix(verdicts, np.zeros(len(rows)))


def test_agreement_is_lines_passed_times_candidates_that_agree() -> None:
    score = score_candidates(matrix([PASS, PASS, FAIL], [PASS, PASS, FAIL], [FAIL, FAIL, PASS]))
    assert score == Score(best=0, agreement=2 * 2, pairs=9)
    assert score.value == pytest.approx(4 / 9)


def test_a_popular_line_outweighs_a_longer_row() -> None:
    # Row 0 passes three lines that nobody else passes (3 · 1); rows 1 to 4 pass one line each, the same (1 · 4).
    rows = [[PASS, PASS, PASS, FAIL]] + [[FAIL, FAIL, FAIL, PASS]] * 4
    assert score_candidates(matrix(*rows)) == Score(best=1, agreement=4, pairs=20)


def test_the_first_of_equal_candidates_wins() -> None:
    assert score_candidates(matrix([FAIL, FAIL], [FAIL, PASS], [FAIL, PASS])).best == 1


@pytest.mark.parametrize("verdict", [FAIL, ERROR, TIMEOUT])
def test_only_a_pass_counts(verdict: Verdict) -> None:
    assert score_candidates(matrix([verdict, verdict], [verdict, verdict])) == Score(best=1, agreement=0, pairs=4)


def test_everything_passing_scores_one() -> None:
    assert score_candidates(matrix(*[[PASS] * 6] * 3)).value == 1.0


def test_accepts_at_the_threshold_and_not_below_it() -> None:
    step = PlanStep("small", k=3, lines_per_sample=2, threshold=0.7)
    assert decide(Score(best=0, agreement=7, pairs=10), step) is Decision.ACCEPT
    assert decide(Score(best=0, agreement=6, pairs=10), step) is Decision.ESCALATE


@pytest.mark.parametrize("hundredths", range(1, 101))
@pytest.mark.parametrize("scale", [1, 7, 100])
def test_a_threshold_is_the_decimal_number_that_a_plan_says(hundredths: int, scale: int) -> None:
    agreement, pairs, threshold = hundredths * scale, 100 * scale, float(f"0.{hundredths:02}" if hundredths < 100 else "1")
    assert accepts(agreement, pairs, threshold)
    assert not accepts(agreement - 1, pairs, threshold)
    assert list(accepts(np.array([agreement, agreement - 1]), np.array([pairs, pairs]), threshold)) == [True, False]


def test_no_test_line_is_no_evidence_even_at_threshold_zero() -> None:
    step = PlanStep("small", k=3, lines_per_sample=2, threshold=0.0)
    assert decide(Score(best=0, agreement=0, pairs=0), step) is Decision.ESCALATE
    assert decide(Score(best=0, agreement=0, pairs=6), step) is Decision.ACCEPT


def test_a_cut_answer_is_never_convincing() -> None:
    step = PlanStep("small", k=2, lines_per_sample=1, threshold=0.0)
    score = score_candidates(matrix([PASS, PASS], [FAIL, PASS]), cut=[True, False])
    assert score == Score(best=0, agreement=4, pairs=4, cut=True)
    assert decide(score, step) is Decision.ESCALATE
    assert list(accepts(np.array([4, 4]), np.array([4, 4]), 0.0, np.array([True, False]))) == [False, True]


def test_of_equal_candidates_the_first_whole_one_wins() -> None:
    rows = [[PASS, FAIL], [PASS, FAIL], [PASS, FAIL]]
    assert score_candidates(matrix(*rows), cut=[True, False, False]) == Score(best=1, agreement=3, pairs=6)


def test_where_nothing_passes_the_last_whole_candidate_stands() -> None:
    rows = [[FAIL], [FAIL], [FAIL]]
    assert score_candidates(matrix(*rows), cut=[False, False, True]) == Score(best=1, agreement=0, pairs=3)
    assert score_candidates(matrix(*rows), cut=[True, True, True]) == Score(best=2, agreement=0, pairs=3, cut=True)
