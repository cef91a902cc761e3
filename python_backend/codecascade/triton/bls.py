"""Tiers and sandbox as nested calls (BLS) to other models of the same Triton."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from codecascade.deployment import Deployment
from codecascade.sampling import GenerateRequest, Generation
from codecascade.triton.serving import REFUSAL
from codecascade.triton.tensors import numbers, texts
from codecascade.types import (
    Candidate,
    InvalidRequest,
    Sample,
    SandboxUnavailable,
    TestLine,
    TierUnavailable,
    VerdictMatrix,
)

CALLS_IN_FLIGHT = 256  # nested calls to one model; each holds a thread while it waits
PULSE_S = 5.0  # how often a tier that is being waited for is asked whether it still lives
_DEAD = "its process has ended"
_GENERATED = ["text_output", "completion_tokens", "prompt_tokens", "finish_reason"]


class CallFailed(Exception):
    """A nested call was answered with an error. invalid: the request was to blame. dead: the model's process has ended."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence.removeprefix(REFUSAL))
        self.invalid = sentence.startswith(REFUSAL)
        self.dead = sentence == _DEAD


class BlsModel:
    """One model of this Triton. Its threads are its own: a model that hangs cannot starve the calls to the others."""

    def __init__(self, name: str, outputs: Sequence[str]) -> None:
        self._name = name
        self._outputs = list(outputs)
        self._threads = ThreadPoolExecutor(CALLS_IN_FLIGHT, thread_name_prefix=name)

    async def __call__(self, inputs: list[Any]) -> dict[str, NDArray[Any]]:
        """Output tensors by name. Raises CallFailed."""
        request = pb_utils.InferenceRequest(model_name=self._name, inputs=inputs, requested_output_names=self._outputs)
        try:
            response = await asyncio.get_running_loop().run_in_executor(self._threads, request.exec)
        except pb_utils.TritonModelException as error:
            raise CallFailed(_sentence(error)) from error
        if response.has_error():
            raise CallFailed(_sentence(response.error().message()))
        return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}


class BlsTiers:
    """`generate` of every tier of a deployment.

    A model whose process dies never answers the calls that it had under way, and Triton does not say so; it only refuses
    new calls. So while a tier is waited for, an empty prompt, which it refuses, shows that it still lives.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._timeouts_s = {name: tier.timeout_s for name, tier in deployment.tiers.items()}
        self._models = {name: BlsModel(name, _GENERATED) for name in deployment.tiers}
        self._asked_s = dict.fromkeys(deployment.tiers, 0.0)

    async def generate(self, request: GenerateRequest) -> Generation:
        """Raises TierUnavailable, or InvalidRequest when the tier refuses the request."""
        timeout_s = self._timeouts_s[request.tier]
        try:
            outputs = await asyncio.wait_for(self._while_alive(request), timeout_s)
        except asyncio.TimeoutError:
            raise TierUnavailable(f"tier {request.tier}: no answer within {timeout_s:g} s") from None
        except CallFailed as error:
            kind = InvalidRequest if error.invalid else TierUnavailable
            raise kind(f"tier {request.tier}: {error}") from error
        return _generation(request, outputs)

    async def _while_alive(self, request: GenerateRequest) -> dict[str, NDArray[Any]]:
        call = asyncio.ensure_future(self._models[request.tier](_generate_inputs(request)))
        try:
            while not (await asyncio.wait({call}, timeout=PULSE_S))[0]:
                await self._check_alive(request.tier)
        finally:
            call.cancel()
        return call.result()

    async def _check_alive(self, tier: str) -> None:
        """Raises CallFailed. All calls to a tier together ask once in PULSE_S."""
        now = time.monotonic()
        if now - self._asked_s[tier] < PULSE_S:
            return
        self._asked_s[tier] = now
        try:
            await self._models[tier]([texts("text_input", [""])])
        except CallFailed as error:
            if error.dead:
                self._asked_s[tier] = 0.0
                raise


class BlsSandbox:
    """The `sandbox` model."""

    def __init__(self, model: str = "sandbox") -> None:
        self._model = BlsModel(model, ["verdicts", "cpu_s"])

    async def run(self, candidates: Sequence[Candidate], test_lines: Sequence[TestLine]) -> VerdictMatrix:
        """Raises SandboxUnavailable."""
        inputs = [
            texts("candidates", [candidate.source for candidate in candidates]),
            texts("test_lines", [line.source for line in test_lines]),
        ]
        try:
            outputs = await self._model(inputs)
        except CallFailed as error:
            raise SandboxUnavailable(str(error)) from error
        matrix = VerdictMatrix(outputs["verdicts"], outputs["cpu_s"])
        if matrix.verdicts.shape != (len(candidates), len(test_lines)):
            raise SandboxUnavailable(f"verdicts of shape {matrix.verdicts.shape} for {len(candidates)} × {len(test_lines)}")
        return matrix


def _generate_inputs(request: GenerateRequest) -> list[Any]:
    return [
        texts("text_input", [request.text_input]),
        texts("stop_words", request.stop_words),
        numbers("max_tokens", [request.max_tokens], np.int32),
        numbers("temperature", [request.temperature], np.float32),
        numbers("top_p", [request.top_p], np.float32),
        numbers("seed", [request.seed], np.uint64),
        numbers("num_return_sequences", [request.num_return_sequences], np.int32),
    ]


def _generation(request: GenerateRequest, outputs: dict[str, NDArray[Any]]) -> Generation:
    rows = zip(*(outputs[name].reshape(-1) for name in ("text_output", "completion_tokens", "finish_reason")), strict=False)
    samples = tuple(Sample(text.decode("utf-8", "replace"), int(tokens), reason.decode()) for text, tokens, reason in rows)
    if len(samples) != request.num_return_sequences:
        raise TierUnavailable(f"tier {request.tier}: {len(samples)} sequences, asked for {request.num_return_sequences}")
    return Generation(samples, int(outputs["prompt_tokens"].reshape(-1)[0]))


def _sentence(error: Any) -> str:
    """The first line of an error: the rest is a traceback, which the failing model has logged."""
    line = str(error).strip().split("\n", 1)[0]
    return _DEAD if line.startswith("Stub process") else line
