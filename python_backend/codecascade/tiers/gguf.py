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
_LENGTH = struct.Struct("<Q")  # of a string


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of a model."""

    special: tuple[str, ...]
    """The names of those that are found in a text before it is split into others, or end one."""
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
        values = _values(content)
    tokens: Sequence[str] = values[_TOKENS]
    kinds: Sequence[int] = values.get(_KINDS, [1] * len(tokens))
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind in _SPECIAL_KINDS]
    special += [tokens[value] for key, value in values.items() if key.endswith("_token_id") and value < len(tokens)]
    ids = {token: number for number, token in enumerate(tokens) if len(token) == 1 or token.startswith("<0x")}
    return Vocabulary(tuple(dict.fromkeys(special)), ids, byte_level=values[_MODEL] == "gpt2")


def _values(content: mmap.mmap) -> dict[str, Any]:
    """What the header says, by key."""
    header = _Header(content)
    version, _, count = header.number("I"), header.number("Q"), header.number("Q")
    if version not in (2, 3):
        raise ValueError(f"the GGUF version is {version}, must be 2 or 3")
    return {header.text(): header.value(header.number("I")) for _ in range(count)}


class _Header:
    """Reads from front to back."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content, self._at = content, len(b"GGUF")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.number(_NUMBERS[kind])
        kind, length = self.number("I"), self.number("Q")
        if kind in _NUMBERS:
            return self._numbers(_NUMBERS[kind], length)
        return [self.text() if kind == _STRING else self.value(kind) for _ in range(length)]

    def text(self) -> str:
        start = self._at + _LENGTH.size
        self._at = start + _LENGTH.unpack_from(self._content, self._at)[0]
        return self._content[start : self._at].decode("utf-8", "replace")

    def number(self, kind: str) -> Any:
        return self._numbers(kind, 1)[0]

    def _numbers(self, kind: str, length: int) -> tuple[Any, ...]:
        read = struct.unpack_from(f"<{length}{kind}", self._content, self._at)
        self._at += struct.calcsize(f"<{length}{kind}")
        return read
