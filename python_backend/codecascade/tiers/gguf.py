"""Reads the vocabulary of a GGUF file, of version 2 or 3: the tokens' texts and kinds, which the file's header holds.

llama.cpp has no call for them where it runs in this process.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codecascade.tiers.trtllm.tokens import byte_characters

_SPECIAL_KINDS = (2, 3, 4)  # unknown, control, user-defined: what llama.cpp looks for in a text before anything else
_MODEL, _TOKENS, _KINDS = "tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of a model."""

    special: tuple[str, ...]
    """The names of those that are found in a text before it is split into others."""
    ids: Mapping[str, int]
    """Text → id, of single characters and bytes. A byte-level vocabulary writes every byte as one character."""
    byte_level: bool

    def character_ids(self, character: str) -> list[int]:
        """The ids of one character of a text: its own, or those of its bytes."""
        if self.byte_level:
            return [self.ids[_BYTES[byte]] for byte in character.encode()]
        own = self.ids.get(character)
        return [own] if own is not None else [self.ids[f"<0x{byte:02X}>"] for byte in character.encode()]


_BYTES = byte_characters()


def read_vocabulary(weights: Path) -> Vocabulary:
    """Raises ValueError or struct.error if the file is no such GGUF."""
    with weights.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        values = _Header(content).values((_MODEL, _TOKENS, _KINDS))
    tokens: Sequence[str] = values[_TOKENS]
    kinds: Sequence[int] = values.get(_KINDS, [1] * len(tokens))
    special = (token for token, kind in zip(tokens, kinds, strict=True) if kind in _SPECIAL_KINDS)
    ids = {token: number for number, token in enumerate(tokens) if len(token) == 1 or token.startswith("<0x")}
    return Vocabulary(tuple(special), ids, byte_level=values[_MODEL] == "gpt2")


class _Header:
    """Reads from front to back."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content, self._at = content, len(b"GGUF")

    def values(self, wanted: Sequence[str]) -> dict[str, Any]:
        version, _, count = self._number("I"), self._number("Q"), self._number("Q")
        if version not in (2, 3):
            raise ValueError(f"the GGUF version is {version}, must be 2 or 3")
        found: dict[str, Any] = {}
        for _ in range(count):
            key = self._text()
            value = self._value(self._number("I"))
            if key in wanted:
                found[key] = value
            if len(found) == len(wanted):
                break
        return found

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            return self._number(_NUMBERS[kind])
        kind, length = self._number("I"), self._number("Q")
        if kind in _NUMBERS:
            return self._numbers(_NUMBERS[kind], length)
        return [self._value(kind) for _ in range(length)]

    def _text(self) -> str:
        start = self._at + 8
        self._at = start + self._number("Q")
        return self._content[start : self._at].decode("utf-8", "replace")

    def _number(self, kind: str) -> Any:
        return self._numbers(kind, 1)[0]

    def _numbers(self, kind: str, length: int) -> tuple[Any, ...]:
        read = struct.unpack_from(f"<{length}{kind}", self._content, self._at)
        self._at += struct.calcsize(f"<{length}{kind}")
        return read
