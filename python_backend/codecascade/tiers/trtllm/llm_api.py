"""TensorRT-LLM's LLM API in this process, behind the tier contract: a checkpoint as it is on the hub, no engine to build.

Written against the LLM API of TensorRT-LLM 1.2 and 1.3, whose signatures do not differ in what is used here. Whether a seed is
honoured is the sampler's matter: the PyTorch sampler drew from one stream for all requests until NVIDIA/TensorRT-LLM's pull
request 17172 (August 2026) gave each a stream of its own. Before, sampled texts differ from call to call; greedy ones do not.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from codecascade.errors import TierUnavailable
from codecascade.tiers.contract import GenerateRequest, Generation, sequence_seed
from codecascade.tiers.trtllm.tokens import (
    Tokenizer,
    completion,
    engine_sampling,
    line_ends,
    prompt_ids,
    stop_sequences,
    with_lines,
)

# What mpirun leaves in the environment of a server that it started. The LLM API starts its own ranks, which must not take it
# for theirs.
_MPI_JOB = ("OMPI_COMM_WORLD_", "OMPI_UNIVERSE_SIZE", "PMIX_RANK", "PMIX_NAMESPACE", "PMIX_SERVER_", "PMI_", "ORTE_")
_STOP_WORDS_KEPT = 256  # lists of stop words whose tokens are kept; a style of prompts has two


@dataclass(frozen=True, slots=True)
class LlmApiSettings:
    """checkpoint: a folder as on the hub. gpu_device_ids: as many as the model is split over.

    max_input_tokens: of a prompt. context_tokens: prompt and completion. kv_cache_tokens: of all sequences under way, in at most
    kv_cache_share of the memory that is free when the model is loaded.
    """

    checkpoint: Path
    dtype: str
    gpu_device_ids: tuple[int, ...]
    max_batch_size: int
    max_input_tokens: int
    context_tokens: int
    kv_cache_tokens: int
    kv_cache_share: float


class LlmApi:
    """Raises TierUnavailable if TensorRT-LLM cannot load the checkpoint. Make it where no CUDA call was made before."""

    def __init__(self, settings: LlmApiSettings, tokenizer: Tokenizer) -> None:
        self._settings = settings
        self._tokenizer = tokenizer
        self._stop_sequences = lru_cache(_STOP_WORDS_KEPT)(partial(stop_sequences, tokenizer))
        prepare_environment(os.environ, settings.gpu_device_ids)
        try:
            from tensorrt_llm import SamplingParams  # reads the environment: not before it is prepared

            self._sampling_params = SamplingParams
            self._llm = _load(settings)
        except Exception as error:
            reason = _sentence(error)
            raise TierUnavailable(f"the checkpoint {settings.checkpoint} cannot be loaded by TensorRT-LLM: {reason}") from error

    async def generate(self, request: GenerateRequest) -> Generation:
        """One sample per sequence; sequence j is drawn with a seed that follows from (request.seed, j).

        A sequence that has max_lines lines is aborted: what TensorRT-LLM wrote until it knew of that is neither seen nor counted.
        Cancelling aborts the sequences that are under way. Raises InvalidRequest if the prompt is too long, TierUnavailable.
        """
        ids = prompt_ids(self._tokenizer, request.text_input, self._settings.max_input_tokens)
        limit = min(request.max_tokens, self._settings.context_tokens - len(ids))
        sequences = self._stop_sequences(request.stop_words)
        answers = [
            self._llm.generate_async(
                list(ids),
                sampling_params=self._sampling(request, limit, sequences, sequence_seed(request.seed, sequence)),
                streaming=request.max_lines is not None,
            )
            for sequence in range(request.num_return_sequences)
        ]
        try:
            written = await asyncio.gather(*(self._written(answer, request.max_lines) for answer in answers))
        except BaseException as error:
            for answer in answers:
                answer.abort()
            if isinstance(error, Exception):
                raise TierUnavailable(f"TensorRT-LLM failed: {_sentence(error)}") from error
            raise
        samples = []
        for tokens in written:
            whole = completion(self._tokenizer, tokens, limit=limit, stop_words=request.stop_words, sequences=sequences)
            samples.append(with_lines(self._tokenizer, tokens, whole, request.max_lines))
        return Generation(tuple(samples), len(ids))

    async def _written(self, answer: Any, max_lines: int | None) -> list[int]:
        """The tokens of an answer, which has max_lines lines at most."""
        if max_lines is None:
            return list((await answer).outputs[0].token_ids)
        tokens: list[int] = []
        lines = 0
        async for so_far in answer:
            more = so_far.outputs[0].token_ids[len(tokens) :]
            tokens += more
            lines += len(line_ends(self._tokenizer, more))
            if lines >= max_lines:
                answer.abort()
                break
        return tokens

    def close(self) -> None:
        self._llm.shutdown()

    def _sampling(self, request: GenerateRequest, limit: int, sequences: Sequence[Sequence[int]], seed: int) -> Any:
        """Texts of stop sequences, which the LLM API turns into the same tokens again; it is told to return all of them."""
        drawn = engine_sampling(request.temperature, request.top_p)
        first, *others = self._tokenizer.end_ids
        stop = [self._tokenizer.text(each) for each in sequences]
        return self._sampling_params(
            max_tokens=limit,
            end_id=first,
            pad_id=first,
            stop=[text for text in stop if text] or None,
            stop_token_ids=others or None,
            include_stop_str_in_output=True,
            detokenize=False,
            temperature=drawn.temperature,
            top_k=drawn.top_k or None,
            top_p=drawn.top_p,
            seed=seed,
        )


def prepare_environment(environ: MutableMapping[str, str], gpu_device_ids: Sequence[int]) -> None:
    """What TensorRT-LLM and the ranks that it starts see: these GPUs, and no MPI job around them."""
    for key in [key for key in environ if key.startswith(_MPI_JOB)]:
        del environ[key]
    environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpu_device_ids))


def _load(settings: LlmApiSettings) -> Any:
    from tensorrt_llm import LLM
    from tensorrt_llm.llmapi import KvCacheConfig

    return LLM(
        model=str(settings.checkpoint),
        tensor_parallel_size=len(settings.gpu_device_ids),
        dtype=settings.dtype,
        max_batch_size=settings.max_batch_size,
        max_input_len=settings.max_input_tokens,
        max_seq_len=settings.context_tokens,
        kv_cache_config=KvCacheConfig(
            enable_block_reuse=True,
            max_tokens=settings.kv_cache_tokens,
            free_gpu_memory_fraction=settings.kv_cache_share,
        ),
    )


def _sentence(error: Exception) -> str:
    """The first line of an error that came with many, or its kind if it says nothing."""
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
