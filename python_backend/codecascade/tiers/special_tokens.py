"""Keeps special tokens out of a caller's text: a `<|im_end|>` in a docstring is read as what it says and ends no turn.

A tokenizer looks for the names of special tokens before anything else. So a text with such a name in a caller's part is handed to
it in parts: the name is cut at one of its characters, which stands alone. A text without one is handed over whole, and its tokens
are those that they always were.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from codecascade.errors import InvalidRequest


class SpecialTokens:
    """The special tokens of one model, by their names."""

    def __init__(self, names: Iterable[str]) -> None:
        """names: of the tokens outside of the ordinary vocabulary. Some are runs of blanks, which stay tokens: code has them."""
        longest_first = sorted({name for name in names if name.strip() and len(name) > 1}, key=len, reverse=True)
        self._names = re.compile(b"|".join(re.escape(name.encode()) for name in longest_first)) if longest_first else None

    def apart(self, text: str, literal_ranges: Sequence[int]) -> tuple[str, ...]:
        """The parts of a text. Tokenized one by one, they hold no special token in its literal ranges.

        Every second part is one character. literal_ranges: see the tier contract. A vocabulary that puts a space before a text,
        as SentencePiece's does, puts one before each part.
        """
        content = text.encode("utf-8", "replace")
        cuts = [0, *self._cuts(content, literal_ranges), len(content)]
        return tuple(content[start:end].decode() for start, end in itertools.pairwise(cuts))

    def _cuts(self, content: bytes, literal_ranges: Sequence[int]) -> Iterator[int]:
        """Where the characters that stand alone begin and end."""
        at = 0
        while self._names and literal_ranges and (name := self._names.search(content, at)):
            cut = _first_literal(name.start(), name.end(), literal_ranges)
            at = name.start() + 1
            if cut is not None:
                at = _next_character(content, cut)
                yield from (cut, at)


def check_literal_ranges(text: str, literal_ranges: Sequence[int]) -> None:
    """Raises InvalidRequest unless they are starts and ends, rising, each at a character of the text or at its end."""
    content = text.encode("utf-8", "replace")
    if len(literal_ranges) % 2:
        raise InvalidRequest(f"literal_ranges has {len(literal_ranges)} offsets, must have a start and an end for each range")
    least = 0
    for index, offset in enumerate(literal_ranges):
        if not least <= offset <= len(content):
            raise InvalidRequest(f"literal_ranges[{index}] is {offset}, must be {least} to {len(content)}: offsets rise")
        if content[offset : offset + 1] and _continues(content[offset]):
            raise InvalidRequest(
                f"literal_ranges[{index}] is {offset}, must be where a character begins: that byte is inside one"
            )
        least = offset + 1


def template_of(text: str, literal_ranges: Sequence[int]) -> str:
    """What is left of a text without its literal ranges; empty where it has none."""
    content = text.encode("utf-8", "replace") if literal_ranges else b""
    ends = [0, *literal_ranges, len(content)]
    return b"".join(content[start:end] for start, end in zip(ends[::2], ends[1::2], strict=True)).decode()


def too_long(tokens: int, limit: int, template_tokens: int) -> str:
    """The sentence that refuses a prompt of more than `limit` tokens. It counts what the caller can make shorter."""
    if not 0 < template_tokens < limit:
        return f"text_input has {tokens} tokens, must have {limit} or fewer"
    own, allowed = tokens - template_tokens, limit - template_tokens
    return f"the prompt has {own} tokens without its template, must have {allowed} or fewer"


def _first_literal(start: int, end: int, literal_ranges: Sequence[int]) -> int | None:
    """The first offset from `start` to before `end` that is in a literal range."""
    passed = bisect_right(literal_ranges, start)
    if passed % 2:
        return start
    following = literal_ranges[passed : passed + 1]
    return following[0] if following and following[0] < end else None


def _next_character(content: bytes, at: int) -> int:
    at += 1
    while at < len(content) and _continues(content[at]):
        at += 1
    return at


def _continues(byte: int) -> bool:
    """Whether a byte of UTF-8 goes on with the character that an earlier one begins."""
    return byte & 0xC0 == 0x80
