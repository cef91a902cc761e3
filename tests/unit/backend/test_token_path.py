"""Tokens to texts and back, with vocabularies small enough to read."""

from __future__ import annotations

import numpy as np
import pytest
from codecascade.errors import InvalidRequest
from codecascade.tiers.special_tokens import SpecialTokens
from codecascade.tiers.trtllm.tokens import (
    AddedToken,
    EngineSampling,
    Tokenizer,
    UnknownTokenizer,
    completion,
    engine_sampling,
    pieces,
    prompt_ids,
    sequences_of,
    stop_sequences,
    with_lines,
    word_list,
)
from codecascade.types import Sample
from hypothesis import given
from hypothesis import strategies as st

END, OTHER_END = 0, 1
WORDS = [
    *(b"", b"", b"\n", b"\n\n", b")\n", b"def", b" f", b"f", b" ", b"class"),
    *(b"(", b")", b"x", b"y", b"```", b"\xe6", b"\xbc\xa2", b"\xa9"),
]


def longest_match(text: str) -> list[int]:
    """The ids of a text, as a vocabulary that joins what it can."""
    content, ids = text.encode(), []
    while content:
        best = max((word for word in WORDS if word and content.startswith(word)), key=len)
        ids.append(WORDS.index(best))
        content = content[len(best) :]
    return ids


def lenient(text: str) -> list[int]:
    """Of a text whose other characters are left out."""
    known = {word.decode() for word in WORDS if word.isascii()}
    return longest_match("".join(character for character in text if any(character in word for word in known)))


TOKENIZER = Tokenizer(lenient, lenient, pieces=tuple(WORDS), end_ids=(END, OTHER_END), special=SpecialTokens(["class"]))


def ids(*words: bytes) -> list[int]:
    return [WORDS.index(word) for word in words]


def written(given: list[int], limit: int = 99, stop_words: tuple[str, ...] = ()) -> Sample:
    return completion(TOKENIZER, given, limit=limit, stop_words=stop_words, sequences=stop_sequences(TOKENIZER, stop_words))


@pytest.mark.parametrize("max_lines", [None, 9])
def test_a_line_costs_the_tokens_up_to_its_line_feed_and_the_last_one_all(max_lines: int | None) -> None:
    given = ids(b"x", b")\n", b"y", b"\n\n", b"x", b"\n", b"```")
    whole = written(given, stop_words=("\n```",))
    assert with_lines(TOKENIZER, given, whole, max_lines) == Sample("x)\ny\n\nx", 7, "stop", (2, 4, 4, 7), "\n```")


def test_a_text_that_was_stopped_after_its_lines_has_no_more_and_costs_what_there_was() -> None:
    given = ids(b"x", b")\n", b"y", b"\n\n")
    assert with_lines(TOKENIZER, given, written(given), max_lines=2) == Sample("x)\ny", 4, "stop", (2, 4))


def test_a_runtime_that_keeps_its_end_token_to_itself_wrote_one_token_more() -> None:
    assert written(ids(b"x", b"y")) == Sample("xy", 3, "stop")
    assert written([]) == Sample("", 1, "stop")


def test_an_end_token_that_came_along_is_counted_once_and_ends_the_text() -> None:
    assert written([*ids(b"x"), END]) == Sample("x", 2, "stop")
    assert written([*ids(b"x"), OTHER_END, *ids(b"y")]) == Sample("x", 2, "stop")
    assert written([*ids(b"x"), OTHER_END], limit=2) == Sample("x", 2, "stop")


def test_all_the_tokens_that_were_allowed_are_a_text_that_was_cut() -> None:
    assert written(ids(b"x", b"y"), limit=2) == Sample("xy", 2, "length")


def test_a_stop_word_is_cut_and_paid_for() -> None:
    stopped = Sample("x", 3, "stop", stop_word="\n```")
    assert written(ids(b"x", b"\n", b"```"), stop_words=("\n```",)) == stopped
    assert written(ids(b"x", b"\n", b"```"), limit=3, stop_words=("\n```",)) == stopped


def test_a_stop_word_that_begins_inside_a_token_is_cut_inside_it() -> None:
    assert written(ids(b"x", b")\n", b"```"), stop_words=("\n```",)) == Sample("x)", 3, "stop", stop_word="\n```")
    assert written(ids(b"x", b"\n\n", b"```"), stop_words=("\n```",)) == Sample("x\n", 3, "stop", stop_word="\n```")


def test_a_stop_word_that_the_engine_went_past_is_cut_all_the_same() -> None:
    sample = written(ids(b"x", b"\n", b"def", b" f", b"(", b"y"), limit=6, stop_words=("\ndef ",))
    assert sample == Sample("x", 6, "stop", stop_word="\ndef ")


def test_the_first_stop_word_counts_whichever_was_asked_for_first() -> None:
    sample = written(ids(b"x", b"y", b"\n\n"), stop_words=("\n\n", "y"))
    assert (sample.text, sample.stop_word) == ("x", "y")


def test_a_text_does_not_end_with_the_beginning_of_a_stop_word_that_the_engine_was_stopped_at() -> None:
    assert written(ids(b"x", b"\n", b"def"), stop_words=("\n```", "\ndef ")) == Sample("x", 3, "stop", stop_word="\ndef ")


def test_a_text_cut_by_the_limit_ends_before_what_may_have_been_a_stop_word() -> None:
    assert written(ids(b"x", b"\n"), limit=2, stop_words=("\n```",)) == Sample("x", 2, "length")
    assert written(ids(b"x", b"\n"), limit=2, stop_words=("y",)) == Sample("x\n", 2, "length")


