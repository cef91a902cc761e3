"""Every plan for requests that come with tests: how many answers each tier may draw. Exact: each is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from codecascade.types import GivenStep
from numpy.typing import NDArray

from codecascade_client.replay.table import Answered, Table

MOST = 20_000  # plans; where there would be more, only some numbers of draws are tried
SOME = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89)


@dataclass(frozen=True, slots=True)
class Chains:
    """Plans on the tasks that come with tests. Arrays: (plans, tasks), summed over the runs."""

    steps: tuple[tuple[GivenStep, ...], ...]  # of every plan
    cost: NDArray[np.int64]  # picodollars
    correct: NDArray[np.int64]  # runs in which the answer is right


def every_chain(table: Table) -> Chains:
    """All plans of the recorded numbers of draws. Empty if no task comes with tests."""
    columns = np.flatnonzero(table.given)
    if not columns.size:
        return Chains((), np.zeros((0, 0), np.int64), np.zeros((0, 0), np.int64))
    table = table.only(tasks=[table.tasks[column] for column in columns])
    numbers = _numbers({tier: len(draws.cost) for tier, draws in table.draws.items()})
    start = Answered.nothing((len(table.runs), len(table.tasks)))
    plans = [(steps, answered.cost.sum(axis=0), answered.correct.sum(axis=0)) for steps, answered in _chains(table, numbers, (), start)]
    steps, cost, correct = zip(*plans, strict=True)
    return Chains(steps, np.array(cost), np.array(correct))


def _chains(
    table: Table, numbers: Mapping[str, Sequence[int]], steps: tuple[GivenStep, ...], before: Answered
) -> Iterator[tuple[tuple[GivenStep, ...], Answered]]:
    """All plans that begin with these steps and go on with later tiers."""
    later = [tier for tier in table.tiers if not steps or table.tiers.index(tier) > table.tiers.index(steps[-1].tier)]
    for tier in later:
        for number in numbers[tier]:
            longer = (*steps, GivenStep(tier, number))
            answered = before.then(table.until(longer[-1]), table.tiers.index(tier))
            yield longer, answered
            yield from _chains(table, numbers, longer, answered)


def _numbers(recorded: Mapping[str, int]) -> dict[str, Sequence[int]]:
    """The numbers of draws to try, by tier."""
    if np.prod([draws + 1.0 for draws in recorded.values()]) <= MOST:
        return {tier: range(1, draws + 1) for tier, draws in recorded.items()}
    return {tier: [number for number in SOME if number <= draws] for tier, draws in recorded.items()}
