"""The first model of an engine tier's ensemble: a prompt becomes what TensorRT-LLM reads.

It is told no end_id. The engine would keep that token to itself, and its log-probability. The end tokens are stop words instead,
which the engine returns.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codecascade.tiers.trtllm.tokenizer import load_tokenizer
from codecascade.tiers.trtllm.tokens import engine_sampling, prompt_ids, stop_sequences, word_list
from codecascade.triton.models.base import ServedModel
from codecascade.triton.parameters import Parameters
from codecascade.triton.tensors import Inputs, numbers
from codecascade.triton.tier_contract import read_request

_STOP_WORDS_KEPT = 256  # lists of stop words whose tokens are kept; a style of prompts has two


class TritonPythonModel(ServedModel):
    """Loaded by Triton. Start-up fails if the tokenizer or a parameter cannot be used."""

    def start(self, parameters: Parameters) -> None:
        self._max_tokens = parameters.integer("max_completion_tokens")
        self._max_input_tokens = parameters.integer("max_input_tokens")
        self._context_tokens = parameters.integer("context_tokens")
        self._tokenizer = load_tokenizer(Path(parameters.text("tokenizer")), parameters.texts("end_tokens"))
        self._stop_words = lru_cache(_STOP_WORDS_KEPT)(self._stop_words_list)

    async def answer(self, request: Any) -> list[Any]:
        wanted = read_request(Inputs(request), self.name, self._max_tokens)
        ids = prompt_ids(self._tokenizer, wanted.text_input, wanted.literal_ranges, self._max_input_tokens)
        sampling = engine_sampling(wanted.temperature, wanted.top_p)
        return [
            numbers("input_ids", [ids], np.int32),
            numbers("input_lengths", [[len(ids)]], np.int32),
            numbers("request_output_len", [[min(wanted.max_tokens, self._context_tokens - len(ids))]], np.int32),
            numbers("pad_id", [[self._tokenizer.end_ids[0]]], np.int32),
            numbers("stop_words_list", [self._stop_words(wanted.stop_words)], np.int32),
            numbers("temperature", [[sampling.temperature]], np.float32),
            numbers("runtime_top_k", [[sampling.top_k]], np.int32),
            numbers("runtime_top_p", [[sampling.top_p]], np.float32),
            numbers("seed", [[wanted.seed]], np.uint64),
        ]

    def _stop_words_list(self, words: tuple[str, ...]) -> NDArray[np.int32]:
        return word_list(stop_sequences(self._tokenizer, words))
