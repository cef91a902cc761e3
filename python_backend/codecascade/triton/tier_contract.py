"""The tier contract on the serving side: input tensors → GenerateRequest, Generation → output tensors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from codecascade.tiers.contract import INPUTS, GenerateRequest, Generation, response_arrays
from codecascade.tiers.special_tokens import check_literal_ranges
from codecascade.triton.tensors import Inputs, tensor


def read_request(inputs: Inputs, tier: str, max_completion_tokens: int) -> GenerateRequest:
    """Raises InvalidRequest."""
    limit = max_completion_tokens
    expected = [replace(item, high=limit, default=limit) if item.name == "max_tokens" else item for item in INPUTS]
    request = GenerateRequest(tier, **{item.name: inputs.value(item) for item in expected})
    check_literal_ranges(request.text_input, request.literal_ranges)
    return request


def write_response(generation: Generation) -> list[Any]:
    """The output tensors."""
    return [tensor(name, array) for name, array in response_arrays(generation).items()]
