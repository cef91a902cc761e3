"""A checkpoint for the fake of the LLM API: a tokenizer of single characters, in an order in which one can count."""

from __future__ import annotations

import string
from pathlib import Path

END_TOKENS = ("<end>", "<other end>")  # in the order of their ids, which is after "z"


def counting_checkpoint(folder: Path) -> Path:
    """a, b, c … z with a line feed behind p, the end tokens, then everything else."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    counted = string.ascii_lowercase.replace("p", "pĊ")
    others = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - set(counted))
    vocabulary = {piece: number for number, piece in enumerate([*counted, *END_TOKENS, *others])}
    library = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens(list(END_TOKENS))
    PreTrainedTokenizerFast(tokenizer_object=library, eos_token=END_TOKENS[0]).save_pretrained(folder)
    (folder / "config.json").write_text("{}")
    return folder
