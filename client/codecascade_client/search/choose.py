"""Choosing plans without fooling oneself: by what they are worth, or by paired bootstrap over validation tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from codecascade.types import Plan, PlanStep
from numpy.typing import NDArray

from codecascade_client.estimate import Estimate
from codecascade_client.recording.recording import StepOption
from codecascade_client.replay.table import Outcome, Table, outcome
from codecascade_client.search.offers import Offer
from codecascade_client.words import in_words

RESAMPLES = 2000
PROBABILITY = 0.9  # how probable it must be that a chosen plan is not worse than its reference
CHEAP_LOSS = 0.05  # accuracy that `cheap` may lose against the largest tier
NAMED_WORTHS = {"cheap": 3.5, "balanced": 5, "accurate": 50}  # of a correct answer, in greedy answers of the largest tier
FAST = "fast"
SLOW = 0.95  # the share of requests that a plan's latency is told for
LEAST_ACCURACY = 0.10  # greedy; asking a tier below it wastes money
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Measured:
    """A plan on a set of tasks."""

    cost_usd: Estimate  # per request
    accuracy: Estimate  # 0…1
    reach: Mapping[str, float]  # tier → share of the requests that it sees


@dataclass(frozen=True, slots=True)
class Choice:
    """A plan that was chosen by a rule."""

    plan: Plan
    rule: str  # in words
    reference: Plan  # the plan that it is not worse than
    probability: float  # that it is not worse, by the bootstrap
    offer: Offer | None = None  # None: it is the reference


class Bootstrap:
    """Resamples of a set of tasks. They are the same for every plan, so plans are compared in pairs."""

    def __init__(self, tasks: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._shares = rng.multinomial(tasks, np.full(tasks, 1 / tasks), size=RESAMPLES) / tasks

    def means(self, per_task: NDArray[np.float64]) -> NDArray[np.float64]:
        """(resamples,) means of a value of every task."""
        return np.asarray(self._shares @ per_task, np.float64)

    def estimate(self, per_task: NDArray[np.float64]) -> Estimate:
        low, high = np.quantile(self.means(per_task), (0.025, 0.975))
        return Estimate(float(per_task.mean()), float(low), float(high))

    def not_worse(self, right: NDArray[np.float64], reference: NDArray[np.float64], loss: float = 0.0) -> float:
        """Probability that the accuracy is at least the reference's minus `loss`. right, reference: (tasks,)."""
        return float((self.means(right - reference) >= -loss - _ROUNDING).mean())


def measure(table: Table, plan: Plan, bootstrap: Bootstrap) -> Measured:
    """A plan on all tasks of a table."""
    measured = outcome(table, plan)
    return Measured(
        cost_usd=bootstrap.estimate(measured.usd_per_task),
        accuracy=bootstrap.estimate(measured.right_per_task),
        reach=_reach(table, plan, measured),
    )


def _reach(table: Table, plan: Plan, measured: Outcome) -> dict[str, float]:
    return {tier: float(measured.asked[table.tiers.index(tier)].mean()) for tier in plan.tiers}


def single_plans(table: Table) -> list[Plan]:
    """Every plan of one tier: greedy, or the best of k by its own tests."""
    return [single(option) for option in table.options if option.k != 1]


def single(option: StepOption) -> Plan:
    return Plan(f"{option.tier}-alone", (PlanStep(option.tier, option.k, option.lines_per_sample),))


def weak_tiers(table: Table) -> dict[str, float]:
    """Tiers that are not worth asking → their greedy accuracy."""
    greedy = {option.tier: float(table.correct[place].mean()) for place, option in enumerate(table.options) if option.k == 0}
    return {tier: accuracy for tier, accuracy in greedy.items() if accuracy < LEAST_ACCURACY}


