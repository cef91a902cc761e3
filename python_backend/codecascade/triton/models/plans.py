"""The `plans` model: which plans the cascade can run now, and what each promises."""

from __future__ import annotations

import json
from typing import Any

import triton_python_backend_utils as pb_utils

from codecascade.deployment import Deployment, load_deployment
from codecascade.errors import InvalidRequest, InvalidSetting
from codecascade.plans import PlanFile, PlanStore
from codecascade.triton.models.base import ServedModel
from codecascade.triton.parameters import Parameters
from codecascade.triton.settings import read_server_settings
from codecascade.triton.tensors import texts
from codecascade.types import Plan


class TritonPythonModel(ServedModel):
    """Loaded by Triton. Start-up fails if the deployment or its plan file cannot be used."""

    nested = False

    def start(self, parameters: Parameters) -> None:
        path = read_server_settings().deployment
        if path is None:
            raise InvalidSetting("CODECASCADE_DEPLOYMENT is not set, it must be the path of the deployment file")
        self._deployment = load_deployment(path)
        self._plans = PlanStore(self._deployment.plans, report=pb_utils.Logger.log_error)

    async def answer(self, request: Any) -> list[Any]:
        file = self._plans.current()
        plans = {name: _entry(file, plan) for name, plan in file.plans.items() if _deployed(plan, self._deployment)}
        return [texts("plans", [json.dumps({"default": file.default, "plans": plans})])]


def _entry(file: PlanFile, plan: Plan) -> dict[str, Any]:
    return {"tiers": plan.tiers, "held_out": file.promises.get(plan.name, {}).get("held_out")}


def _deployed(plan: Plan, deployment: Deployment) -> bool:
    try:
        deployment.check(plan)
    except InvalidRequest:
        return False
    return True
