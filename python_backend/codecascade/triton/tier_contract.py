"""The tier contract, as every tier model reads it and answers it.

Inputs, all but the first optional: text_input, max_tokens (what the tier writes at most), temperature (0: greedy),
top_p (1), seed (0), stop_words (none), num_return_sequences (1), max_lines (no limit). A tier that cannot end a text at a line
writes on: its line_tokens say that fewer lines would have cost as much.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codecascade.errors import TierUnavailable
from codecascade.tiers.contract import GenerateRequest, Generation
from codecascade.triton.tensors import Inputs, numbers, texts
from codecascade.types import Sample

_MAX_SEQUENCES = 100  # of one call; the largest k of a plan


def read_request(inputs: Inputs, tier: str, max_completion_tokens: int) -> GenerateRequest:
    """Raises InvalidRequest."""
    return GenerateRequest(
        tier=tier,
        text_input=inputs.text("text_input"),
        stop_words=inputs.texts("stop_words"),
        max_tokens=inputs.integer("max_tokens", 1, max_completion_tokens, default=max_completion_tokens),
        temperature=inputs.real("temperature", 0, 2, default=0.0),
        top_p=inputs.real("top_p", 0, 1, default=1.0),
        seed=inputs.integer("seed", 0, 2**64 - 1, default=0),
        num_return_sequences=inputs.integer("num_return_sequences", 1, _MAX_SEQUENCES, default=1),
        max_lines=inputs.integer("max_lines", 1, 2**31 - 1, default=None),
    )


def write_response(generation: Generation) -> list[Any]:
    """The output tensors."""
    samples = generation.samples
    return [
        texts("text_output", [sample.text for sample in samples]),
        numbers("completion_tokens", [sample.completion_tokens for sample in samples], np.int32),
        numbers("line_tokens", [tokens for sample in samples for tokens in _line_tokens(sample)], np.int32),
        numbers("prompt_tokens", [generation.prompt_tokens], np.int32),
        texts("finish_reason", [sample.finish_reason for sample in samples]),
    ]


def _line_tokens(sample: Sample) -> Sequence[int]:
    return sample.line_tokens or (sample.completion_tokens,) * lines_of(sample.text)


REFUSAL = "invalid request: "


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
