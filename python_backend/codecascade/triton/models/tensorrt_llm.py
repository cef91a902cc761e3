"""An engine tier: the tier contract over the ensemble of a TensorRT-LLM engine.

Every sequence is one unary call of the ensemble with a seed of its own. The calls of a request have the same prompt: the engine
computes its keys and values once and reuses them (enable_kv_cache_reuse), and holds back a call whose prompt another one is
just computing.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from codecascade.errors import InvalidRequest, TierUnavailable
from codecascade.tiers.contract import GenerateRequest, Generation, sequence_seed
from codecascade.tiers.trtllm.engine_manifest import check_engine, this_machine
from codecascade.triton.calls.bls import BlsModel, CallFailed
from codecascade.triton.parameters import Parameters
from codecascade.triton.serving import Serving
from codecascade.triton.tensors import Inputs, numbers
from codecascade.triton.tier_contract import read_request, write_response
from codecascade.types import Sample

_TIMEOUT_S = 3600.0  # the caller's own is shorter: the cascade gives a tier up after its timeout_s
_OUTPUTS = ["text_output", "completion_tokens", "prompt_tokens", "finish_reason"]


class TritonPythonModel:
    """Loaded by Triton. Start-up fails with one sentence if a parameter or the engine cannot be used."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = Parameters(args)
        self._tier = args["model_name"]
        self._max_tokens = parameters.integer("max_completion_tokens")
        check_engine(Path(parameters.text("engine")), this_machine(parameters.numbers("gpu_device_ids")))
        self._engine = parameters.text("engine_model")
        self._ensemble = BlsModel(
            parameters.text("ensemble"), _OUTPUTS, _TIMEOUT_S, pulse=lambda: [_text("text_input", "")], stop=self._stop
        )
        self._serving = Serving(self._answer, nested=True)

    def execute(self, requests: list[Any]) -> None:
        self._serving.submit(requests)

    def finalize(self) -> None:
        self._serving.close()

    async def _answer(self, request: Any) -> list[Any]:
        return write_response(await self._generate(read_request(Inputs(request), self._tier, self._max_tokens)))

    async def _generate(self, request: GenerateRequest) -> Generation:
        """Raises InvalidRequest or TierUnavailable; the calls that are still under way are then stopped."""
        seeds = [sequence_seed(request.seed, sequence) for sequence in range(request.num_return_sequences)]
        calls = [asyncio.ensure_future(self._call(request, seed)) for seed in seeds]
        try:
            outputs = await asyncio.gather(*calls)
        except BaseException:
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            raise
        return Generation(tuple(map(_sample, outputs)), int(outputs[0]["prompt_tokens"].item()))

    async def _call(self, request: GenerateRequest, seed: int) -> dict[str, NDArray[Any]]:
        try:
            return await self._ensemble(lambda: _inputs(request, seed))
        except CallFailed as error:
            raise (InvalidRequest if error.invalid else TierUnavailable)(str(error)) from error

    def _stop(self, call: str) -> Any:
        """TensorRT-LLM's own way: a request with the same id and the input `stop`."""
        return pb_utils.InferenceRequest(
            request_id=call,
            model_name=self._engine,
            inputs=[
                numbers("input_ids", [[0]], np.int32),
                numbers("input_lengths", [[1]], np.int32),
                numbers("request_output_len", [[1]], np.int32),
                numbers("stop", [[True]], np.bool_),
            ],
            requested_output_names=["output_ids", "sequence_length"],
        )


def _inputs(request: GenerateRequest, seed: int) -> list[Any]:
    inputs = [
        _text("text_input", request.text_input),
        numbers("max_tokens", [[request.max_tokens]], np.int32),
        numbers("temperature", [[request.temperature]], np.float32),
        numbers("top_p", [[request.top_p]], np.float32),
        numbers("seed", [[seed]], np.uint64),
    ]
    if request.stop_words:
        words = np.array([[word.encode() for word in request.stop_words]], np.object_)
        inputs.append(numbers("stop_words", words, np.object_))
    return inputs


def _sample(outputs: dict[str, NDArray[Any]]) -> Sample:
    return Sample(
        text=outputs["text_output"].item().decode("utf-8", "replace"),
        completion_tokens=int(outputs["completion_tokens"].item()),
        finish_reason=outputs["finish_reason"].item().decode(),
    )


def _text(name: str, value: str) -> Any:
    """(1, 1) BYTES: a batch of one."""
    return numbers(name, np.array([[value.encode()]], np.object_), np.object_)
