"""Text to tokens and back for an engine: exact completions, stop words, what was generated and why it ended.

A token stands for its bytes. The joined bytes of a completion's tokens are its text. So no space is lost where a token begins
with one, and a character that several tokens share stays whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from codecascade.errors import InvalidRequest
from codecascade.tiers.special_tokens import SpecialTokens, template_of, too_long
from codecascade.types import Sample

# Texts that may precede a stop word and share its first token: in most vocabularies ")\n```" begins with one token for ")\n".
_BEFORE = ("", "\n", ")", "]", "}", '"', '"""', "'", ":", "):", ",")
_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\u2581"  # how SentencePiece writes one


class UnknownTokenizer(ValueError):
    """A tokenizer whose tokens cannot be turned into bytes, or that lacks a token."""


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token outside the model's own vocabulary."""

    content: str
    special: bool
    """It is not part of any text."""


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A tokenizer as the token path uses it."""

    encode: Callable[[str], Sequence[int]]
    """A prompt's text → its ids, with the tokens that begin a prompt. Special tokens in the text are read as such."""
    encode_on: Callable[[str], Sequence[int]]
    """The same for a further part of a prompt."""
    pieces: tuple[bytes, ...]
    """id → its bytes."""
    end_ids: tuple[int, ...]
    """The tokens that end a text; the first is the LLM API's end_id."""
    special: SpecialTokens

    def text_bytes(self, ids: Iterable[int]) -> bytes:
        """The joined bytes. Ids without a token (a padded vocabulary has some) are skipped."""
        return b"".join(self.pieces[token] for token in ids if 0 <= token < len(self.pieces))

    def text(self, ids: Iterable[int]) -> str:
        """The text, without an incomplete last character. An invalid byte anywhere else becomes U+FFFD."""
        content = self.text_bytes(ids)
        return _without_cut_character(content).decode("utf-8", "replace")


def pieces(
    vocabulary: Mapping[str, int], added: Mapping[int, AddedToken], decoders: frozenset[str], ends: Sequence[int]
) -> tuple[bytes, ...]:
    """The bytes of every id. decoders: the types of the tokenizer's decoder and its parts. Raises UnknownTokenizer."""
    read: Callable[[str], bytes]
    if "ByteLevel" in decoders:
        read = partial(_byte_level, alphabet={character: byte for byte, character in enumerate(byte_characters())})
    elif "ByteFallback" in decoders:
        read = _sentence_piece
    else:
        raise UnknownTokenizer(
            f"the tokenizer's decoder is {', '.join(sorted(decoders)) or 'absent'}, must be ByteLevel or ByteFallback"
        )
    bytes_of = {token_id: read(piece) for piece, token_id in vocabulary.items() if token_id not in added}
    bytes_of.update({token_id: b"" if token.special else token.content.encode() for token_id, token in added.items()})
    bytes_of.update(dict.fromkeys(ends, b""))
    return tuple(bytes_of.get(token_id, b"") for token_id in range(max(bytes_of) + 1))


