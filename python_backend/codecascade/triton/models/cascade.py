"""The `cascade` model: request tensors → run_cascade → response tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import triton_python_backend_utils as pb_utils

from codecascade.allowance import Allowance
from codecascade.cascade import run_cascade
from codecascade.deployment import load_deployment
from codecascade.errors import InvalidSetting
from codecascade.events import Abandoned, Event, Tell, nobody
from codecascade.load_policy import LoadPolicy, load_note
from codecascade.plans import PlanStore
from codecascade.tiers.allowed import allowed
from codecascade.tiers.live import LiveTiers
from codecascade.triton.calls.bls import BlsSandbox, BlsTiers
from codecascade.triton.calls.remote import AllTiers, RemoteSandbox
from codecascade.triton.cascade_contract import Answered, Asked, Received, read_asked
from codecascade.triton.cascade_metrics import CascadeMetrics, outcome_of
from codecascade.triton.gate_metrics import Before
from codecascade.triton.models.base import ServedModel
from codecascade.triton.parameters import Parameters
from codecascade.triton.sandbox_contract import CANDIDATE_CPU_S
from codecascade.triton.settings import read_server_settings
from codecascade.triton.shadow import LEAST_PRIORITY, Means, Shadow
from codecascade.triton.spans import spans_from_environment
from codecascade.types import Candidate, TestLine, VerdictMatrix


class TritonPythonModel(ServedModel):
    """Loaded by Triton. Start-up fails if the deployment or its plan file cannot be used."""

    nested = False

    def start(self, parameters: Parameters) -> None:
        self._inputs = parameters.inputs
        settings = read_server_settings()
        if settings.deployment is None:
            raise InvalidSetting("CODECASCADE_DEPLOYMENT is not set, it must be the path of the deployment file")
        self._deployment = load_deployment(settings.deployment)
        self._plans = PlanStore(self._deployment.plans, pb_utils.Logger.log_error, self._deployment.check_plans)
        self.serving.bound("the cascade", self._deployment.max_requests)
        self._load = LoadPolicy(self._deployment.load_policy)
        tiers = AllTiers(BlsTiers(self._deployment), self._deployment, settings.tiers_url, settings.tiers_tls)
        self._generate = tiers.generate
        remote = settings.sandbox_url
        self._sandbox = RemoteSandbox(remote, settings.sandbox_tls) if remote else BlsSandbox(self._deployment)
        self._spans = spans_from_environment()
        self._metrics = CascadeMetrics(self._plans.current, self.name)
        idle = _Prioritized(self._sandbox, LEAST_PRIORITY)
        self._shadow = Shadow(settings, Means(self._deployment, tiers.generate, idle, self._plans.current, self.serving.door))
        before = Before(self.name, {**tiers.gates, "sandbox": self._sandbox.gate, self.name: self.serving.door}, self._load)
        self.count([*self._metrics.families, *self._shadow.metrics.families, *before.families])

    async def answer(self, request: Any) -> list[Any]:
        received = Received(request)
        del request  # gives back its shared memory, which Triton never makes smaller again
        return (await self.complete(received)).tensors()

    async def complete(self, received: Received, tell: Tell = nobody) -> Answered:
        """tell: is told of everything but the end. Raises CascadeError."""
        try:
            asked = read_asked(received, self._inputs, self._plans.current(), self._deployment, self._plan_by_load)
        except BaseException as error:
            self._metrics.failed(error)
            raise

        def on_event(event: Event) -> None:
            span(event)
            if isinstance(event, Abandoned):
                self._abandoned(asked, event)
            else:
                tell(event)

        prices = self._deployment.prices
        allowance = Allowance(prices, deadline=asked.deadline, max_cost_usd=asked.max_cost_usd, sandbox_cpu_s=CANDIDATE_CPU_S)
        generate = allowed(self._generate, self._deployment, allowance, asked.priority)
        tiers = LiveTiers(self._deployment, generate, seed=asked.seed, max_tokens=asked.max_tokens)
        sandbox = _Prioritized(self._sandbox, asked.priority)
        with self._spans.request(self.name, asked.plan.name, asked.request_id) as span:
            answer = await run_cascade(asked.task, asked.plan, tiers, sandbox, prices, allowance=allowance, on_event=on_event)
        if asked.by_load:
            answer = replace(answer, trace=replace(answer.trace, note=load_note(asked.plan.name, answer.trace.note)))
        self._metrics.answered(answer)
        self._shadow.after(asked.task, answer, asked.seed, asked.max_tokens)
        return Answered.of(asked, answer)

    def _plan_by_load(self) -> str | None:
        return self._load.plan(self.serving.door.in_flight)

    def _abandoned(self, asked: Asked, ended: Abandoned) -> None:
        self._metrics.abandoned(ended.steps, asked.plan.name, outcome_of(ended.error))
        if asked.request_id:
            pb_utils.Logger.log_info(f"request {asked.request_id!r} ended without an answer: {ended.error!r}")


@dataclass(frozen=True, slots=True)
class _Prioritized:
    """The sandbox, for a request of some priority."""

    sandbox: BlsSandbox | RemoteSandbox
    priority: int

    async def run(self, candidates: Sequence[Candidate], test_lines: Sequence[TestLine]) -> VerdictMatrix:
        """Raises SandboxUnavailable, Overloaded."""
        return await self.sandbox.run(candidates, test_lines, self.priority)