def test_a_text_that_the_model_ended_keeps_what_only_looks_like_the_beginning_of_a_stop_word() -> None:
    assert written(ids(b"x", b"\n"), stop_words=("\n```",)) == Sample("x\n", 3, "stop")


def test_a_character_split_over_tokens_comes_back_whole_and_one_that_was_cut_is_left_out() -> None:
    assert written(ids(b"\xe6", b"\xbc\xa2")).text == "漢"
    assert written(ids(b"x", b"\xe6"), limit=2).text == "x"
    assert written(ids(b"\xe6", b"x")).text == "\ufffdx"
    assert written(ids(b"x", b"\xa9")).text == "x\ufffd"


def test_ids_without_a_token_stand_for_nothing() -> None:
    assert TOKENIZER.text([*ids(b"x"), -1, 10_000, *ids(b"y")]) == "xy"


def test_an_engine_is_told_to_stop_at_the_end_tokens_and_at_each_way_to_come_to_a_stop_word() -> None:
    assert set(stop_sequences(TOKENIZER, ("\n```",))) == {
        (END,),
        (OTHER_END,),
        tuple(ids(b"\n", b"```")),
        tuple(ids(b"\n\n", b"```")),
        tuple(ids(b")\n", b"```")),
    }


def test_every_stop_sequence_holds_its_word_without_the_spaces_at_its_end() -> None:
    sequences = stop_sequences(TOKENIZER, ("\ndef ", "\nclass "))[2:]
    assert tuple(ids(b"\n", b"def")) in sequences
    assert all(b"\ndef" in TOKENIZER.text_bytes(part) or b"\nclass" in TOKENIZER.text_bytes(part) for part in sequences)


def test_a_stop_word_of_spaces_is_itself() -> None:
    assert stop_sequences(TOKENIZER, (" ",))[2:] == (tuple(ids(b" ")),)


@given(st.lists(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=5), max_size=8))
def test_a_word_list_is_what_tensorrt_llm_reads(sequences: list[list[int]]) -> None:
    packed = word_list(sequences)
    assert packed.dtype == np.int32
    assert packed.shape[0] == 2
    assert packed.shape[1] > 0  # an empty tensor has no buffer
    assert as_tensorrt_llm_reads(packed.reshape(-1).tolist()) == sequences
    assert [list(part) for part in sequences_of(packed)] == sequences


def as_tensorrt_llm_reads(flat: list[int]) -> list[list[int]]:
    """Half ids, half ends: rising, none past the ids, nothing but -1 after the first -1."""
    assert len(flat) % 2 == 0
    tokens, ends = flat[: len(flat) // 2], flat[len(flat) // 2 :]
    used = ends[: ends.index(-1)] if -1 in ends else ends
    assert all(end == -1 for end in ends[len(used) :])
    assert all(low < high <= len(tokens) for low, high in zip([0, *used], used, strict=False))
    return [tokens[low:high] for low, high in zip([0, *used], used, strict=False)]


def test_temperature_0_and_top_p_0_are_greedy_and_are_sent_as_values_that_an_engine_takes() -> None:
    greedy = EngineSampling(temperature=1.0, top_k=1, top_p=1.0)
    assert engine_sampling(0.0, 0.95) == greedy
    assert engine_sampling(0.8, 0.0) == greedy
    assert engine_sampling(0.8, 0.95) == EngineSampling(0.8, top_k=0, top_p=0.95)


def test_a_prompt_that_is_too_long_is_refused_with_both_numbers() -> None:
    assert prompt_ids(TOKENIZER, "xyx", (), 3) == tuple(ids(b"x", b"y", b"x"))
    with pytest.raises(InvalidRequest, match=r"^text_input has 4 tokens, must have 3 or fewer$"):
        prompt_ids(TOKENIZER, "xyxy", (), 3)


def test_a_prompt_that_is_too_long_is_refused_by_what_is_the_caller_s() -> None:
    sentence = r"^the prompt has 4 tokens without its template, must have 1 or fewer$"
    with pytest.raises(InvalidRequest, match=sentence):
        prompt_ids(TOKENIZER, "xyyyyx", (1, 5), 3)


def test_byte_level_pieces_are_bytes() -> None:
    vocabulary = {"Ġdef": 0, "Ċ": 1, "æ": 2, "¼¢": 3, "<end>": 4, "    ": 5}
    added = {4: AddedToken("<end>", special=True), 5: AddedToken("    ", special=False)}
    assert pieces(vocabulary, added, frozenset({"ByteLevel"}), [4]) == (b" def", b"\n", b"\xe6", b"\xbc\xa2", b"", b"    ")


def test_sentencepiece_pieces_keep_their_leading_spaces() -> None:
    vocabulary = {"▁def": 0, "<0x0A>": 1, "<0xE6>": 2, "▁▁": 3, "</s>": 4, "é": 6}
    added = {4: AddedToken("</s>", special=True)}
    result = pieces(vocabulary, added, frozenset({"Sequence", "Replace", "ByteFallback", "Fuse", "Strip"}), [4])
    assert result == (b" def", b"\n", b"\xe6", b"  ", b"", b"", "é".encode())


def test_an_end_token_is_no_text_even_where_the_tokenizer_calls_it_an_ordinary_one() -> None:
    assert pieces({"a": 0, "<end>": 1}, {1: AddedToken("<end>", special=False)}, frozenset({"ByteLevel"}), [1]) == (b"a", b"")


def test_a_tokenizer_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(UnknownTokenizer, match="the tokenizer's decoder is WordPiece, must be ByteLevel or ByteFallback"):
        pieces({"a": 0}, {}, frozenset({"WordPiece"}), [])
