"""A CPU tier: the tier contract over llama.cpp in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from codecascade.llama_cpp import LlamaCpp
from codecascade.triton.serving import Serving
from codecascade.triton.tensors import Inputs
from codecascade.triton.tier import Parameters, answered, asked


class TritonPythonModel:
    """Loaded by Triton. Start-up fails with one sentence if the weights or a parameter cannot be used."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = Parameters(args)
        self._tier = args["model_name"]
        self._max_tokens = parameters.positive("max_completion_tokens")
        self._engine = LlamaCpp(
            weights=Path(parameters.text("weights")),
            context_tokens=parameters.positive("context_tokens"),
            slots=parameters.positive("slots"),
        )
        self._serving = Serving(self._answer, nested=True)

    def execute(self, requests: list[Any]) -> None:
        self._serving.submit(requests)

    def finalize(self) -> None:
        self._serving.close()
        self._engine.close()

    async def _answer(self, request: Any) -> list[Any]:
        return answered(await self._engine.generate(asked(Inputs(request), self._tier, self._max_tokens)))
