"""What each tier of a plan does over recorded tasks: the promise that traffic is later held against (codecascade.drift)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from codecascade.drift import SHARES, Seen
from codecascade.types import Plan

from codecascade_client.estimate import Estimate
from codecascade_client.recording.recording import Recording
from codecascade_client.replay.cascade import replay
from codecascade_client.replay.table import Table
from codecascade_client.search.choose import Bootstrap


@dataclass(frozen=True, slots=True)
class TierMeasured:
    """A tier of a plan on a set of tasks."""

    asked: float  # tasks; a task of several runs counts with the share of them
    shares: Mapping[str, float]  # of them, by each of SHARES
    cost_usd: Estimate  # of the tier's part in a task that asks it


@dataclass(slots=True)
class _Replayed:
    seen: Seen = field(default_factory=Seen)
    costs: defaultdict[str, defaultdict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    """By tier and task: what the tier cost in each run that asked it."""


def by_tier(recordings: Sequence[Recording], table: Table, plan: Plan, seed: int) -> dict[str, TierMeasured]:
    """By each tier that a task of the table asked. seed: of the intervals."""
    replayed, runs = asyncio.run(_replay(recordings, table, plan)), len(table.runs)
    return {
        tier: TierMeasured(
            asked=did.asked / runs,
            shares={share: getattr(did, share) / runs for share in SHARES},
            cost_usd=_estimate([float(np.mean(costs)) for costs in replayed.costs[tier].values()], seed),
        )
        for tier, did in replayed.seen.tiers.items()
    }


async def _replay(recordings: Sequence[Recording], table: Table, plan: Plan) -> _Replayed:
    replayed, tasks = _Replayed(), set(table.tasks)
    for recording in recordings:
        for task in (task for task in recording.manifest.dataset["task_ids"] if task in tasks):
            for run in table.runs:
                steps = (await replay(plan, recording, task, run)).answer.trace.steps
                replayed.seen.add(steps)
                for step in steps:
                    replayed.costs[step.tier][task].append(step.cost_usd)
    return replayed


def _estimate(per_task: Sequence[float], seed: int) -> Estimate:
    return Bootstrap(len(per_task), seed).estimate(np.array(per_task, np.float64))
