"""The vocabulary of a GGUF file, from headers written here by the format's own description."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from codecascade.tiers.gguf import read_vocabulary

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def texts(values: list[str]) -> bytes:
    return struct.pack("<IQ", 8, len(values)) + b"".join(map(text, values))


def numbers(values: list[int]) -> bytes:
    return struct.pack(f"<IQ{len(values)}i", 5, len(values), *values)


def entry(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def gguf(path: Path, model: str, tokens: dict[str, int], version: int = 3, named: dict[str, int] | None = None) -> Path:
    """A file with keys of other kinds around those of the vocabulary."""
    nested = struct.pack("<IQ", 9, 2) + texts(["a", "b"]) + numbers([1, 2, 3])
    entries = [
        entry("general.alignment", 4, struct.pack("<I", 32)),
        entry("general.is_small", 7, b"\1"),
        entry("tokenizer.ggml.model", 8, text(model)),
        entry("tests.nested", 9, nested),
        entry("tokenizer.ggml.token_type", 9, numbers(list(tokens.values()))),
        entry("tokenizer.ggml.tokens", 9, texts(list(tokens))),
        *(entry(f"tokenizer.ggml.{name}_token_id", 4, struct.pack("<I", number)) for name, number in (named or {}).items()),
    ]
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", version, 0, len(entries)) + b"".join(entries))
    return path


def test_tokens_that_are_found_before_all_others_are_special(tmp_path: Path) -> None:
    kinds = {"a": NORMAL, "<unk>": UNKNOWN, "<|im_end|>": CONTROL, "<tool>": USER_DEFINED, "[PAD1]": UNUSED, "<0x0A>": BYTE}
    assert read_vocabulary(gguf(tmp_path / "m.gguf", "llama", kinds)).special == ("<unk>", "<|im_end|>", "<tool>")


def test_tokens_that_the_header_names_are_special_whatever_their_kind(tmp_path: Path) -> None:
    kinds = {"a": NORMAL, "<end>": NORMAL, "<s>": CONTROL}
    named = {"eos": 1, "bos": 2, "padding": 2**32 - 1}
    assert read_vocabulary(gguf(tmp_path / "m.gguf", "llama", kinds, named=named)).special == ("<s>", "<end>")


def test_a_character_has_a_token_of_its_own_or_those_of_its_bytes(tmp_path: Path) -> None:
    kinds = {"<0xC3>": BYTE, "<0xA9>": BYTE, "<": NORMAL, "é?": NORMAL}
    vocabulary = read_vocabulary(gguf(tmp_path / "m.gguf", "llama", kinds, version=2))
    assert (vocabulary.character_ids("<"), vocabulary.character_ids("é")) == ([2], [0, 1])


def test_a_byte_level_vocabulary_writes_bytes_as_characters(tmp_path: Path) -> None:
    kinds = {"Ġ": NORMAL, "<": NORMAL, "Ã": NORMAL, "©": NORMAL, "é": NORMAL}
    vocabulary = read_vocabulary(gguf(tmp_path / "m.gguf", "gpt2", kinds))
    assert [vocabulary.character_ids(character) for character in "< é"] == [[1], [0], [2, 3]]


def test_another_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the GGUF version is 1, must be 2 or 3"):
        read_vocabulary(gguf(tmp_path / "m.gguf", "gpt2", {"a": NORMAL}, version=1))
