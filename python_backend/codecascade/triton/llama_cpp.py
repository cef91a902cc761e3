"""A CPU tier: the tier contract over llama.cpp in this process.

Inputs, all but the first optional: text_input, max_tokens (what the tier writes at most), temperature (0: greedy),
top_p (1), seed (0), stop_words (none), num_return_sequences (1).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from codecascade.llama_cpp import LlamaCpp
from codecascade.sampling import GenerateRequest, Generation
from codecascade.triton.serving import Serving
from codecascade.triton.tensors import Inputs, numbers, texts
from codecascade.types import CascadeError

_MAX_SEQUENCES = 100  # of one call; the largest k of a plan


class TritonPythonModel:
    """Loaded by Triton. Start-up fails with one sentence if the weights or a parameter cannot be used."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        self._tier = args["model_name"]
        self._max_tokens = _positive(parameters, "max_completion_tokens")
        self._engine = LlamaCpp(
            weights=Path(_text(parameters, "weights")),
            context_tokens=_positive(parameters, "context_tokens"),
            slots=_positive(parameters, "slots"),
        )
        self._serving = Serving(self._answer, nested=True)

    def execute(self, requests: list[Any]) -> None:
        self._serving.submit(requests)

    def finalize(self) -> None:
        self._serving.close()
        self._engine.close()

    async def _answer(self, request: Any) -> list[Any]:
        return _outputs(await self._engine.generate(self._asked(Inputs(request))))

    def _asked(self, inputs: Inputs) -> GenerateRequest:
        """Raises InvalidRequest."""
        return GenerateRequest(
            tier=self._tier,
            text_input=inputs.text("text_input"),
            stop_words=inputs.texts("stop_words"),
            max_tokens=inputs.integer("max_tokens", 1, self._max_tokens, default=self._max_tokens),
            temperature=inputs.real("temperature", 0, 2, default=0.0),
            top_p=inputs.real("top_p", 0, 1, default=1.0),
            seed=inputs.integer("seed", 0, 2**64 - 1, default=0),
            num_return_sequences=inputs.integer("num_return_sequences", 1, _MAX_SEQUENCES, default=1),
        )


def _outputs(generation: Generation) -> list[Any]:
    samples = generation.samples
    return [
        texts("text_output", [sample.text for sample in samples]),
        numbers("completion_tokens", [sample.completion_tokens for sample in samples], np.int32),
        numbers("prompt_tokens", [generation.prompt_tokens], np.int32),
        texts("finish_reason", [sample.finish_reason for sample in samples]),
    ]


def _text(parameters: dict[str, Any], name: str) -> str:
    value = parameters.get(name, {}).get("string_value")
    if not value:
        raise CascadeError(f"config.pbtxt has no parameter {name}")
    return str(value)


def _positive(parameters: dict[str, Any], name: str) -> int:
    value = _text(parameters, name)
    if not value.isdecimal() or int(value) < 1:
        raise CascadeError(f"parameter {name} in config.pbtxt is {value!r}, it must be a whole number of at least 1")
    return int(value)
