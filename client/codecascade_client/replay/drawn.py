"""Answers that are drawn one by one where tests come with a task, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a step gives that draws answers until one passes all tests that come with the task. Arrays: (runs, tasks)."""

    accepted: NDArray[np.bool_]
    cost: NDArray[np.int64]  # picodollars
    passed: NDArray[np.int64]  # given tests that its best answer passes
    correct: NDArray[np.bool_]  # whether its best answer is right


@dataclass(frozen=True, slots=True)
class Answered:
    """The best answers so far where tests come with the task. Arrays: (runs, tasks)."""

    waiting: NDArray[np.bool_]  # whether no answer passed all tests yet
    cost: NDArray[np.int64]  # picodollars
    correct: NDArray[np.bool_]
    passed: NDArray[np.int64]  # given tests
    by: NDArray[np.int64]  # index of the tier

    @classmethod
    def nothing(cls, shape: tuple[int, int]) -> Answered:
        zeros = np.zeros(shape, np.int64)
        return cls(np.ones(shape, np.bool_), zeros, np.zeros(shape, np.bool_), zeros - 1, zeros)

    def then(self, drawn: Drawn, tier: int) -> Answered:
        """After a further step. Of answers that pass equally many tests the later one is kept."""
        better = self.waiting & (drawn.passed >= self.passed)
        return Answered(
            waiting=self.waiting & ~drawn.accepted,
            cost=self.cost + self.waiting * drawn.cost,
            correct=np.where(better, drawn.correct, self.correct),
            passed=np.where(better, drawn.passed, self.passed),
            by=np.where(better, tier, self.by),
        )


@dataclass(frozen=True, slots=True)
class Draws:
    """The answers of a tier in the order drawn, where tests come with the task. Arrays: (draws, runs, tasks)."""

    given: NDArray[np.int64]  # (tasks,) tests that come with the task
    passed: NDArray[np.int64]  # of these
    cost: NDArray[np.int64]  # picodollars
    correct: NDArray[np.bool_]
    cut: NDArray[np.bool_]

    def until(self, draws: int) -> Drawn:
        """At most so many answers. The best passes the most tests; of equal ones a whole one, then the first."""
        rank = 2 * self.passed[:draws] + ~self.cut[:draws]
        best = rank.argmax(axis=0)[None]
        accepted = np.take_along_axis(rank, best, 0)[0] == 2 * self.given + 1
        last = np.where(accepted, best, draws - 1)
        return Drawn(
            accepted=accepted,
            cost=np.take_along_axis(self.cost.cumsum(axis=0), last, 0)[0],
            passed=np.take_along_axis(self.passed, best, 0)[0],
            correct=np.take_along_axis(self.correct, best, 0)[0],
        )

    @classmethod
    def joined(cls, parts: Sequence[Draws], runs: int) -> Draws:
        """Of the tasks of all parts: the first runs, and as many draws as each part has."""
        fewest = min(len(part.cost) for part in parts)
        cells = ("passed", "cost", "correct", "cut")
        of = {name: np.concatenate([getattr(part, name)[:fewest, :runs] for part in parts], axis=2) for name in cells}
        return cls(given=np.concatenate([part.given for part in parts]), **of)

    def only(self, columns: Sequence[int]) -> Draws:
        """Of some tasks, by their indices."""
        of = {name: getattr(self, name)[..., list(columns)] for name in ("given", "passed", "cost", "correct", "cut")}
        return Draws(**of)
