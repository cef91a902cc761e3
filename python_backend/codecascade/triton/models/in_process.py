"""A tier model whose engine runs in the model's own process."""

from __future__ import annotations

from typing import Any, Protocol

from codecascade.tiers.contract import GenerateRequest, Generation
from codecascade.triton.models.base import ServedModel
from codecascade.triton.parameters import Parameters
from codecascade.triton.tensors import Inputs
from codecascade.triton.tier_contract import read_request, write_response


class Engine(Protocol):
    """What generates in this process."""

    async def generate(self, request: GenerateRequest) -> Generation: ...

    def close(self) -> None: ...


class InProcessTier(ServedModel):
    """A tier model over an engine of its own, which `load` makes."""

    guarded = True

    def load(self, parameters: Parameters) -> Engine:
        raise NotImplementedError

    def start(self, parameters: Parameters) -> None:
        self._max_tokens = parameters.integer("max_completion_tokens")
        self._engine = self.load(parameters)

    async def answer(self, request: Any) -> list[Any]:
        asked = read_request(Inputs(request), self.name, self._max_tokens)
        del request  # gives back its shared memory, which Triton never makes smaller again
        return write_response(await self._engine.generate(asked))

    async def stop(self) -> None:
        self._engine.close()
