"""Fakes one floor below the seams: what tiers write and the sandbox finds, call by call, behind the real LiveTiers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from codecascade.allowance import Allowance
from codecascade.cascade import Answer, run_cascade
from codecascade.deployment import Deployment, Tier
from codecascade.events import Abandoned, Event
from codecascade.tiers.allowed import allowed
from codecascade.tiers.contract import DEFAULT_PRIORITY, GenerateRequest, Generation
from codecascade.tiers.live import LiveTiers
from codecascade.types import Candidate, Plan, Sample, Task, TestLine, Verdict, VerdictMatrix

PROMPT_TOKENS = 20
TOKENS = 7  # of every sequence
CPU_S = 0.25  # of every candidate
TASK = Task("def add(a, b):\n", "add")
DEPLOYMENT = Deployment(
    "tiny",
    Path("tiny.json"),
    {
        name: Tier(name, "base", 4096, 512, price_per_mtok=price, prompt_price_per_mtok=price / 10)
        for name, price in {"small": 1.0, "large": 4.0}.items()
    },
    sandbox_price_per_cpu_s=1e-4,
)
HANGS = "hangs"


@dataclass
class Calls:
    """A tier's calls and the sandbox's. What is not scripted goes well, and tests pass."""

    script: Mapping[str, Exception | str] = field(default_factory=dict)
    """"small", "small tests", "small 2" (its second call for solutions), "sandbox" → what goes wrong."""
    passes: bool = True
    test: str = "add(1, 2) == 3"
    asked: list[str] = field(default_factory=list)
    requests: list[GenerateRequest] = field(default_factory=list)
    hanging: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while a call hangs."""

    async def generate(self, request: GenerateRequest) -> Generation:
        self.requests.append(request)
        await self._play(request.tier + (" tests" if request.max_lines else ""))
        text = f"{self.test}\n" if request.max_lines else "    return a + b\n"
        return Generation((Sample(text, TOKENS),) * request.num_return_sequences, PROMPT_TOKENS)

    async def run(self, candidates: Sequence[Candidate], test_lines: Sequence[TestLine]) -> VerdictMatrix:
        await self._play("sandbox")
        verdict = Verdict.PASS if self.passes else Verdict.FAIL
        return VerdictMatrix(np.full((len(candidates), len(test_lines)), verdict, np.int8), np.full(len(candidates), CPU_S))

    async def _play(self, what: str) -> None:
        self.asked.append(what)
        for _ in range(3):  # a call takes a while
            await asyncio.sleep(0)
        numbered = f"{what} {self.asked.count(what)}"
        done = self.script.get(numbered, self.script.get(what))
        if isinstance(done, Exception):
            raise done
        if done == HANGS:
            self.hanging.set()
            await asyncio.Event().wait()


@dataclass
class Served:
    """A request of a cascade over scripted calls."""

    calls: Calls
    plan: Plan
    task: Task = TASK
    deployment: Deployment = DEPLOYMENT
    events: list[Event] = field(default_factory=list)

    async def answer(self, allowance: Allowance | None = None, priority: int = DEFAULT_PRIORITY) -> Answer:
        prices = self.deployment.prices
        allowance = allowance or Allowance(prices)
        generate = allowed(self.calls.generate, self.deployment, allowance, priority)
        tiers = LiveTiers(self.deployment, generate, seed=0)
        return await run_cascade(
            self.task, self.plan, tiers, self.calls, prices, allowance=allowance, on_event=self.events.append
        )

    @property
    def abandoned(self) -> Abandoned:
        (last,) = [event for event in self.events if isinstance(event, Abandoned)]
        return last


def given(task: Task = TASK) -> Task:
    return replace(task, given_tests=(TestLine("assert add(1, 2) == 3"),))
