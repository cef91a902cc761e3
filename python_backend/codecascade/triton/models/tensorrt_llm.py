"""An engine tier: the tier contract over the ensemble of a TensorRT-LLM engine.

Every sequence is one unary call of the ensemble, with a seed of its own. The calls of a request share their prompt: the engine
computes its keys and values once (enable_kv_cache_reuse), and holds back a call while another one computes the same prompt.

An ensemble answers once a sequence is whole. So a sequence cannot be ended at a line: max_lines has no effect, and line_tokens
tell what the whole sequence cost.

An engine computes log-probabilities only for a caller that asks for one of their outputs. It applies the request's temperature
before it computes them, so they are at temperature 1 for greedy sequences alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from codecascade.errors import InvalidRequest, TierUnavailable
from codecascade.tiers.contract import (
    LOG_PROB_OUTPUTS,
    RETURN_LOG_PROBS,
    SEQUENCE_INPUTS,
    SEQUENCE_OUTPUTS,
    GenerateRequest,
    Generation,
    read_generation,
    request_arrays,
)
from codecascade.tiers.trtllm.engine_manifest import check_engine, this_machine
from codecascade.triton.calls.bls import BlsModel
from codecascade.triton.calls.failures import CallFailed
from codecascade.triton.models.base import ServedModel
from codecascade.triton.parameters import Parameters
from codecascade.triton.tensors import Inputs, numbers
from codecascade.triton.tier_contract import read_request, write_response

_TIMEOUT_S = 3600.0  # the caller's is shorter: the cascade gives up after the tier's timeout_s
_EMPTY = np.array([b""], np.object_)


class TritonPythonModel(ServedModel):
    """Loaded by Triton. Start-up fails if a parameter or the engine cannot be used."""

    guarded = True

    def start(self, parameters: Parameters) -> None:
        self._max_tokens = parameters.integer("max_completion_tokens")
        check_engine(Path(parameters.text("engine")), this_machine(parameters.numbers("gpu_device_ids")))
        self._engine = parameters.text("engine_model")
        outputs = [output.name for output in SEQUENCE_OUTPUTS]
        self._ensemble = BlsModel(
            parameters.text("ensemble"), outputs, _TIMEOUT_S, pulse=_batches_of_one({"text_input": _EMPTY}), stop=self._stop
        )

    async def answer(self, request: Any) -> list[Any]:
        log_probs = not LOG_PROB_OUTPUTS.isdisjoint(request.requested_output_names())
        asked = read_request(Inputs(request), self.name, self._max_tokens)
        del request  # gives back its shared memory, which Triton never makes smaller again
        return write_response(await self._generate(asked, log_probs))

    async def _generate(self, request: GenerateRequest, log_probs: bool) -> Generation:
        """Raises InvalidRequest or TierUnavailable, and stops the calls that are still under way."""
        sequences = [replace(request, seed=seed, num_return_sequences=1, first_sequence=None) for seed in request.seeds]
        calls = [asyncio.ensure_future(self._sequence(sequence, log_probs)) for sequence in sequences]
        try:
            generations = await asyncio.gather(*calls)
        except BaseException:
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            raise
        samples = tuple(sample for generation in generations for sample in generation.samples)
        return Generation(samples, generations[0].prompt_tokens)

    async def _sequence(self, request: GenerateRequest, log_probs: bool) -> Generation:
        try:
            return read_generation(request, await self._ensemble(_inputs(request, log_probs)))
        except CallFailed as error:
            raise (InvalidRequest if error.refused else TierUnavailable)(str(error)) from error

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


def _inputs(request: GenerateRequest, log_probs: bool) -> dict[str, NDArray[Any]]:
    arrays = request_arrays(request)
    asked = {expected.name: arrays[expected.name] for expected in SEQUENCE_INPUTS if expected.name in arrays}
    return _batches_of_one({**asked, RETURN_LOG_PROBS.name: RETURN_LOG_PROBS.array([log_probs])})


def _batches_of_one(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: array[np.newaxis] for name, array in arrays.items()}