def choose(table: Table, offered: Sequence[Offer], probability: float, bootstrap: Bootstrap) -> list[Choice]:
    """Choose `cheap`, `balanced`, `accurate` and `fast`. table: the validation tasks.

    Where tests come with tasks, by the value of a correct answer. Else, without `fast`, the cheapest plan on offer that is
    probably not worse than a reference; if no such plan is cheaper than the reference, the reference.
    """
    largest = single(StepOption(table.tiers[-1], 0, 0))
    by_worth = {offer.worth: offer for offer in offered}
    if by_worth.keys() >= set(NAMED_WORTHS.values()):
        named = [
            valued(name, f"{worth} greedy answers of {table.tiers[-1]}", by_worth[worth], table, bootstrap)
            for name, worth in NAMED_WORTHS.items()
        ]
        return [*named, _fast(offered, by_worth[NAMED_WORTHS["balanced"]], table, bootstrap)]
    best = _most_accurate(table)
    rules = (
        _Rule("cheap", f"at most {100 * CHEAP_LOSS:g} points less accurate than {in_words(largest)}", largest, CHEAP_LOSS),
        _Rule("balanced", f"not less accurate than {in_words(largest)}", largest),
        _Rule("accurate", f"not less accurate than the most accurate single tier, {in_words(best)}", best),
    )
    return [_choice(rule, table, offered, probability, bootstrap) for rule in rules]


def valued(name: str, value: str, offer: Offer, table: Table, bootstrap: Bootstrap) -> Choice:
    """The plan that is worth most at a value of a correct answer, in words. Its reference is the largest tier alone."""
    largest = single(StepOption(table.tiers[-1], 0, 0))
    probability = bootstrap.not_worse(offer.right, outcome(table, largest).right_per_task)
    words = f"worth most where a correct answer is worth {value}; not less accurate than {in_words(largest)}"
    return Choice(replace(offer.plan, name=name), words, largest, probability, offer)


def _fast(offered: Sequence[Offer], balanced: Offer, table: Table, bootstrap: Bootstrap) -> Choice:
    """Worth most at the value of `balanced` among the plans whose slow requests are no slower than the largest tier's.

    Where a token's price is the time that it takes, which `codecascade price` measures, latencies compare as costs do: answers
    are drawn one after another. The largest tier alone is such a plan.
    """
    largest = single(StepOption(table.tiers[-1], 0, 0))
    alone = outcome(table, largest)
    limit = np.quantile(alone.usd_per_task, SLOW) + _ROUNDING
    words = f"worth most at balanced's value of plans with a p{100 * SLOW:.0f} latency of {in_words(largest)} at most"

    def worth(right: NDArray[np.float64], cost_usd: NDArray[np.float64]) -> float:
        return float((balanced.value_usd or 0.0) * right.mean() - cost_usd.mean())

    best, reached = None, worth(alone.right_per_task, alone.usd_per_task)
    for offer in offered:
        quick = np.quantile(outcome(table, offer.plan).usd_per_task, SLOW) <= limit
        if quick and worth(offer.right, offer.cost_usd) > reached:
            best, reached = offer, worth(offer.right, offer.cost_usd)
    if best is None:
        return Choice(replace(largest, name=FAST), words, largest, 1.0)
    return Choice(replace(best.plan, name=FAST), words, largest, bootstrap.not_worse(best.right, alone.right_per_task), best)


@dataclass(frozen=True, slots=True)
class _Rule:
    """How a named plan is chosen."""

    name: str
    words: str
    reference: Plan
    loss: float = 0.0  # accuracy that the plan may lose against the reference


def _choice(rule: _Rule, table: Table, offered: Sequence[Offer], probability: float, bootstrap: Bootstrap) -> Choice:
    reference = outcome(table, rule.reference)
    for offer in offered:
        if offer.cost_usd.mean() < reference.usd_per_task.mean():
            reached = bootstrap.not_worse(offer.right, reference.right_per_task, rule.loss)
            if reached >= probability:
                return Choice(replace(offer.plan, name=rule.name), rule.words, rule.reference, reached, offer)
    return Choice(replace(rule.reference, name=rule.name), rule.words, rule.reference, 1.0)


def _most_accurate(table: Table) -> Plan:
    """The most accurate single-tier plan; the cheapest of them if there are several."""

    def rank(plan: Plan) -> tuple[float, float]:
        measured = outcome(table, plan)
        return -measured.accuracy, measured.cost_usd

    return min(single_plans(table), key=rank)
