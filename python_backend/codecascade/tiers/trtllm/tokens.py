"""Text to tokens and back, as an engine needs it: exact texts after a prompt, stop words, what was generated and why it ended.

A token is its bytes. The bytes of a completion, one token after another, are its text: no space is lost where a piece begins
with one, and a character that several tokens share comes back whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from codecascade.errors import InvalidRequest
from codecascade.types import Sample

# What may stand before a stop word and share its first token: "\n```" is one token more than ")\n```" in most vocabularies.
_BEFORE = ("", "\n", ")", "]", "}", '"', '"""', "'", ":", "):", ",")
_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\u2581"  # how SentencePiece writes one


class UnknownTokenizer(ValueError):
    """A tokenizer whose tokens cannot be turned into bytes, or that lacks a token."""


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token beside the model's own vocabulary. special: it is no part of any text."""

    content: str
    special: bool


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """encode: text → ids, as a prompt begins (special tokens in the text are read as such). pieces: id → its bytes.

    end_ids: tokens that end a text; the first is the engine's end_id.
    """

    encode: Callable[[str], Sequence[int]]
    pieces: tuple[bytes, ...]
    end_ids: tuple[int, ...]

    def text_bytes(self, ids: Iterable[int]) -> bytes:
        """Ids without a token (a padded vocabulary has some) stand for nothing."""
        return b"".join(self.pieces[each] for each in ids if 0 <= each < len(self.pieces))

    def text(self, ids: Iterable[int]) -> str:
        """Without a last character that is not all there; a byte that is wrong anywhere else becomes U+FFFD."""
        content = self.text_bytes(ids)
        return _without_cut_character(content).decode("utf-8", "replace")


def pieces(
    vocabulary: Mapping[str, int], added: Mapping[int, AddedToken], decoders: frozenset[str], ends: Sequence[int]
) -> tuple[bytes, ...]:
    """The bytes of every id. decoders: the kinds of the tokenizer's decoder. Raises UnknownTokenizer."""
    read: Callable[[str], bytes]
    if "ByteLevel" in decoders:
        read = partial(_byte_level, alphabet={character: byte for byte, character in enumerate(_byte_characters())})
    elif "ByteFallback" in decoders:
        read = _sentence_piece
    else:
        raise UnknownTokenizer(
            f"the tokenizer's decoder is {', '.join(sorted(decoders)) or 'absent'}, allowed are ByteLevel and ByteFallback"
        )
    found = {each: read(piece) for piece, each in vocabulary.items() if each not in added}
    found.update({each: b"" if token.special else token.content.encode() for each, token in added.items()})
    found.update(dict.fromkeys(ends, b""))
    return tuple(found.get(each, b"") for each in range(max(found) + 1))


