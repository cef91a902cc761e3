"""Calls a tier as the contract's table describes it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from codecascade.tiers.contract import INPUTS, OUTPUTS
from codecascade.triton.calls.remote import infer_inputs
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

_INPUTS = {tensor.name: tensor for tensor in INPUTS}

Answer = dict[str, list[Any]]
"""Output name → elements."""


def arrays_of(**values: Any) -> dict[str, NDArray[Any]]:
    """A list becomes a vector, anything else a scalar of shape (1,). Bytes are sent as they are."""
    arrays = {}
    for name, value in values.items():
        elements = value if isinstance(value, list) else [value]
        if any(isinstance(element, bytes) for element in elements):
            arrays[name] = np.array(elements, np.object_)
        else:
            arrays[name] = _INPUTS[name].array(elements)
    return arrays


def inputs(**values: Any) -> list[InferInput]:
    return infer_inputs(arrays_of(**values))


def generate(client: InferenceServerClient, tier: str, **values: Any) -> Answer:
    result = client.infer(tier, inputs(**values))
    return {output.name: result.as_numpy(output.name).tolist() for output in OUTPUTS}


def refusal(client: InferenceServerClient, tier: str, tensors: list[InferInput]) -> str:
    """The sentence of an INVALID_ARGUMENT."""
    with pytest.raises(InferenceServerException) as raised:
        client.infer(tier, tensors)
    assert raised.value.status() == "StatusCode.INVALID_ARGUMENT"
    return str(raised.value.message())
