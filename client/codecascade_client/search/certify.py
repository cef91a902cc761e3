"""Promises that hold: how much less accurate than one tier alone a plan is at most, by tasks that it was not chosen on.

The tasks are taken as independent draws from all tasks of their kind. On a task a plan loses (only the tier alone is right),
gains (only the plan is right) or ties. Its loss is P(loses) less P(gains): its accuracy is so much lower. The upper bound is
exact for any number of tasks. It is Buehler's (JASA 52, 1957), the tightest for its order of the outcomes (Kabaila and Lloyd,
Austral. J. Statist. 39, 1997): from few losses and many gains to the opposite. The bound is the largest loss at which an outcome
that is no worse than the observed one still has a probability of 5 %, at the worst probability of a gain.

Other bounds that hold without assumptions are wider. With 5 losses and 10 gains in 115 tasks this one is 1.5 points; two
Clopper-Pearson bounds joined by Bonferroni give 5.6. Bets on the mean (Waudby-Smith and Ramdas, arXiv 2010.09686) can use the
shares of several runs, but on the published ones (115 held-out tasks, ten runs) they give bounds that are wider by 0.3 to 5.3
points for 14 of 15 plans. So one run of each task counts, taken by the task's place and not by its result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from codecascade.types import Plan
from numpy.typing import NDArray

from codecascade_client.replay.table import Table, outcome
from codecascade_client.words import counted

CONFIDENCE = 0.95
POWER = 0.8  # how probable it must be that the needed tasks suffice
POINTS = (5, 2, 1)  # of accuracy; a plan that may lose more than the first is refused
MOST_TASKS = 100_000  # that are worth telling as needed
_PARTS = (25, 5, 4, 2)  # into which 0 to 0.5 is cut, one after the other, down to 0.0005: so near is Buehler's bound
_LEFT_OUT = 1e-6  # more than the probability of all counts that are not added up
_CLOSE = 1e-4  # how closely the bound is found, from above
_Z = 1.645  # of the order of outcomes, at any confidence, so that more confidence never gives a lower bound

Right: TypeAlias = NDArray[np.bool_]
Floats: TypeAlias = NDArray[np.float64]
Counts: TypeAlias = NDArray[np.int64]


def at_most_worse(plan_right: Right, reference_right: Right, confidence: float = CONFIDENCE) -> float:
    """The smallest loss of accuracy, 0…1, that the plan provably does not exceed. Arrays: (tasks,), or (runs, tasks).

    Raises ValueError if there is no task, or if the arrays are not answers to the same tasks.
    """
    plan, reference = _one_run(plan_right), _one_run(reference_right)
    if plan.shape != reference.shape:
        raise ValueError(f"the plan answers {plan.size} tasks and the reference {reference.size}, must be the same tasks")
    return most_loss(plan.size, int((reference & ~plan).sum()), int((plan & ~reference).sum()), confidence)


@cache
def most_loss(tasks: int, lost: int, gained: int, confidence: float = CONFIDENCE) -> float:
    """The same from counts: the tasks, and those on which the plan loses and gains."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, must be between 0 and 1")
    observed, low, high = _badness(lost, gained), 0.0, 1.0
    if _ruled_out(tasks, observed, low, 1 - confidence):
        return 0.0
    while high - low > _CLOSE:
        middle = (low + high) / 2
        if _ruled_out(tasks, observed, middle, 1 - confidence):
            high = middle
        else:
            low = middle
    return high


def tasks_needed(loss: float, lost: float, gained: float, confidence: float = CONFIDENCE, power: float = POWER) -> int | None:
    """How many tasks probably suffice to certify a loss, if the plan loses and gains on such shares of all tasks.

    To two digits. None: more than MOST_TASKS, or no number at all.
    """
    fewest, most = 1, MOST_TASKS
    if lost - gained >= loss or not _suffices(most, loss, lost, gained, confidence, power):
        return None
    while most > 1.002 * fewest + 1:
        middle = math.isqrt(fewest * most) + 1
        if _suffices(middle, loss, lost, gained, confidence, power):
            most = middle
        else:
            fewest = middle
    unit = int(10 ** max(len(str(most)) - 2, 0))
    return math.ceil(most / unit) * unit


def certificate(held_out: Table, plan: Plan, reference: Plan) -> dict[str, Any]:
    """What a plan file says of a plan under `certified`.

    held_out: tasks that the plan was not chosen on. reference: one tier alone.
    """
    tier, tasks = reference.steps[-1].tier, len(held_out.tasks)
    right, reference_right = outcome(held_out, plan).correct, outcome(held_out, reference).correct
    same = replace(plan, name=reference.name) == reference
    points = 0.0 if same else math.ceil(1e3 * at_most_worse(right, reference_right)) / 10
    if points <= POINTS[0]:
        return {"against": tier, "points": points, "confidence": CONFIDENCE, "tasks": tasks}
    lost, gained = float((reference_right & ~right).mean()), float((right & ~reference_right).mean())
    seen = f"{100 * abs(gained - lost):.1f} points {'less' if lost > gained else 'more'}"
    return {
        "refused": f"{tasks} held-out tasks do not show with {100 * CONFIDENCE:g} % confidence that it is at most "
        f"{POINTS[0]} points less accurate than {tier} alone; on these it is {seen} accurate",
        "tasks_needed": {str(points): tasks_needed(points / 100, lost, gained) for points in POINTS},
    }


