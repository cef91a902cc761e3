"""Reads the tokenizer in a checkpoint's folder with transformers. Needs no network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from codecascade.errors import TierUnavailable
from codecascade.tiers.special_tokens import SpecialTokens
from codecascade.tiers.trtllm.tokens import AddedToken, Tokenizer, UnknownTokenizer, pieces


def load_tokenizer(folder: Path, end_tokens: Sequence[str]) -> Tokenizer:
    """end_tokens: from the recipe. Raises TierUnavailable, naming the folder and what is wrong with it."""
    if not folder.is_dir():
        raise TierUnavailable(f"the tokenizer's folder {folder} does not exist")
    try:
        loaded = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, use_fast=True)
        return tokenizer_of(loaded, end_tokens)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise TierUnavailable(f"the tokenizer in {folder} cannot be used: {reason}") from error


def tokenizer_of(loaded: Any, end_tokens: Sequence[str]) -> Tokenizer:
    if not loaded.is_fast:
        raise UnknownTokenizer(f"{type(loaded).__name__} is not a fast tokenizer")
    vocabulary = loaded.get_vocab()
    absent = [token for token in end_tokens if token not in vocabulary]
    if absent:
        raise UnknownTokenizer(f"it has no token {absent[0]!r}, which the recipe names as an end token")
    ends = tuple(vocabulary[token] for token in end_tokens)
    added = {token_id: AddedToken(token.content, token.special) for token_id, token in loaded.added_tokens_decoder.items()}
    decoder = loaded.backend_tokenizer.decoder
    kinds = frozenset(_kinds(json.loads(decoder.__getstate__()))) if decoder else frozenset()
    return Tokenizer(
        encode=loaded.encode,
        encode_on=partial(loaded.encode, add_special_tokens=False),
        pieces=pieces(vocabulary, added, kinds, ends),
        end_ids=ends,
        special=SpecialTokens([*(token.content for token in added.values()), *end_tokens]),
    )


def _kinds(decoder: dict[str, Any]) -> Iterator[str]:
    yield decoder["type"]
    for part in decoder.get("decoders", ()):
        yield from _kinds(part)
