"""The tier contract as tensors, whichever way they travel."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codecascade.sampling import GenerateRequest, Generation
from codecascade.types import Sample, TierUnavailable

GENERATED = ["text_output", "completion_tokens", "line_tokens", "prompt_tokens", "finish_reason"]


def generate_inputs(request: GenerateRequest, texts: Callable[..., Any], numbers: Callable[..., Any]) -> list[Any]:
    """texts(name, values) and numbers(name, values, dtype) make the tensors."""
    inputs = [
        texts("text_input", [request.text_input]),
        texts("stop_words", request.stop_words),
        numbers("max_tokens", [request.max_tokens], np.int32),
        numbers("temperature", [request.temperature], np.float32),
        numbers("top_p", [request.top_p], np.float32),
        numbers("seed", [request.seed], np.uint64),
        numbers("num_return_sequences", [request.num_return_sequences], np.int32),
    ]
    if request.max_lines is not None:
        inputs.append(numbers("max_lines", [request.max_lines], np.int32))
    return inputs


def generation(request: GenerateRequest, outputs: dict[str, NDArray[Any]]) -> Generation:
    """outputs: the tensors GENERATED, by name.

    Raises TierUnavailable for another number of sequences than was asked for, or of line_tokens than there are lines.
    """
    texts = [text.decode("utf-8", "replace") for text in outputs["text_output"].reshape(-1)]
    if len(texts) != request.num_return_sequences:
        raise TierUnavailable(f"tier {request.tier}: {len(texts)} sequences, asked for {request.num_return_sequences}")
    ends = list(itertools.accumulate(map(lines_of, texts), initial=0))
    line_tokens = outputs["line_tokens"].reshape(-1).tolist()
    if len(line_tokens) != ends[-1]:
        raise TierUnavailable(f"tier {request.tier}: {len(line_tokens)} line_tokens for {ends[-1]} lines")
    rows = zip(texts, outputs["completion_tokens"].reshape(-1), outputs["finish_reason"].reshape(-1), strict=True)
    samples = tuple(
        Sample(text, int(tokens), reason.decode(), tuple(line_tokens[start:end]))
        for (text, tokens, reason), (start, end) in zip(rows, itertools.pairwise(ends), strict=True)
    )
    return Generation(samples, int(outputs["prompt_tokens"].reshape(-1)[0]))


def lines_of(text: str) -> int:
    """The lines that `line_tokens` counts; a text has one at least."""
    return text.count("\n") + 1
