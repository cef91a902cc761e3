"""TensorRT-LLM's LLM API in this process, behind the tier contract: it loads a checkpoint from the hub, no engine is built.

Written for the LLM API of TensorRT-LLM 1.2 and 1.3, whose signatures are the same in what is used here. The sampler decides
whether a seed has an effect. The PyTorch sampler drew from one stream for all requests until NVIDIA/TensorRT-LLM's pull request
17172 (August 2026) gave each request its own. Without it, sampled texts differ from call to call; greedy ones do not.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from codecascade.errors import TierUnavailable
from codecascade.tiers.contract import GenerateRequest, Generation
from codecascade.tiers.trtllm.tokens import (
    Tokenizer,
    completion,
    engine_sampling,
    line_ends,
    prompt_ids,
    stop_sequences,
    with_lines,
)
from codecascade.types import LogProbs

# Variables that mpirun sets for a server that it starts. The LLM API starts its own ranks, which must not read them.
_MPI_JOB = ("OMPI_COMM_WORLD_", "OMPI_UNIVERSE_SIZE", "PMIX_RANK", "PMIX_NAMESPACE", "PMIX_SERVER_", "PMI_", "ORTE_")
_CACHED_STOP_WORDS = 256  # lists of stop words whose tokens are cached; a prompt style has two lists


@dataclass(frozen=True, slots=True)
class LlmApiSettings:
    """How the LLM API loads a checkpoint."""

    checkpoint: Path
    """A folder with the files of the hub."""
    dtype: str
    gpu_device_ids: tuple[int, ...]
    """The GPUs that the model is split over."""
    max_batch_size: int
    max_input_tokens: int
    """Of a prompt."""
    context_tokens: int
    """Prompt and completion together."""
    kv_cache_tokens: int
    """Of all running sequences together."""
    kv_cache_share: float
    """The most that the KV cache takes of the memory that is free after loading the model."""


class LlmApi:
    """A checkpoint loaded by TensorRT-LLM. Raises TierUnavailable if that fails. Make it before the process's first CUDA call."""

    def __init__(self, settings: LlmApiSettings, tokenizer: Tokenizer) -> None:
        self._settings = settings
        self._tokenizer = tokenizer
        self._stop_sequences = lru_cache(_CACHED_STOP_WORDS)(partial(stop_sequences, tokenizer))
        prepare_environment(os.environ, settings.gpu_device_ids)
        try:
            from tensorrt_llm import SamplingParams  # reads the environment, so it comes after prepare_environment

            self._sampling_params = SamplingParams
            self._llm = _load(settings)
        except Exception as error:
            reason = _sentence(error)
            raise TierUnavailable(f"the checkpoint {settings.checkpoint} cannot be loaded by TensorRT-LLM: {reason}") from error

    async def generate(self, request: GenerateRequest) -> Generation:
        """One sample per sequence. The seed of sequence j derives from (request.seed, j).

        A sequence that has max_lines lines is aborted. Tokens that TensorRT-LLM generates before it learns of that are neither
        read nor counted. Cancelling aborts the running sequences. Raises TierUnavailable, and InvalidRequest if the prompt is
        too long.
        """
        ids = prompt_ids(self._tokenizer, request.text_input, request.literal_ranges, self._settings.max_input_tokens)
        limit = min(request.max_tokens, self._settings.context_tokens - len(ids))
        sequences = self._stop_sequences(request.stop_words)
        answers = [
            self._llm.generate_async(
                list(ids),
                sampling_params=self._sampling(request, limit, sequences, seed),
                streaming=request.max_lines is not None,
            )
            for seed in request.seeds
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
        for tokens, log_probs in written:
            whole = completion(self._tokenizer, tokens, limit=limit, stop_words=request.stop_words, sequences=sequences)
            sample = with_lines(self._tokenizer, tokens, whole, request.max_lines)
            samples.append(replace(sample, log_probs=LogProbs.of(log_probs)))
        return Generation(tuple(samples), len(ids))

    async def _written(self, answer: Any, max_lines: int | None) -> tuple[list[int], list[float]]:
        """The tokens of an answer, which is aborted once it has max_lines lines, and their log-probabilities."""
        if max_lines is None:
            output = (await answer).outputs[0]
            return list(output.token_ids), _log_probs(output)
        tokens: list[int] = []
        log_probs: list[float] = []
        lines = 0
        async for partial_answer in answer:
            new = partial_answer.outputs[0].token_ids[len(tokens) :]
            tokens += new
            log_probs = _log_probs(partial_answer.outputs[0])
            lines += len(line_ends(self._tokenizer, new))
            if lines >= max_lines:
                answer.abort()
                break
        return tokens, log_probs[: len(tokens)]

    def close(self) -> None:
        self._llm.shutdown()

    def _sampling(self, request: GenerateRequest, limit: int, sequences: Sequence[Sequence[int]], seed: int) -> Any:
        """Stop sequences are passed as texts, which the LLM API turns into the same tokens; it returns the stop words too."""
        drawn = engine_sampling(request.temperature, request.top_p)
        first, *others = self._tokenizer.end_ids
        stop = [self._tokenizer.text(sequence) for sequence in sequences]
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
            logprobs=1,
        )


def _log_probs(output: Any) -> list[float]:
    """For each token the LLM API tells the likeliest tokens and the one that was chosen; some versions the latter alone."""
    told = zip(output.token_ids, output.logprobs or (), strict=False)
    return [known if isinstance(known, float) else known[token].logprob for token, known in told]


def prepare_environment(environ: MutableMapping[str, str], gpu_device_ids: Sequence[int]) -> None:
    """Make TensorRT-LLM and the ranks that it starts see these GPUs, and no MPI job around them."""
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
    """The first line of an error's text, or its type if the text is empty."""
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