def stop_sequences(tokenizer: Tokenizer, words: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Token sequences at which an engine can stop: the end tokens but the first, and each word as texts usually come to it.

    An engine compares tokens, and most vocabularies join a space to what follows it: a word that ends in spaces is looked for
    without them. What the engine misses is cut from the text afterwards (`completion`).
    """
    sequences: list[tuple[int, ...]] = [(each,) for each in tokenizer.end_ids[1:]]
    for word in words:
        wanted = word.rstrip(" ") or word
        for before in _BEFORE:
            ids = list(tokenizer.encode(before + wanted))
            found = _shortest_end(tokenizer, ids, wanted.encode())
            if found and found not in sequences:
                sequences.append(found)
    return tuple(sequences)


def word_list(sequences: Sequence[Sequence[int]]) -> NDArray[np.int32]:
    """(2, n) int32: all ids one after another, and where each sequence ends, padded with -1."""
    flat = [each for sequence in sequences for each in sequence]
    ends = np.cumsum([len(sequence) for sequence in sequences], dtype=np.int32)
    packed = np.full((2, max(len(flat), 1)), -1, np.int32)
    packed[0] = flat or 0
    packed[1, : len(ends)] = ends
    return packed


def sequences_of(packed: NDArray[np.int32]) -> tuple[tuple[int, ...], ...]:
    """What `word_list` packed."""
    ends = [int(end) for end in packed[1] if end >= 0]
    return tuple(tuple(packed[0, start:end].tolist()) for start, end in zip([0, *ends], ends, strict=False))


@dataclass(frozen=True, slots=True)
class EngineSampling:
    """How TensorRT-LLM is told to draw. top_k 1: greedy; 0: from all tokens."""

    temperature: float
    top_k: int
    top_p: float


def engine_sampling(temperature: float, top_p: float) -> EngineSampling:
    """temperature 0 and top_p 0 are greedy. An engine refuses both values, so neither is sent."""
    if temperature == 0 or top_p == 0:
        return EngineSampling(temperature=1.0, top_k=1, top_p=1.0)
    return EngineSampling(temperature, top_k=0, top_p=top_p)


def prompt_ids(tokenizer: Tokenizer, text: str, max_input_tokens: int) -> tuple[int, ...]:
    """Raises InvalidRequest if there are more of them than the engine reads."""
    ids = tuple(tokenizer.encode(text))
    if len(ids) > max_input_tokens:
        raise InvalidRequest(f"text_input has {len(ids)} tokens, allowed are at most {max_input_tokens}")
    return ids


def completion(
    tokenizer: Tokenizer,
    ids: Sequence[int],
    *,
    limit: int,
    stop_words: Sequence[str],
    sequences: Sequence[Sequence[int]],
) -> Sample:
    """What an engine wrote. ids: what it returned; limit: the tokens it was allowed; sequences: those it was told to stop at.

    completion_tokens are those that were generated: the end token and the stop word are cut from the text, and are paid for.
    An engine keeps its end_id to itself: one that stopped early, and not at a sequence, wrote one token more than it gave.
    A text that ends at the limit (finish_reason "length") or inside a word that it was stopped at ends before what may have
    been the beginning of a stop word.
    """
    end = next((index for index, each in enumerate(ids) if each in tokenizer.end_ids), None)
    if end is not None:
        return _cut(tokenizer.text(ids[:end]), stop_words, end + 1, "stop", begun=False)
    stopped = any(tuple(ids[-len(each) :]) == tuple(each) for each in sequences)
    if stopped or len(ids) >= limit:
        return _cut(tokenizer.text(ids), stop_words, len(ids), "stop" if stopped else "length", begun=True)
    return _cut(tokenizer.text(ids), stop_words, len(ids) + 1, "stop", begun=False)


def with_lines(tokenizer: Tokenizer, ids: Sequence[int], sample: Sample, max_lines: int | None) -> Sample:
    """The completion of these ids with its line_tokens. max_lines: of its text, after which the engine was stopped."""
    ends = line_ends(tokenizer, ids)
    if max_lines is not None and len(ends) >= max_lines:
        text = "\n".join(sample.text.split("\n")[:max_lines])
        sample = Sample(text, len(ids), "stop")
    return replace(sample, line_tokens=(*ends[: sample.text.count("\n")], sample.completion_tokens))


def line_ends(tokenizer: Tokenizer, ids: Sequence[int]) -> list[int]:
    """For every line that has ended, how many tokens there were by then."""
    return [count for count, each in enumerate(ids, start=1) for _ in range(tokenizer.text_bytes([each]).count(b"\n"))]


def _cut(text: str, stop_words: Sequence[str], tokens: int, reason: str, *, begun: bool) -> Sample:
    """begun: the text may end inside a stop word."""
    first = min((at for at in map(text.find, stop_words) if at >= 0), default=None)
    if first is not None:
        return Sample(text[:first], tokens, "stop")
    return Sample(_without_begun(text, stop_words) if begun else text, tokens, reason)


def _without_begun(text: str, stop_words: Sequence[str]) -> str:
    longest = max(map(len, stop_words), default=0)
    for length in range(min(longest - 1, len(text)), 0, -1):
        if any(word.startswith(text[-length:]) for word in stop_words):
            return text[:-length]
    return text


def _shortest_end(tokenizer: Tokenizer, ids: Sequence[int], wanted: bytes) -> tuple[int, ...]:
    """The shortest end of `ids` that holds `wanted`; empty if not even all of them do."""
    for start in range(len(ids) - 1, -1, -1):
        if wanted in tokenizer.text_bytes(ids[start:]):
            return tuple(ids[start:])
    return ()


def _without_cut_character(content: bytes) -> bytes:
    for length in range(1, min(4, len(content) + 1)):
        byte = content[-length]
        if byte & 0xC0 == 0x80:
            continue
        whole = 2 if byte >> 5 == 0b110 else 3 if byte >> 4 == 0b1110 else 4 if byte >> 3 == 0b11110 else 1
        return content[:-length] if whole > length else content
    return content


def _byte_level(piece: str, alphabet: Mapping[str, int]) -> bytes:
    try:
        return bytes(alphabet[character] for character in piece)
    except KeyError:
        return piece.encode()


def _sentence_piece(piece: str) -> bytes:
    byte = _BYTE_PIECE.fullmatch(piece)
    return bytes([int(byte.group(1), 16)]) if byte else piece.replace(_SPACE, " ").encode()


def _byte_characters() -> list[str]:
    """The character by which byte-level BPE writes each byte: itself where it can be seen, else one from U+0100 on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(others)) for byte in range(256)]
