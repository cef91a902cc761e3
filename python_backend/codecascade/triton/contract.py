"""The tier contract as tensors, whichever way they travel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codecascade.sampling import GenerateRequest, Generation
from codecascade.types import Sample, TierUnavailable

GENERATED = ["text_output", "completion_tokens", "prompt_tokens", "finish_reason"]


def generate_inputs(request: GenerateRequest, texts: Callable[..., Any], numbers: Callable[..., Any]) -> list[Any]:
    """texts(name, values) and numbers(name, values, dtype) make the tensors."""
    return [
        texts("text_input", [request.text_input]),
        texts("stop_words", request.stop_words),
        numbers("max_tokens", [request.max_tokens], np.int32),
        numbers("temperature", [request.temperature], np.float32),
        numbers("top_p", [request.top_p], np.float32),
        numbers("seed", [request.seed], np.uint64),
        numbers("num_return_sequences", [request.num_return_sequences], np.int32),
    ]


def generation(request: GenerateRequest, outputs: dict[str, NDArray[Any]]) -> Generation:
    """outputs: the tensors GENERATED, by name. Raises TierUnavailable for another number of sequences than was asked for."""
    rows = zip(*(outputs[name].reshape(-1) for name in ("text_output", "completion_tokens", "finish_reason")), strict=False)
    samples = tuple(Sample(text.decode("utf-8", "replace"), int(tokens), reason.decode()) for text, tokens, reason in rows)
    if len(samples) != request.num_return_sequences:
        raise TierUnavailable(f"tier {request.tier}: {len(samples)} sequences, asked for {request.num_return_sequences}")
    return Generation(samples, int(outputs["prompt_tokens"].reshape(-1)[0]))
