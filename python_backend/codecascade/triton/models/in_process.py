"""A tier model whose engine runs in the model's own process."""

from __future__ import annotations

from typing import Any, Protocol

from codecascade.tiers.contract import GenerateRequest, Generation
from codecascade.triton.parameters import Parameters
from codecascade.triton.serving import Serving
from codecascade.triton.tensors import Inputs
from codecascade.triton.tier_contract import read_request, write_response


class Engine(Protocol):
    """What generates in this process."""

    async def generate(self, request: GenerateRequest) -> Generation: ...

    def close(self) -> None: ...


class InProcessTier:
    """A tier model over an engine of its own; `load` makes it. Start-up fails with one sentence if it cannot."""

    def load(self, parameters: Parameters) -> Engine:
        raise NotImplementedError

    def initialize(self, args: dict[str, str]) -> None:
        parameters = Parameters(args)
        self._tier = args["model_name"]
        self._max_tokens = parameters.integer("max_completion_tokens")
        self._engine = self.load(parameters)
        self._serving = Serving(self._answer, nested=True)

    def execute(self, requests: list[Any]) -> None:
        self._serving.submit(requests)

    def finalize(self) -> None:
        self._serving.close()
        self._engine.close()

    async def _answer(self, request: Any) -> list[Any]:
        return write_response(await self._engine.generate(read_request(Inputs(request), self._tier, self._max_tokens)))
