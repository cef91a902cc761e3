"""The last model of an engine tier's ensemble: what TensorRT-LLM wrote becomes a text, its tokens and why it ended.

Log-probabilities are of all tokens that count: the stop word's and the end token too, as with llama.cpp.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from codecascade.tiers.contract import SEQUENCE_OUTPUTS, Generation, response_arrays
from codecascade.tiers.trtllm.tokenizer import load_tokenizer
from codecascade.tiers.trtllm.tokens import completion, sequences_of
from codecascade.triton.models.base import ServedModel
from codecascade.triton.parameters import Parameters
from codecascade.triton.tensors import Inputs, tensor
from codecascade.types import LogProbs


class TritonPythonModel(ServedModel):
    """Loaded by Triton. Start-up fails if the tokenizer or a parameter cannot be used."""

    def start(self, parameters: Parameters) -> None:
        self._tokenizer = load_tokenizer(Path(parameters.text("tokenizer")), parameters.texts("end_tokens"))

    async def answer(self, request: Any) -> list[Any]:
        inputs = Inputs(request)
        written = int(inputs.array("sequence_length").reshape(-1)[0])
        sample = completion(
            self._tokenizer,
            inputs.array("output_ids").reshape(-1)[:written].tolist(),
            limit=int(inputs.array("request_output_len").reshape(-1)[0]),
            stop_words=inputs.texts("stop_words"),
            sequences=sequences_of(inputs.array("stop_words_list").reshape(2, -1)),
        )
        sample = replace(sample, log_probs=LogProbs.of(inputs.reals("output_log_probs")))
        arrays = response_arrays(Generation((sample,), int(inputs.array("input_lengths").item())))
        return [tensor(output.name, arrays[output.name].reshape(1, 1)) for output in SEQUENCE_OUTPUTS]  # a batch of one