def in_a_sentence(certified: Mapping[str, Any]) -> str:
    """A plan file's `certified` for people."""
    if "refused" in certified:
        needed = certified["tasks_needed"].items()
        enough = "; ".join(
            f"{counted(int(points), 'point')}: {f'{tasks:,}' if tasks else 'no number'}" for points, tasks in needed
        )
        return f"{certified['refused']}. Tasks that would probably show at most {enough}"
    worse = f"at most {certified['points']:g} points less" if certified["points"] else "not less"
    tasks = f"{100 * certified['confidence']:g} % confidence, {certified['tasks']} held-out tasks"
    return f"{worse} accurate than {certified['against']} alone ({tasks})"


def _one_run(right: Right) -> Right:
    """(tasks,) one run of each task, the runs in turn."""
    runs = np.atleast_2d(right)
    if runs.dtype != np.bool_ or runs.ndim != 2 or not runs.size:
        raise ValueError(f"answers are {runs.dtype} of shape {np.shape(right)}, must be true or false, of 1 task or more")
    places = np.arange(runs.shape[1])
    return np.asarray(runs[places % len(runs), places])


def _badness(lost: float, gained: float) -> float:
    """The order of outcomes: an upper bound of losses minus gains by the normal distribution, with a pair added."""
    return lost - gained + _Z * math.sqrt(lost + gained + 1)


def _most_lost(badness: float, gained: Counts) -> Counts:
    """How many losses an outcome that is no worse may have beside so many gains; -1 if even none is worse."""
    below = np.maximum(badness + 1e-9 + 2 * gained + 1, 0)
    root = (np.sqrt(_Z**2 + 4 * below) - _Z) / 2
    return np.asarray(np.maximum(np.floor(root**2 - gained - 1), -1), np.int64)


def _ruled_out(tasks: int, badness: float, loss: float, chance: float) -> bool:
    """Whether an outcome that is no worse has at most this chance for every plan that loses so much or more.

    Fewer losses and more gains make it more probable. So in an interval of probabilities of a gain it is at most that of the
    lower end's losses with the upper end's gains. An interval where that is too much is cut into parts.
    """
    gains, width = np.zeros(1), 0.5
    for parts in _PARTS:
        width /= parts
        gains = (gains[:, None] + width * np.arange(parts)).ravel()
        gains = gains[2 * gains + loss < 1]
        lost = gains + loss
        if (_chance(tasks, badness, lost, gains) > chance).any():
            return False
        gains = gains[_chance(tasks, badness, lost, np.minimum(gains + width, 1 - lost)) + _LEFT_OUT > chance]
        if not gains.size:
            return True
    return False


def _suffices(tasks: int, loss: float, lost: float, gained: float, confidence: float, power: float) -> bool:
    """Whether a loss is probably certified: an outcome so bad that most are no worse is still improbable at that loss."""
    low = _badness(tasks * lost, tasks * gained) - 1
    high = low + 2 + 4 * math.sqrt(tasks * (lost + gained))
    while high - low > 0.1:
        middle = (low + high) / 2
        if _chance(tasks, middle, np.array([lost]), np.array([gained]))[0] >= power:
            high = middle
        else:
            low = middle
    gains = np.append(0, np.geomspace(0.1 / tasks, (1 - loss) / 2, 30))
    return bool((_chance(tasks, high, gains + loss, gains) <= 1 - confidence).all())


def _chance(tasks: int, badness: float, lost: Floats, gained: Floats) -> Floats:
    """(plans,) the probability of an outcome that is no worse. lost, gained: (plans,) probabilities of both on a task.

    Sums P(gains) · P(losses ≤ most | gains) over the gains. With one gain more, one task less can be lost and `most` is the same
    or one more, so the second factor grows by one or two binomial probabilities.
    """
    gained, share = gained[:, None], np.minimum(lost / (1 - gained), 1)[:, None]  # share: losses among the tasks without a gain
    gains = _around(tasks, gained)
    most, others = _most_lost(badness, gains), np.maximum(tasks - gains, 0)
    losses = _around(others[:, :1], share)
    first = np.where(losses <= most[:, :1], _binomial(losses, others[:, :1], share), 0).sum(axis=1, keepdims=True)
    before, now, left = most[:, :-1], most[:, 1:], others[:, 1:]
    growth = share * _binomial(before, left, share) + np.where(now > before, _binomial(now, left, share), 0)
    cumulated = np.cumsum(np.concatenate([first, growth], axis=1), axis=1)
    return np.asarray((_binomial(gains, np.int64(tasks), gained) * cumulated).sum(axis=1), np.float64)


def _around(trials: int | Counts, share: Floats) -> Counts:
    """(plans, counts) the counts that have a probability worth adding: all but _LEFT_OUT, by Bernstein's inequality."""
    mean = trials * share
    half = 6 * math.sqrt((mean * (1 - share)).max()) + 15
    return np.asarray(np.maximum(np.floor(mean - half), 0) + np.arange(int(2 * half) + 2), np.int64)


def _binomial(count: Counts, trials: Counts | np.int64, share: Floats) -> Floats:
    """Probabilities; 0 for counts that cannot be."""
    factorial, share = _log_factorials(int(np.max(trials)).bit_length()), np.clip(share, 1e-300, 1 - 1e-16)
    hits = np.clip(count, 0, trials)
    misses = trials - hits
    ways = factorial[trials] - factorial[hits] - factorial[misses]
    probabilities = np.exp(ways + hits * np.log(share) + misses * np.log1p(-share))
    return np.where(hits == count, probabilities, 0)


@cache
def _log_factorials(bits: int) -> Floats:
    """Of all numbers that have so many bits."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, 1 << bits)))])
