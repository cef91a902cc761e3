"""Texts taken apart where a caller's part names a special token."""

from __future__ import annotations

import pytest
from codecascade.errors import InvalidRequest
from codecascade.tiers.special_tokens import SpecialTokens, check_literal_ranges, template_of, too_long
from hypothesis import given
from hypothesis import strategies as st

NAMES = ("<|im_end|>", "<|im_start|>", "</s>", "<¦end¦>", "::", "    ", "x")
TOKENS = SpecialTokens(NAMES)
LONG_NAMES = [name for name in NAMES if len(name) > 1 and name.strip()]


def apart(text: str, *literal_ranges: int) -> list[str]:
    return list(TOKENS.apart(text, literal_ranges))


def test_a_name_in_the_caller_s_part_is_cut_around_its_first_character() -> None:
    assert apart("a</s>b", 0, 6) == ["a", "<", "/s>b"]
    assert apart("<|im_end|></s>", 0, 14) == ["", "<", "|im_end|>", "<", "/s>"]


def test_the_template_s_own_tokens_stay_whole() -> None:
    assert apart("</s>a</s>b</s>", 4, 10) == ["</s>a", "<", "/s>b</s>"]
    assert apart("</s>a</s>") == ["</s>a</s>"]


def test_a_name_that_the_caller_s_part_begins_or_ends_is_cut_inside_that_part() -> None:
    assert apart("<|im_" + "end|>", 5, 10) == ["<|im_", "e", "nd|>"]
    assert apart("<|im_" + "end|>", 0, 5) == ["", "<", "|im_end|>"]


def test_a_text_without_a_name_stays_whole() -> None:
    assert apart("if a < b:\n    x = '|im_end|'", 0, 26) == ["if a < b:\n    x = '|im_end|'"]
    assert SpecialTokens([]).apart("</s>", (0, 4)) == ("</s>",)


def test_offsets_are_bytes_and_characters_stay_whole() -> None:
    assert apart("é</s>é</s>", 6, 12) == ["é</s>é", "<", "/s>"]
    assert apart("<¦end¦>", 1, 9) == ["<", "¦", "end¦>"]


def pieces() -> st.SearchStrategy[str]:
    return st.sampled_from([*NAMES, "<", "|>", "é", "im_end", ":", "a ", "|im_end|>", "</", "s>"])


@given(st.lists(st.tuples(st.booleans(), st.lists(pieces(), max_size=5).map("".join)), max_size=6))
def test_no_part_holds_a_name_where_the_text_is_the_caller_s_and_nothing_is_lost(texts: list[tuple[bool, str]]) -> None:
    ranges: list[int] = []
    literal: list[bool] = []
    content = ""
    for is_literal, text in texts:
        start = len(content.encode())
        content += text
        if is_literal and text and (not ranges or ranges[-1] < start):
            ranges += [start, len(content.encode())]
        literal += [bool(ranges) and ranges[-1] == len(content.encode())] * len(text)
    check_literal_ranges(content, ranges)
    parts = apart(content, *ranges)
    assert "".join(parts) == content
    assert all(len(character) == 1 for character in parts[1::2])
    at = 0
    for part in parts:
        for name in LONG_NAMES:
            for start in range(len(part)):
                if part.startswith(name, start):
                    assert not any(literal[at + start : at + start + len(name)]), (part, name)
        at += len(part)


@pytest.mark.parametrize(
    ("offsets", "sentence"),
    [
        ((1,), "has 1 offsets, must have a start and an end"),
        ((0, 7), r"\[1\] is 7, must be 1 to 6"),
        ((3, 3), r"\[1\] is 3, must be 4 to 6"),
        ((1, 3, 3, 4), r"\[2\] is 3, must be 4 to 6"),
        ((-1, 3), r"\[0\] is -1, must be 0 to 6"),
        ((0, 2), r"\[1\] is 2, must be where a character begins"),
    ],
)
def test_offsets_that_are_no_ranges_are_refused(offsets: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        check_literal_ranges("aébcd", offsets)


def test_the_template_is_what_is_not_the_caller_s() -> None:
    assert template_of("aéb</s>c", (1, 3, 8, 9)) == "ab</s>"
    assert template_of("abc", ()) == ""


@pytest.mark.parametrize(
    ("template_tokens", "sentence"),
    [
        (0, "text_input has 30 tokens, must have 20 or fewer"),
        (25, "text_input has 30 tokens, must have 20 or fewer"),
        (5, "the prompt has 25 tokens without its template, must have 15 or fewer"),
    ],
)
def test_a_refusal_counts_what_the_caller_can_make_shorter(template_tokens: int, sentence: str) -> None:
    assert too_long(30, 20, template_tokens) == sentence
