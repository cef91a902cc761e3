"""The `plans` model: which plans the cascade can run now, and what each promises."""

from __future__ import annotations

import json
from typing import Any

import triton_python_backend_utils as pb_utils

from codecascade.deployment import load_deployment
from codecascade.errors import InvalidSetting
from codecascade.plans import PlanStore
from codecascade.triton.models.base import ServedModel
from codecascade.triton.parameters import Parameters
from codecascade.triton.settings import read_server_settings
from codecascade.triton.tensors import texts


class TritonPythonModel(ServedModel):
    """Loaded by Triton. Start-up fails if the deployment or its plan file cannot be used."""

    nested = False

    def start(self, parameters: Parameters) -> None:
        path = read_server_settings().deployment
        if path is None:
            raise InvalidSetting("CODECASCADE_DEPLOYMENT is not set, it must be the path of the deployment file")
        deployment = load_deployment(path)
        self._plans = PlanStore(deployment.plans, report=pb_utils.Logger.log_error, check=deployment.check_plans)

    async def answer(self, request: Any) -> list[Any]:
        file = self._plans.current()
        promised = {name: promise["held_out"] for name, promise in file.promises.items()}
        plans = {name: {"tiers": plan.tiers, "held_out": promised.get(name)} for name, plan in file.plans.items()}
        return [texts("plans", [json.dumps({"default": file.default, "plans": plans})])]
