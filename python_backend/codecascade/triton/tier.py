"""The tier contract, as every tier model reads it and answers it.

Inputs, all but the first optional: text_input, max_tokens (what the tier writes at most), temperature (0: greedy),
top_p (1), seed (0), stop_words (none), num_return_sequences (1), max_lines (no limit). A tier that cannot end a text at a line
writes on: its line_tokens say that fewer lines would have cost as much.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from codecascade.sampling import GenerateRequest, Generation
from codecascade.triton.contract import lines_of
from codecascade.triton.tensors import Inputs, numbers, texts
from codecascade.types import CascadeError, Sample

_MAX_SEQUENCES = 100  # of one call; the largest k of a plan


class Parameters:
    """The parameters in a model's config.pbtxt. A missing or unusable one is a CascadeError that names it."""

    def __init__(self, args: dict[str, str]) -> None:
        self._values = json.loads(args["model_config"])["parameters"]

    def text(self, name: str) -> str:
        value = self._values.get(name, {}).get("string_value")
        if not value:
            raise CascadeError(f"config.pbtxt has no parameter {name}")
        return str(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A JSON list of texts."""
        value = self.text(name)
        try:
            found = json.loads(value)
        except ValueError:
            found = None
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise CascadeError(f"parameter {name} in config.pbtxt is {value!r}, it must be a JSON list of texts")
        return tuple(found)

    def positive(self, name: str) -> int:
        value = self.text(name)
        if not value.isdecimal() or int(value) < 1:
            raise CascadeError(f"parameter {name} in config.pbtxt is {value!r}, it must be a whole number of at least 1")
        return int(value)

    def share(self, name: str) -> float:
        """A number above 0, of 1."""
        value = self.text(name)
        try:
            found = float(value)
        except ValueError:
            found = 0.0
        if not 0 < found <= 1:
            raise CascadeError(f"parameter {name} in config.pbtxt is {value!r}, it must be a number above 0 and at most 1")
        return found

    def numbers(self, name: str) -> tuple[int, ...]:
        """Whole numbers from 0 on, with commas between them."""
        value = self.text(name)
        if not all(each.isdecimal() for each in value.split(",")):
            raise CascadeError(f"parameter {name} in config.pbtxt is {value!r}, it must be whole numbers with commas between")
        return tuple(int(each) for each in value.split(","))


def asked(inputs: Inputs, tier: str, max_completion_tokens: int) -> GenerateRequest:
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


def answered(generation: Generation) -> list[Any]:
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
