"""The last model of an engine tier's ensemble: what TensorRT-LLM wrote becomes a text, its tokens and why it ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from codecascade.tiers.trtllm.tokenizer import load_tokenizer
from codecascade.tiers.trtllm.tokens import completion, sequences_of
from codecascade.triton.parameters import Parameters
from codecascade.triton.serving import Serving
from codecascade.triton.tensors import Inputs, numbers


class TritonPythonModel:
    """Loaded by Triton. Start-up fails with one sentence if the tokenizer or a parameter cannot be used."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = Parameters(args)
        self._tokenizer = load_tokenizer(Path(parameters.text("tokenizer")), parameters.texts("end_tokens"))
        self._serving = Serving(self._answer, nested=True)

    def execute(self, requests: list[Any]) -> None:
        self._serving.submit(requests)

    def finalize(self) -> None:
        self._serving.close()

    async def _answer(self, request: Any) -> list[Any]:
        inputs = Inputs(request)
        written = int(inputs.array("sequence_length").reshape(-1)[0])
        sample = completion(
            self._tokenizer,
            inputs.array("output_ids").reshape(-1)[:written].tolist(),
            limit=int(inputs.array("request_output_len").reshape(-1)[0]),
            stop_words=inputs.texts("stop_words"),
            sequences=sequences_of(inputs.array("stop_words_list").reshape(2, -1)),
        )
        return [
            _text("text_output", sample.text),
            numbers("completion_tokens", [[sample.completion_tokens]], np.int32),
            numbers("prompt_tokens", inputs.array("input_lengths").reshape(1, 1), np.int32),
            _text("finish_reason", sample.finish_reason),
        ]


def _text(name: str, value: str) -> Any:
    """(1, 1) BYTES: a batch of one."""
    return numbers(name, np.array([[value.encode()]], np.object_), np.object_)
