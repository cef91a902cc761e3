"""Shadow traffic: a share of requests is replayed by another plan. Nobody is ever answered from a replay."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from codecascade.cascade import Answer, run_cascade
from codecascade.deployment import Deployment
from codecascade.errors import CascadeError, InvalidSetting
from codecascade.plans import PlanFile
from codecascade.prices import usd
from codecascade.tiers.contract import Generate, GenerateRequest, Generation
from codecascade.tiers.live import LiveTiers
from codecascade.triton.calls.gate import Gate
from codecascade.triton.metrics import Counters
from codecascade.triton.settings import PREFIX, ServerSettings
from codecascade.types import Candidate, Sandbox, Task, TestLine, VerdictMatrix

LEAST_PRIORITY = 0
_AT_A_TIME = 2
"""Replays under way; a request that would be one more is not replayed."""


class _Shed(Exception):
    """A replay that makes way for requests."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a replay runs with: what requests run with."""

    deployment: Deployment
    generate: Generate
    sandbox: Sandbox
    plans: Callable[[], PlanFile]
    door: Gate
    """Its `in_flight` are the requests that are worked on."""


class ShadowMetrics:
    """What replays did, beside the answers that they are compared with."""

    def __init__(self) -> None:
        self.replays = Counters(
            "codecascade_shadow_replays_total",
            "Replays by what came of them: same_text, other_text, shed under load, failed",
            ["plan", "shadow", "outcome"],
        )
        self.tiers = Counters(
            "codecascade_shadow_tiers_total",
            "Compared requests by the tier that answered and the one that the shadow accepted",
            ["plan", "shadow", "tier", "shadow_tier"],
        )
        self.compared = Counters(
            "codecascade_shadow_compared_cost_usd_total",
            "What compared requests cost as answered and as replayed, US dollars",
            ["plan", "shadow", "run"],
        )
        self.spent = Counters(
            "codecascade_shadow_cost_usd_total", "Spent on replays, whatever came of them, US dollars", ["tier"]
        )
        self.families = [self.replays, self.tiers, self.compared, self.spent]

    def compare(self, answer: Answer, replayed: Answer) -> None:
        plans = answer.trace.plan, replayed.trace.plan
        same = answer.candidate.inserted == replayed.candidate.inserted
        self.replays.add(1, *plans, "same_text" if same else "other_text")
        self.tiers.add(1, *plans, answer.tier, replayed.tier)
        for run, ran in (("answer", answer), ("shadow", replayed)):
            self.compared.add(sum(step.cost_usd for step in ran.trace.steps), *plans, run)


class Shadow:
    """Replays requests after they are answered, a few at a time, while few requests are in flight.

    Raises InvalidSetting if the plan is not one of the plan file.
    """

    def __init__(self, settings: ServerSettings, means: Means, draw: Callable[[], float] = random.random) -> None:
        self.metrics = ShadowMetrics()
        self._plan, self._share, self._busy_from = settings.shadow_plan, settings.shadow_share, settings.shadow_in_flight
        self._means = means
        self._draw = draw
        self._under_way: set[asyncio.Task[None]] = set()
        known = means.plans().plans
        if self._plan is not None and self._plan not in known:
            raise InvalidSetting(f"{PREFIX}SHADOW_PLAN is {self._plan!r}, must be one of the plans {', '.join(sorted(known))}")

    def after(self, task: Task, answer: Answer, seed: int, max_tokens: int | None) -> None:
        """Call it where a request is answered. The replay begins when the answer has been sent."""
        plan, request = self._plan, asyncio.current_task()
        if plan is None or request is None or plan == answer.trace.plan or answer.trace.limit or self._draw() >= self._share:
            return
        request.add_done_callback(lambda done: self._begin(plan, task, answer, seed, max_tokens))

    def _begin(self, plan: str, task: Task, answer: Answer, seed: int, max_tokens: int | None) -> None:
        if len(self._under_way) >= _AT_A_TIME or self._busy():
            self.metrics.replays.add(1, answer.trace.plan, plan, "shed")
            return
        replay = asyncio.get_running_loop().create_task(self._replay(plan, task, answer, seed, max_tokens))
        self._under_way.add(replay)
        replay.add_done_callback(self._under_way.discard)

    async def _replay(self, plan: str, task: Task, answer: Answer, seed: int, max_tokens: int | None) -> None:
        means = self._means
        metered = _Metered(means, self.metrics.spent, self._busy)
        tiers = LiveTiers(means.deployment, metered.generate, seed=seed, max_tokens=max_tokens)
        try:
            replayed = await run_cascade(task, means.plans().choose(plan), tiers, metered, means.deployment.prices)
        except _Shed:
            self.metrics.replays.add(1, answer.trace.plan, plan, "shed")
        except CascadeError:
            self.metrics.replays.add(1, answer.trace.plan, plan, "failed")
        else:
            if replayed.trace.limit:
                self.metrics.replays.add(1, answer.trace.plan, plan, "shed")
            else:
                self.metrics.compare(answer, replayed)

    def _busy(self) -> bool:
        return self._means.door.in_flight >= self._busy_from


class _Metered:
    """The tiers and the sandbox of one replay. What they cost is counted when it is spent; under load nothing more is asked."""

    def __init__(self, means: Means, spent: Counters, busy: Callable[[], bool]) -> None:
        self._means = means
        self._spent = spent
        self._busy = busy
        self._tier = ""

    async def generate(self, request: GenerateRequest) -> Generation:
        self._make_way()
        self._tier = request.tier
        generation = await self._means.generate(replace(request, priority=LEAST_PRIORITY))
        self._count(generation.prompt_tokens, sum(sample.completion_tokens for sample in generation.samples), 0.0)
        return generation

    async def run(self, candidates: Sequence[Candidate], test_lines: Sequence[TestLine]) -> VerdictMatrix:
        self._make_way()
        matrix = await self._means.sandbox.run(candidates, test_lines)
        self._count(0, 0, float(matrix.cpu_s.sum()))
        return matrix

    def _make_way(self) -> None:
        if self._busy():
            raise _Shed("requests are in flight: the replay makes way")

    def _count(self, prompt_tokens: int, completion_tokens: int, sandbox_s: float) -> None:
        self._spent.add(
            usd(self._means.deployment.prices.step(self._tier, prompt_tokens, completion_tokens, sandbox_s)), self._tier
        )
