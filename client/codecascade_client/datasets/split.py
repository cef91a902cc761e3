"""Splits of a dataset into validation tasks, which plans are chosen on, and test tasks, which are held out."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from codecascade.errors import InvalidRequest

FRACTION = 0.3  # share of the validation tasks, as in the paper


@dataclass(frozen=True, slots=True)
class Split:
    """Tasks in the order of the dataset."""

    validation: tuple[str, ...]
    test: tuple[str, ...]


def split(tasks: Sequence[str], seed: int, fraction: float = FRACTION) -> Split:
    """The paper's split: `random.Random(seed).sample(range(164), 49)` is the validation set of HumanEval.

    Raises InvalidRequest if a side would be empty.
    """
    size = int(fraction * len(tasks))
    if not 0 < size < len(tasks):
        raise InvalidRequest(f"a split of {len(tasks)} tasks at {fraction} leaves a side empty, more tasks are needed")
    drawn = set(random.Random(seed).sample(range(len(tasks)), size))
    return Split(
        validation=tuple(task for index, task in enumerate(tasks) if index in drawn),
        test=tuple(task for index, task in enumerate(tasks) if index not in drawn),
    )
