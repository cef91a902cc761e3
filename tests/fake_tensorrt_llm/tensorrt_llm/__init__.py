"""What the LLM API of TensorRT-LLM looks like from outside, without a GPU: the names and parameters that are used here.

tests/unit/test_llm_api.py holds them against what was read of TensorRT-LLM. The model counts: after a token comes the next
one, and a seed shifts the count by one to nine where it is not greedy. It writes at the pace of the event loop, keeps its end_id
to itself, and returns a stop sequence, as told by include_stop_str_in_output.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .llmapi import KvCacheConfig

ABORTED: list[int] = []  # ids of the requests
LOADED: list[LLM] = []


@dataclass(kw_only=True)
class SamplingParams:
    end_id: int | None = None
    pad_id: int | None = None
    max_tokens: int = 32
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool = False
    n: int = 1
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    temperature: float | None = None
    detokenize: bool = True
    logprobs: int | None = None


class LLM:
    def __init__(
        self,
        model: str | Path,
        tokenizer: str | Path | None = None,
        tokenizer_mode: str = "auto",
        skip_tokenizer_init: bool = False,
        trust_remote_code: bool = False,
        tensor_parallel_size: int = 1,
        dtype: str = "auto",
        revision: str | None = None,
        tokenizer_revision: str | None = None,
        **kwargs: Any,
    ) -> None:
        if not (Path(model) / "config.json").exists():
            raise ValueError(f"{model} does not contain a config.json\nand more lines of it")
        self.arguments = {"tensor_parallel_size": tensor_parallel_size, "dtype": dtype, **kwargs}
        self.cache: KvCacheConfig = kwargs["kv_cache_config"]
        self.asked: list[SamplingParams] = []
        self.is_shut_down = False
        tokenizer_file = (Path(model) / "tokenizer.json").read_text(encoding="utf-8")
        self._vocabulary: dict[str, int] = json.loads(tokenizer_file)["model"]["vocab"]
        LOADED.append(self)

    def generate_async(
        self, inputs: list[int], sampling_params: SamplingParams | None = None, streaming: bool = False
    ) -> RequestOutput:
        assert sampling_params is not None
        self.asked.append(sampling_params)
        return RequestOutput(len(self.asked), inputs, sampling_params, self._words(sampling_params), streaming)

    def shutdown(self) -> None:
        self.is_shut_down = True

    def _words(self, params: SamplingParams) -> list[list[int]]:
        """Stop words become tokens without special ones; here every character is one."""
        texts = [params.stop] if isinstance(params.stop, str) else params.stop or []
        words = [[self._vocabulary[{"\n": "Ċ", " ": "Ġ"}.get(part, part)] for part in text] for text in texts]
        return words + [[part] for part in params.stop_token_ids or []]


@dataclass
class Logprob:
    logprob: float
    rank: int | None = None


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: list[int]
    finish_reason: str | None = None
    logprobs: list[dict[int, Logprob]] | None = None


class RequestOutput:
    def __init__(
        self, request_id: int, prompt: list[int], params: SamplingParams, words: list[list[int]], streaming: bool
    ) -> None:
        self.request_id = request_id
        self.outputs: list[CompletionOutput] = []
        self._prompt, self._params, self._words, self._streaming = prompt, params, words, streaming
        self._aborted = False

    def __await__(self) -> Any:
        return self.aresult().__await__()

    def abort(self) -> None:
        self._aborted = True
        ABORTED.append(self.request_id)

    async def aresult(self) -> RequestOutput:
        async for _ in self._writing():
            pass
        return self

    async def __aiter__(self) -> AsyncIterator[RequestOutput]:
        assert self._streaming, "the real one then gives the whole answer once"
        async for _ in self._writing():
            yield self

    async def _writing(self) -> AsyncIterator[None]:
        """Between two tokens, and at the end."""
        ids: list[int] = []
        params, token = self._params, self._prompt[-1]
        if params.max_tokens == FAILS_AT:
            raise RuntimeError("the executor died\nof a long story")
        greedy = params.top_k == 1
        while len(ids) < params.max_tokens and not self._aborted:
            token += 1 if greedy else 1 + (params.seed or 0) % 9
            if token >= (params.end_id or 0):
                break
            ids.append(token)
            if any(ids[-len(word) :] == word for word in self._words):
                ids = ids if params.include_stop_str_in_output else ids[: -len(self._words[0])]
                break
            self.outputs = [self._output(ids)]
            yield
            await asyncio.sleep(0)
        self.outputs = [self._output(ids)]
        yield

    def _output(self, ids: list[int]) -> CompletionOutput:
        """A token's log-probability is a hundredth of it, below zero. Another token is likelier."""
        told = [{token: Logprob(-token / 100, 2), 0: Logprob(0.0, 1)} for token in ids]
        return CompletionOutput(0, "", list(ids), logprobs=told if self._params.logprobs else None)


FAILS_AT = 13  # max_tokens of a request that fails, as one of the real LLM API may
