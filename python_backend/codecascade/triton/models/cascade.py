"""The `cascade` model: request tensors → run_cascade → response tensors."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from codecascade.cascade import Answer, run_cascade
from codecascade.deployment import load_deployment
from codecascade.errors import InvalidSetting
from codecascade.load_policy import LoadPolicy, load_note
from codecascade.plans import PlanStore
from codecascade.requests import completion, task_of
from codecascade.steps import finish_reason
from codecascade.tiers.live import LiveTiers, check_max_tokens
from codecascade.trace import cost_of
from codecascade.triton.calls.bls import BlsSandbox, BlsTiers
from codecascade.triton.calls.remote import AllTiers, RemoteSandbox
from codecascade.triton.cascade_metrics import CascadeMetrics
from codecascade.triton.models.base import ServedModel
from codecascade.triton.parameters import Parameters
from codecascade.triton.settings import read_server_settings
from codecascade.triton.tensors import Inputs, numbers, texts
from codecascade.types import Task


class TritonPythonModel(ServedModel):
    """Loaded by Triton. Start-up fails if the deployment or its plan file cannot be used."""

    nested = False

    def start(self, parameters: Parameters) -> None:
        settings = read_server_settings()
        if settings.deployment is None:
            raise InvalidSetting("CODECASCADE_DEPLOYMENT is not set, it must be the path of the deployment file")
        self._deployment = load_deployment(settings.deployment)
        self._plans = PlanStore(self._deployment.plans, report=pb_utils.Logger.log_error)
        self.serving.bound("the cascade", self._deployment.max_requests)
        self._load = LoadPolicy(self._deployment.load_policy)
        local = BlsTiers(self._deployment)
        self._generate = AllTiers(local, self._deployment, settings.tiers_url, settings.tiers_tls).generate
        remote = settings.sandbox_url
        self._sandbox = RemoteSandbox(remote, settings.sandbox_tls) if remote else BlsSandbox(self._deployment)
        self._metrics = CascadeMetrics()
        self.count(self._metrics.families)

    async def answer(self, request: Any) -> list[Any]:
        inputs = Inputs(request)
        del request  # gives back its shared memory, which Triton never makes smaller again
        try:
            task, answer, seed, traced = await self._complete(inputs)
        except BaseException as error:
            self._metrics.failed(error)
            raise
        self._metrics.answered(answer)
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

    async def _complete(self, inputs: Inputs) -> tuple[Task, Answer, int, bool]:
        inputs.check_size(self._deployment.max_request_bytes)
        prompt = inputs.text("prompt", self._deployment.max_prompt_bytes)
        cursor = inputs.integer("cursor", 0, 2**31 - 1, default=None)
        tests, cases = inputs.texts("tests"), inputs.texts("cases")
        task = task_of(prompt, inputs.optional_text("entry_point"), cursor, self._deployment.sandbox_modules, tests, cases)
        plans, named = self._plans.current(), inputs.optional_text("plan")
        by_load = None if named else self._load.plan(self.serving.door.in_flight)
        plan = plans.choose(named or (by_load if by_load in plans.plans else None))
        self._deployment.check(plan)
        max_tokens = inputs.integer("max_tokens", -(2**31), 2**31 - 1, default=None)
        check_max_tokens(max_tokens, plan, self._deployment)
        seed = inputs.integer("seed", 0, 2**64 - 1, default=0)
        tiers = LiveTiers(self._deployment, self._generate, seed=seed, max_tokens=max_tokens)
        answer = await run_cascade(task, plan, tiers, self._sandbox, self._deployment.prices)
        if by_load == plan.name:
            answer = replace(answer, trace=replace(answer.trace, note=load_note(plan.name, answer.trace.note)))
        return task, answer, seed, inputs.flag("return_trace", default=False)
