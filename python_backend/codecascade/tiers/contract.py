"""The tier contract: what every tier is asked and what it answers, whatever runs it."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from codecascade.types import Sample

_RANDOM_SEED = 0xFFFFFFFF  # what llama.cpp takes for "choose one"


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One call of the tier contract. max_lines: of each text; None: as many as the model writes."""

    tier: str
    text_input: str
    stop_words: tuple[str, ...]
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    num_return_sequences: int
    max_lines: int | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """samples: one per sequence. prompt_tokens: of the one prompt they share."""

    samples: tuple[Sample, ...]
    prompt_tokens: int


Generate = Callable[[GenerateRequest], Awaitable[Generation]]


def sequence_seed(seed: int, sequence: int) -> int:
    """The seed of one sequence of a call, the same for every runtime: 32 bits, and never the one that means "choose one"."""
    digest = hashlib.blake2b(f"{seed}/{sequence}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % _RANDOM_SEED
