"""The `cascade` model: request tensors → run_cascade → response tensors."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from codecascade.cascade import run_cascade
from codecascade.deployment import load_deployment
from codecascade.errors import InvalidSetting
from codecascade.plans import PlanStore
from codecascade.requests import completion, task_of
from codecascade.steps import finish_reason
from codecascade.tiers.live import LiveTiers, check_max_tokens
from codecascade.trace import cost_of
from codecascade.triton.calls.bls import BlsSandbox, BlsTiers
from codecascade.triton.calls.remote import RemoteSandbox, with_remote_tiers
from codecascade.triton.cascade_metrics import CascadeMetrics, outcome_of
from codecascade.triton.models.base import ServedModel
from codecascade.triton.parameters import Parameters
from codecascade.triton.settings import read_server_settings
from codecascade.triton.shadow import Means, Shadow
from codecascade.triton.tensors import Inputs, numbers, texts
from codecascade.types import Plan, Task


class TritonPythonModel(ServedModel):
    """Loaded by Triton. Start-up fails if the deployment or its plan file cannot be used."""

    nested = False

    def start(self, parameters: Parameters) -> None:
        settings = read_server_settings()
        if settings.deployment is None:
            raise InvalidSetting("CODECASCADE_DEPLOYMENT is not set, it must be the path of the deployment file")
        self._deployment = load_deployment(settings.deployment)
        self._plans = PlanStore(self._deployment.plans, report=pb_utils.Logger.log_error)
        local = BlsTiers(self._deployment).generate
        self._generate = with_remote_tiers(local, self._deployment, settings.tiers_url, settings.tiers_tls)
        remote = settings.sandbox_url
        self._sandbox = RemoteSandbox(remote, settings.sandbox_tls) if remote else BlsSandbox()
        self._metrics = CascadeMetrics(self._plans.current, self.name)
        means = Means(self._deployment, self._generate, self._sandbox, self._plans.current, lambda: self.serving.in_flight)
        self._shadow = Shadow(settings, means)
        self.count([*self._metrics.families, *self._shadow.metrics.families])

    async def answer(self, request: Any) -> list[Any]:
        try:
            inputs = Inputs(request)
            task, plan = self._asked(inputs)
            seed = inputs.integer("seed", 0, 2**64 - 1, default=0)
            max_tokens = inputs.integer("max_tokens", -(2**31), 2**31 - 1, default=None)
            check_max_tokens(max_tokens, plan, self._deployment)
            traced = inputs.flag("return_trace", default=False)
        except BaseException as error:
            self._metrics.failed(error)
            raise
        tiers = LiveTiers(self._deployment, self._generate, seed=seed, max_tokens=max_tokens)
        try:
            answer = await run_cascade(task, plan, tiers, self._sandbox, self._deployment.prices)
        except BaseException as error:
            self._metrics.abandoned((), plan.name, outcome_of(error))
            raise
        self._metrics.answered(answer)
        self._shadow.after(task, answer, seed, max_tokens)
        trace = json.dumps({**answer.trace.as_dict(), "seed": seed}, ensure_ascii=False) if traced else ""
        return [
            texts("completion", [completion(task, answer.candidate)]),
            texts("inserted", [answer.candidate.inserted]),
            texts("finish_reason", [finish_reason(answer.candidate)]),
            texts("tier", [answer.tier]),
            numbers("score", [answer.score], np.float32),
            numbers("cost", [cost_of(answer.trace.steps).cost_usd], np.float64),
            texts("trace", [trace]),
        ]

    def _asked(self, inputs: Inputs) -> tuple[Task, Plan]:
        prompt = inputs.text("prompt", self._deployment.max_prompt_bytes)
        cursor = inputs.integer("cursor", 0, 2**31 - 1, default=None)
        tests, cases = inputs.texts("tests"), inputs.texts("cases")
        task = task_of(prompt, inputs.optional_text("entry_point"), cursor, self._deployment.sandbox_modules, tests, cases)
        plan = self._plans.current().choose(inputs.optional_text("plan"))
        self._deployment.check(plan)
        return task, plan
