"""The two kinds of tokenizers that the families have, made by the tokenizers library and loaded by transformers from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from codecascade.errors import TierUnavailable
from codecascade.tiers.trtllm.tokens import Tokenizer, completion, prompt_ids, stop_sequences

from tests.conversion import need_conversion

need_conversion()
from codecascade.tiers.trtllm.tokenizer import load_tokenizer
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Library
from transformers import AutoTokenizer, PreTrainedTokenizerFast

CODE = [
    "def f(x):\n    return x + 1\n\n\ndef g(y):\n    return [y, 'a b']\n",
    "class A:\n    def h(self):\n        return (1)\n\n# end\n```\n",
    "assert f(1) == 2\nassert g(2) == [2, 'a b']\n\nprint(f(3))\n",
]
TEXTS = [
    "    return x\n",
    " leading space",
    "two  spaces,\ttab",
    "é漢🦊 and back",
    "\n\n\nassert f(1) == 2\n",
    "x",
]


def save(library: Library, folder: Path, **special: str) -> Path:
    PreTrainedTokenizerFast(tokenizer_object=library, clean_up_tokenization_spaces=False, **special).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As Qwen, StarCoder and CodeGen have it; runs of spaces are tokens added later, as CodeGen's are."""
    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    library.train_from_iterator(CODE, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=["<|end|>"]))
    library.add_tokens([AddedToken("    ", normalized=False)])
    return save(library, tmp_path_factory.mktemp("byte_level"), eos_token="<|end|>")


@pytest.fixture(scope="module")
def sentence_piece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As Llama has it: a space before the text, ▁ for spaces, bytes for what is not in the vocabulary, <s> before a prompt."""
    library = Library(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    library.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1)]
    )
    every_byte = [f"<0x{byte:02X}>" for byte in range(256)]
    library.train_from_iterator(
        [text.replace("\n", "") for text in CODE],
        trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>", "<s>", "</s>", *every_byte]),
    )
    from tokenizers import processors

    library.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    plain = Library.from_str(_ordinary_bytes(library.to_str()))
    return save(plain, tmp_path_factory.mktemp("sentence_piece"), eos_token="</s>", bos_token="<s>", unk_token="<unk>")


def _ordinary_bytes(serialized: str) -> str:
    """The trainer makes the bytes special; in a real vocabulary they are ordinary."""
    import json

    document = json.loads(serialized)
    document["added_tokens"] = [token for token in document["added_tokens"] if not token["content"].startswith("<0x")]
    return json.dumps(document)


@pytest.fixture(params=["byte_level", "sentence_piece"])
def folder(request: pytest.FixtureRequest) -> Path:
    result: Path = request.getfixturevalue(request.param)
    return result


@pytest.fixture
def tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder, [ends(folder)])


def ends(folder: Path) -> str:
    return str(AutoTokenizer.from_pretrained(folder).eos_token)


@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_the_text_after_a_prompt_is_exactly_what_was_written(tokenizer: Tokenizer, text: str) -> None:
    """The tokens of prompt and text together, so that the text begins where a token does, as a model writes it."""
    prompt = "def f(x):\n"
    both = list(tokenizer.encode(prompt + text))
    for start in range(len(both) + 1):
        if tokenizer.text_bytes(both[:start]).lstrip(b" ") == prompt.encode():
            assert tokenizer.text(both[start:]) == text
            return
    whole = tokenizer.text(both).removeprefix(" ")
    assert whole == prompt + text  # a token spans the border


@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_it_says_what_transformers_says_of_prompt_and_text_together(folder: Path, tokenizer: Tokenizer, text: str) -> None:
    theirs: Any = AutoTokenizer.from_pretrained(folder)
    prompt, after = tokenizer.encode("def f(x):"), tokenizer.encode(text)
    after = [token for token in after if tokenizer.pieces[token]]  # without <s>
    options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    assert theirs.decode(prompt, **options) + tokenizer.text(after) == theirs.decode([*prompt, *after], **options)


def test_every_byte_of_a_long_character_may_be_a_token_of_its_own(tokenizer: Tokenizer) -> None:
    fox = [token for token in tokenizer.encode("🦊") if tokenizer.pieces[token].strip()]
    assert len(fox) == 4
    for given in range(4):
        sample = completion(tokenizer, fox[:given], limit=given, stop_words=(), sequences=())
        assert sample.text == ""
    assert tokenizer.text(fox) == "🦊"


def test_special_tokens_are_read_in_a_prompt_and_are_no_text(folder: Path, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(f"x{ends(folder)}")
    assert ids[-1] == tokenizer.end_ids[0]
    assert tokenizer.text(ids).strip() == "x"


def test_a_special_token_in_a_literal_range_is_plain_text(folder: Path, tokenizer: Tokenizer) -> None:
    end = ends(folder)
    text = f"x{end}y{end}"
    special = tokenizer.end_ids[0]
    assert prompt_ids(tokenizer, text, (), 99).count(special) == 2
    template_s_own = prompt_ids(tokenizer, text, (0, len(end) + 2), 99)
    assert [token for token in template_s_own if token == special] == [template_s_own[-1]]
    ids = prompt_ids(tokenizer, text, (0, len(text)), 99)
    assert special not in ids
    assert tokenizer.text(ids).replace(" ", "") == text


def test_blanks_that_are_a_token_of_their_own_stay_one(byte_level: Path) -> None:
    tokenizer = load_tokenizer(byte_level, [ends(byte_level)])
    code = "def f(x):\n    return x\n"
    assert prompt_ids(tokenizer, code, (0, len(code)), 99) == tuple(tokenizer.encode(code))


@pytest.mark.parametrize("text", [*TEXTS, *CODE, "if x < y: z = '|end|>'"], ids=repr)
def test_a_text_without_special_tokens_has_the_tokens_that_it_always_had(tokenizer: Tokenizer, text: str) -> None:
    assert prompt_ids(tokenizer, text, (0, len(text.encode())), 999) == tuple(tokenizer.encode(text))


def test_stop_sequences_are_found_in_what_a_model_writes(tokenizer: Tokenizer) -> None:
    for before in ("return x", "f(1)", "\n"):
        ids = tuple(tokenizer.encode(f"{before}\ndef"))
        assert any(ids[-len(token) :] == token for token in stop_sequences(tokenizer, ("\ndef ",)))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TierUnavailable, match=rf"the tokenizer's folder {tmp_path}/absent does not exist"):
        load_tokenizer(tmp_path / "absent", ["</s>"])


def test_an_end_token_that_the_tokenizer_lacks_is_named(byte_level: Path) -> None:
    with pytest.raises(TierUnavailable, match=rf"the tokenizer in {byte_level} cannot be used: it has no token '<\|im_end\|>'"):
        load_tokenizer(byte_level, ["<|im_end|>"])


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(TierUnavailable, match=rf"the tokenizer in {tmp_path} cannot be used: "):
        load_tokenizer(tmp_path, ["</s>"])
