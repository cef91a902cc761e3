"""Choosing plans without fooling oneself: paired bootstrap over validation tasks, and what held-out tasks say afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from codecascade.prices import PICODOLLARS
from codecascade.types import Plan, PlanStep
from numpy.typing import NDArray

from codecascade_client.estimate import Estimate
from codecascade_client.recording.recording import StepOption
from codecascade_client.replay.table import Outcome, Table, outcome
from codecascade_client.search.frontier import Point
from codecascade_client.words import in_words

RESAMPLES = 2000
PROBABILITY = 0.9  # at least, that a chosen plan is not worse than its reference
CHEAP_LOSS = 0.05  # of accuracy, that `cheap` may lose against the largest tier
LEAST_ACCURACY = 0.10  # greedy; a tier below it wastes money
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Measured:
    """A plan on a set of tasks. cost_usd: per request. accuracy: 0…1. reach: tier → share of the requests that it sees."""

    cost_usd: Estimate
    accuracy: Estimate
    reach: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Choice:
    """A named plan. rule: in words, what it is not worse than; reference: that. probability: that it is not, by the bootstrap."""

    plan: Plan
    rule: str
    reference: Plan
    probability: float


class Bootstrap:
    """Resamples of a set of tasks, the same for every plan, so that plans are compared in pairs."""

    def __init__(self, tasks: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._shares = rng.multinomial(tasks, np.full(tasks, 1 / tasks), size=RESAMPLES) / tasks

    def means(self, per_task: NDArray[np.float64]) -> NDArray[np.float64]:
        """(resamples,) means of a value that each task has."""
        return np.asarray(self._shares @ per_task, np.float64)

    def estimate(self, per_task: NDArray[np.float64]) -> Estimate:
        low, high = np.quantile(self.means(per_task), (0.025, 0.975))
        return Estimate(float(per_task.mean()), float(low), float(high))

    def not_worse(self, right: NDArray[np.float64], reference: NDArray[np.float64], loss: float = 0.0) -> float:
        """Probability that the accuracy is at least the reference's less `loss`. right, reference: (tasks,)."""
        return float((self.means(right - reference) >= -loss - _ROUNDING).mean())


def measure(table: Table, plan: Plan, bootstrap: Bootstrap) -> Measured:
    """A plan on all tasks of a table."""
    found = outcome(table, plan)
    return Measured(
        bootstrap.estimate(cost_per_task(found)), bootstrap.estimate(right_per_task(found)), _reach(table, plan, found)
    )


def _reach(table: Table, plan: Plan, found: Outcome) -> dict[str, float]:
    answered = [float((found.answered_by == table.tiers.index(step.tier)).mean()) for step in plan.steps]
    return {step.tier: sum(answered[position:]) for position, step in enumerate(plan.steps)}


def right_per_task(found: Outcome) -> NDArray[np.float64]:
    """(tasks,) share of the runs in which the task is right."""
    return np.asarray(found.correct.mean(axis=0), np.float64)


def cost_per_task(found: Outcome) -> NDArray[np.float64]:
    """(tasks,) dollars per request, mean of the runs."""
    return np.asarray(found.cost.mean(axis=0) / PICODOLLARS, np.float64)


def single_plans(table: Table) -> list[Plan]:
    """Every plan of one tier: greedy, or the best of k by its own tests."""
    return [single(option) for option in table.options if option.k != 1]


def single(option: StepOption) -> Plan:
    return Plan(f"{option.tier}-alone", (PlanStep(option.tier, option.k, option.lines_per_sample),))


def weak_tiers(table: Table) -> dict[str, float]:
    """Tiers whose greedy accuracy is too low to be worth asking, with it."""
    greedy = {option.tier: float(table.correct[place].mean()) for place, option in enumerate(table.options) if option.k == 0}
    return {tier: accuracy for tier, accuracy in greedy.items() if accuracy < LEAST_ACCURACY}


def choose(table: Table, frontier: Sequence[Point], probability: float, bootstrap: Bootstrap) -> list[Choice]:
    """`cheap`, `balanced` and `accurate`: each the cheapest plan of the frontier that is probably not worse than its reference.

    table: the validation tasks. The reference itself is taken where the frontier has no cheaper such plan.
    """
    largest = single(StepOption(table.tiers[-1], 0, 0))
    best = _most_accurate(table)
    rules = (
        _Rule("cheap", f"at most {100 * CHEAP_LOSS:g} points less accurate than {in_words(largest)}", largest, CHEAP_LOSS),
        _Rule("balanced", f"not less accurate than {in_words(largest)}", largest),
        _Rule("accurate", f"not less accurate than the most accurate single tier, {in_words(best)}", best),
    )
    return [_choice(rule, table, frontier, probability, bootstrap) for rule in rules]


@dataclass(frozen=True, slots=True)
class _Rule:
    """loss: of accuracy, that is allowed."""

    name: str
    words: str
    reference: Plan
    loss: float = 0.0


def _choice(rule: _Rule, table: Table, frontier: Sequence[Point], probability: float, bootstrap: Bootstrap) -> Choice:
    reference = outcome(table, rule.reference)
    for point in frontier:
        if point.cost < reference.cost.sum():
            right = right_per_task(outcome(table, point.plan))
            reached = bootstrap.not_worse(right, right_per_task(reference), rule.loss)
            if reached >= probability:
                return Choice(Plan(rule.name, point.plan.steps), rule.words, rule.reference, reached)
    return Choice(Plan(rule.name, rule.reference.steps), rule.words, rule.reference, 1.0)


def _most_accurate(table: Table) -> Plan:
    """Of equally accurate ones the cheapest."""

    def rank(plan: Plan) -> tuple[float, float]:
        found = outcome(table, plan)
        return -found.accuracy, found.cost_usd

    return min(single_plans(table), key=rank)
