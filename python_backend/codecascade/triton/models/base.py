"""What every Python model here has in common: Triton's three calls, over a background loop that answers requests."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

from codecascade.triton.metrics import Family, Gauges, flush_forever
from codecascade.triton.parameters import Parameters
from codecascade.triton.serving import Serving


class ServedModel:
    """A model is `start`, `answer` and, where it holds something, `stop`. An error of `start` fails the start-up."""

    nested: ClassVar[bool] = True
    """Other models call this one (see Serving)."""
    guarded: ClassVar[bool] = False
    """Only other models of ours, and tools that know the token, may call this one (see Serving)."""

    def start(self, parameters: Parameters) -> None:
        """Make what the model needs. `name` and `serving` are there."""
        raise NotImplementedError

    async def answer(self, request: Any) -> list[Any]:
        """The output tensors. Raises CascadeError."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Give back what `start` made. Runs on the serving loop, after every answer has ended."""

    def count(self, families: Sequence[Family]) -> None:
        """Hand metrics to Triton from now on. Once: make all of them before."""
        in_flight = Gauges(
            "codecascade_requests_in_flight",
            "Requests that a model is working on",
            ["model"],
            lambda: {(self.name,): self.serving.door.in_flight},
        )
        self._flushing = asyncio.run_coroutine_threadsafe(flush_forever([*families, in_flight]), self.serving.loop)

    def initialize(self, args: dict[str, str]) -> None:
        self.name = args["model_name"]
        self.serving = Serving(self.answer, nested=self.nested, guarded=self.guarded)
        self.start(Parameters(args))

    def execute(self, requests: list[Any]) -> None:
        self.serving.submit(requests)

    def finalize(self) -> None:
        self.serving.close(self.stop())
