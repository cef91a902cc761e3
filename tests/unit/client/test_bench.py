import pytest
from codecascade.types import Plan, PlanStep, Verdict
from codecascade_client.estimate import wilson
from codecascade_client.live.bench import summary, tier_use
from codecascade_client.live.evaluate import Result


def answered(passed: bool, *steps: tuple[str, str]) -> Result:
    trace = {"steps": [{"tier": tier, "decision": decision} for tier, decision in steps], "cost": {"completion_tokens": {"a": 5}}}
    verdict = Verdict.PASS if passed else Verdict.FAIL
    return Result("t", "", "", "a", 1.0, 2e-6, trace, verdict, latency_s=1.0)


@pytest.mark.parametrize(("right", "of", "low", "high"), [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)])
def test_wilson_intervals(right: int, of: int, low: float, high: float) -> None:
    """The last: Newcombe 1998, Statistics in Medicine 17, table I."""
    estimate = wilson(right, of)
    assert (estimate.mean, round(estimate.low, 4), round(estimate.high, 4)) == (right / of, low, high)


def test_acceptance_is_counted_where_a_larger_tier_could_have_been_asked() -> None:
    answers = [
        answered(True, ("a", "accept")),
        answered(False, ("a", "accept")),
        answered(True, ("a", "escalate"), ("b", "accept")),
        answered(False, ("a", "skipped"), ("b", "accept")),
    ]
    use = tier_use(answers, last="b")
    assert (use["a"].asked, use["a"].accepted, use["a"].accepted_wrong) == (4, 2, 1)
    assert (use["b"].asked, use["b"].accepted, use["b"].accepted_wrong) == (2, 0, 0)


@pytest.mark.parametrize(("low", "high", "kept"), [(0.4, 0.6, True), (0.0, 0.01, False)])
def test_a_promise_is_kept_where_the_intervals_meet(low: float, high: float, kept: bool) -> None:
    promised = {"accuracy": {"mean": 0.5, "low": low, "high": high}, "usd_per_1000": {"mean": 0.1}}
    bench = summary(Plan("p", (PlanStep("a", 0),)), [answered(True, ("a", "accept"))] * 3, promised)
    assert (bench.accuracy.mean, bench.accuracy.low, bench.accuracy.high) == pytest.approx((1.0, 0.4385, 1.0), abs=1e-4)
    assert bench.kept is kept
    assert (bench.usd_per_1000, bench.tokens) == pytest.approx((2e-3, 5))
    assert summary(Plan("p", (PlanStep("a", 0),)), [answered(True, ("a", "accept"))], None).kept is None