def stop_sequences(tokenizer: Tokenizer, words: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Token sequences at which an engine can stop: the end tokens, and each word after what usually precedes it.

    An engine compares tokens, and most vocabularies join a space to what follows it. So the sequence of a word that ends in
    spaces leaves them out. `completion` cuts stop words that the engine misses.
    """
    sequences: list[tuple[int, ...]] = [(token,) for token in tokenizer.end_ids]
    for word in words:
        wanted = word.rstrip(" ") or word
        for before in _BEFORE:
            ids = list(tokenizer.encode(before + wanted))
            sequence = _shortest_end(tokenizer, ids, wanted.encode())
            if sequence and sequence not in sequences:
                sequences.append(sequence)
    return tuple(sequences)


def word_list(sequences: Sequence[Sequence[int]]) -> NDArray[np.int32]:
    """(2, n) int32: all ids one after another, and where each sequence ends, padded with -1."""
    flat = [token for sequence in sequences for token in sequence]
    ends = np.cumsum([len(sequence) for sequence in sequences], dtype=np.int32)
    packed = np.full((2, max(len(flat), 1)), -1, np.int32)
    packed[0] = flat or 0
    packed[1, : len(ends)] = ends
    return packed


def sequences_of(packed: NDArray[np.int32]) -> tuple[tuple[int, ...], ...]:
    """The sequences that `word_list` packed."""
    ends = [int(end) for end in packed[1] if end >= 0]
    return tuple(tuple(packed[0, start:end].tolist()) for start, end in zip([0, *ends], ends, strict=False))


@dataclass(frozen=True, slots=True)
class EngineSampling:
    """TensorRT-LLM's sampling parameters."""

    temperature: float
    top_k: int
    """1 is greedy; 0 samples from all tokens."""
    top_p: float


def engine_sampling(temperature: float, top_p: float) -> EngineSampling:
    """temperature 0 and top_p 0 mean greedy. An engine refuses both values, so neither is sent."""
    if temperature == 0 or top_p == 0:
        return EngineSampling(temperature=1.0, top_k=1, top_p=1.0)
    return EngineSampling(temperature, top_k=0, top_p=top_p)


def prompt_ids(tokenizer: Tokenizer, text: str, literal_ranges: Sequence[int], max_input_tokens: int) -> tuple[int, ...]:
    """The prompt's ids. Raises InvalidRequest if there are more than max_input_tokens."""
    first, *others = tokenizer.special.apart(text, literal_ranges)
    ids = (*tokenizer.encode(first), *(token for part in others if part for token in tokenizer.encode_on(part)))
    if len(ids) > max_input_tokens:
        template = template_of(text, literal_ranges)
        raise InvalidRequest(too_long(len(ids), max_input_tokens, len(tokenizer.encode(template)) if template else 0))
    return ids


def completion(
    tokenizer: Tokenizer,
    ids: Sequence[int],  # as the engine returned them
    *,
    limit: int,  # tokens that the engine was allowed to generate
    stop_words: Sequence[str],
    sequences: Sequence[Sequence[int]],  # at which the engine was told to stop
) -> Sample:
    """The sample that an engine generated.

    completion_tokens counts all generated tokens, including the end token and the stop word, which are cut from the text.
    The LLM API does not return its end_id: if it stopped early and not at a sequence, it generated one token more than it gave.
    No engine says which stop word it met: that is read from the text.
    If a text ends at the limit (finish_reason "length") or at one of the sequences, a possible beginning of a stop word is cut
    from its end too.
    """
    end = next((index for index, token in enumerate(ids) if token in tokenizer.end_ids), None)
    if end is not None:
        return _cut(tokenizer.text(ids[:end]), stop_words, end + 1, "stop", begun=False)
    stopped = any(tuple(ids[-len(sequence) :]) == tuple(sequence) for sequence in sequences)
    if stopped or len(ids) >= limit:
        return _cut(tokenizer.text(ids), stop_words, len(ids), "stop" if stopped else "length", begun=True)
    return _cut(tokenizer.text(ids), stop_words, len(ids) + 1, "stop", begun=False)


def with_lines(tokenizer: Tokenizer, ids: Sequence[int], sample: Sample, max_lines: int | None) -> Sample:
    """The completion of these ids with its line_tokens. max_lines: lines of text after which the engine was stopped."""
    ends = line_ends(tokenizer, ids)
    if max_lines is not None and len(ends) >= max_lines:
        text = "\n".join(sample.text.split("\n")[:max_lines])
        sample = Sample(text, len(ids), "stop")
    return replace(sample, line_tokens=(*ends[: sample.text.count("\n")], sample.completion_tokens))


def line_ends(tokenizer: Tokenizer, ids: Sequence[int]) -> list[int]:
    """For every line that has ended, the number of tokens up to its end."""
    return [count for count, token in enumerate(ids, start=1) for _ in range(tokenizer.text_bytes([token]).count(b"\n"))]


def _cut(text: str, stop_words: Sequence[str], tokens: int, reason: str, *, begun: bool) -> Sample:
    """begun: the text may end inside a stop word, as it does where an engine was stopped at a sequence, which lacks spaces."""
    places = [(at, word) for word in stop_words if (at := text.find(word)) >= 0]
    if places:
        first, word = min(places, key=itemgetter(0))
        return Sample(text[:first], tokens, "stop", stop_word=word)
    kept, word = _without_begun(text, stop_words) if begun else (text, "")
    return Sample(kept, tokens, reason, stop_word=word if reason == "stop" else "")


def _without_begun(text: str, stop_words: Sequence[str]) -> tuple[str, str]:
    """The text without a beginning of a stop word at its end, and that word."""
    longest = max(map(len, stop_words), default=0)
    for length in range(min(longest - 1, len(text)), 0, -1):
        for word in stop_words:
            if word.startswith(text[-length:]):
                return text[:-length], word
    return text, ""


def _shortest_end(tokenizer: Tokenizer, ids: Sequence[int], wanted: bytes) -> tuple[int, ...]:
    """The shortest end of `ids` that contains `wanted`; empty if even all of them do not."""
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


def byte_characters() -> list[str]:
    """The character by which byte-level BPE writes each byte: the byte's own if it is visible, else one from U+0100 on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(others)) for byte in range(256)]
