"""What a server answers, as values."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc import service_pb2


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer of the cascade."""

    text: str
    """The prompt as it was given, with what was inserted."""
    tier: str
    """That answered."""
    score: float
    """0…1; 0 if nothing was tested."""
    cost_usd: float
    trace: dict[str, Any] | None = None
    """None unless it was asked for."""
    inserted: str = ""
    """What was inserted alone: at the prompt's end, its hole, or the cursor."""
    finish_reason: str = "stop"
    """stop; length: the token limit cut the answer; deadline, max_cost or overloaded: one of these ended the search for it."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened while the cascade works."""

    name: str
    """started, candidate, evidence, decision or final."""
    fields: Mapping[str, Any]
    """What the server says about it."""
    completion: Completion | None = None
    """The answer: of the final event alone."""


@dataclass(frozen=True, slots=True)
class Plans:
    """The plans that a server can run."""

    default: str
    plans: Mapping[str, Mapping[str, Any]]
    """By name: its `tiers`, and `held_out`, what its search promises of it; null for a plan written by hand."""


@dataclass(frozen=True, slots=True)
class Health:
    live: bool
    """Whether the server answers."""
    ready: bool
    """Whether the cascade takes requests."""
    models: Mapping[str, bool]
    """Name → whether it is ready."""


def outputs(response: service_pb2.ModelInferResponse) -> dict[str, bytes]:
    """Output tensors by name, each as its bytes; of one text: the text."""
    tensors = zip(response.outputs, response.raw_output_contents, strict=True)
    return {tensor.name: raw[4:] if tensor.datatype == "BYTES" else raw for tensor, raw in tensors}


def read_completion(response: service_pb2.ModelInferResponse) -> Completion:
    raw = outputs(response)
    (score,), (cost,) = struct.unpack("<f", raw["score"]), struct.unpack("<d", raw["cost"])
    trace = json.loads(raw["trace"]) if raw["trace"] else None
    text, tier, inserted, ended = (raw[name].decode() for name in ("completion", "tier", "inserted", "finish_reason"))
    return Completion(text, tier, score, cost, trace, inserted, ended)


def read_event(response: service_pb2.ModelInferResponse) -> Event:
    fields = json.loads(outputs(response)["event"])
    name = fields.pop("event")
    return Event(name, fields, _completion(fields) if name == "final" else None)


def read_plans(response: service_pb2.ModelInferResponse) -> Plans:
    return Plans(**json.loads(outputs(response)["plans"]))


def _completion(fields: Mapping[str, Any]) -> Completion:
    return Completion(
        fields["completion"],
        fields["tier"],
        fields["score"],
        fields["cost"],
        fields.get("trace") or None,
        fields["inserted"],
        fields["finish_reason"],
    )
