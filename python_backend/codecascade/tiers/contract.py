"""The tier contract: what every tier is asked and what it answers, whatever runs it.

INPUTS and OUTPUTS are its one table. The rendered Triton configurations, both sides of a call and the table in the README
follow from it.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codecascade.errors import TierUnavailable
from codecascade.types import LogProbs, Sample

_DTYPES: Mapping[str, Any] = {"BYTES": np.object_, "INT32": np.int32, "UINT64": np.uint64, "FP32": np.float32, "BOOL": np.bool_}
_LLAMA_CPP_RANDOM_SEED = 0xFFFFFFFF  # llama.cpp takes it for "choose one"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output."""

    name: str
    datatype: str
    """Triton's name: BYTES (UTF-8), INT32, UINT64, FP32, BOOL."""
    length: int
    """Elements; -1: any number."""
    meaning: str
    low: float = 0
    high: float = 0
    """The range of allowed values, for numbers."""
    default: Any = None
    """What an absent input means; None: as `meaning` says."""
    required: bool = False

    def array(self, values: Sequence[Any]) -> NDArray[Any]:
        """(length,) of the tensor's type. Half a surrogate pair becomes `?`: it has no UTF-8 form."""
        if self.datatype == "BYTES":
            return np.array([value.encode("utf-8", "replace") for value in values], np.object_)
        return np.array(values, _DTYPES[self.datatype])


MAX_SEQUENCES = 100
"""Of one call: the largest k of a plan."""

MAX_PRIORITY, DEFAULT_PRIORITY = 9, 5

INPUTS = (
    Tensor("text_input", "BYTES", 1, "the prompt, exactly as the model reads it", required=True),
    Tensor(
        "literal_ranges",
        "INT32",
        -1,
        "byte offsets in `text_input`, rising: start and end of each part in which special tokens are plain text",
        default=(),
    ),
    Tensor("max_tokens", "INT32", 1, "tokens of one sequence at most; default: what the tier writes at most", low=1),
    Tensor("temperature", "FP32", 1, "0: greedy", low=0, high=2, default=0.0),
    Tensor("top_p", "FP32", 1, "share of the probability that is drawn from", low=0, high=1, default=1.0),
    Tensor("seed", "UINT64", 1, "the same seed gives the same texts", high=2**64 - 1, default=0),
    Tensor("stop_words", "BYTES", -1, "words that end a sequence and are cut from its text", default=()),
    Tensor("num_return_sequences", "INT32", 1, "sequences that the prompt is completed by", low=1, high=MAX_SEQUENCES, default=1),
    Tensor("first_sequence", "INT32", 1, "the number of the first sequence, which decides what it draws", high=10_000, default=0),
    Tensor("max_lines", "INT32", 1, "lines of one sequence at most; default: no limit", low=1, high=2**31 - 1),
)
OUTPUTS = (
    Tensor("text_output", "BYTES", -1, "one text per sequence"),
    Tensor("completion_tokens", "INT32", -1, "tokens generated, per sequence"),
    Tensor("line_tokens", "INT32", -1, "per line of each text: the tokens of a sequence that ends there"),
    Tensor("prompt_tokens", "INT32", 1, "tokens of the prompt, which all sequences share"),
    Tensor("finish_reason", "BYTES", -1, "per sequence: stop, length or cancelled"),
    Tensor("stop_word", "BYTES", -1, "per sequence: the stop word that ended it; empty if something else did"),
    Tensor(
        "cum_log_probs",
        "FP32",
        -1,
        "per sequence: sum of the log-probabilities of its tokens, at temperature 1 (an engine's: at the request's)",
    ),
    Tensor("min_log_prob", "FP32", -1, "per sequence: the lowest of them"),
    Tensor("log_prob_tokens", "INT32", -1, "per sequence: how many these are; 0 where the runtime tells none"),
)
LOG_PROB_OUTPUTS = frozenset({"cum_log_probs", "min_log_prob", "log_prob_tokens"})
# What one sequence is asked and answers, behind a tier that runs its sequences one by one (a TensorRT-LLM ensemble).
_NOT_ASKED_OF_SEQUENCES = ("num_return_sequences", "first_sequence", "max_lines")
SEQUENCE_INPUTS = tuple(tensor for tensor in INPUTS if tensor.name not in _NOT_ASKED_OF_SEQUENCES)
RETURN_LOG_PROBS = Tensor("return_log_probs", "BOOL", 1, "whether LOG_PROB_OUTPUTS are told", default=False)
SEQUENCE_OUTPUTS = tuple(tensor for tensor in OUTPUTS if tensor.name != "line_tokens")


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One call: a field for each of INPUTS, and the tier."""

    tier: str
    text_input: str
    stop_words: tuple[str, ...]
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    num_return_sequences: int
    max_lines: int | None = None
    first_sequence: int | None = None
    literal_ranges: tuple[int, ...] = ()
    priority: int = DEFAULT_PRIORITY
    """Of calls that wait, the highest comes first. No tensor: it ends at what waits for a tier."""

    @property
    def seeds(self) -> list[int]:
        """The seed of each sequence."""
        first = self.first_sequence or 0
        return [sequence_seed(self.seed, first + sequence) for sequence in range(self.num_return_sequences)]


@dataclass(frozen=True, slots=True)
class Generation:
    """What a call gave: a sample for each sequence, and the tokens of the prompt that they share."""

    samples: tuple[Sample, ...]
    prompt_tokens: int


Generate = Callable[[GenerateRequest], Awaitable[Generation]]


def request_arrays(request: GenerateRequest) -> dict[str, NDArray[Any]]:
    """The input tensors of a call, by name."""
    values = {tensor: getattr(request, tensor.name) for tensor in INPUTS}
    return {
        tensor.name: tensor.array([value] if tensor.length == 1 else value)
        for tensor, value in values.items()
        if value not in (None, ())
    }


def response_arrays(generation: Generation) -> dict[str, NDArray[Any]]:
    """The output tensors of an answer, by name."""
    samples = generation.samples
    values: dict[str, Sequence[Any]] = {
        "text_output": [sample.text for sample in samples],
        "completion_tokens": [sample.completion_tokens for sample in samples],
        "line_tokens": [tokens for sample in samples for tokens in _line_tokens(sample)],
        "prompt_tokens": [generation.prompt_tokens],
        "finish_reason": [sample.finish_reason for sample in samples],
        "stop_word": [sample.stop_word for sample in samples],
        "cum_log_probs": [sample.log_probs.total if sample.log_probs else 0.0 for sample in samples],
        "min_log_prob": [sample.log_probs.lowest if sample.log_probs else 0.0 for sample in samples],
        "log_prob_tokens": [sample.log_probs.tokens if sample.log_probs else 0 for sample in samples],
    }
    return {tensor.name: tensor.array(values[tensor.name]) for tensor in OUTPUTS}


def read_generation(request: GenerateRequest, arrays: Mapping[str, NDArray[Any]]) -> Generation:
    """The answer that output tensors hold. Without line_tokens a sequence cannot end at a line; without
    stop_word and log_prob_tokens none are known.

    Raises TierUnavailable for another number of sequences than was asked for, or of line_tokens than there are lines.
    """
    texts = [text.decode("utf-8", "replace") for text in arrays["text_output"].reshape(-1)]
    if len(texts) != request.num_return_sequences:
        raise TierUnavailable(f"tier {request.tier}: {len(texts)} sequences, asked for {request.num_return_sequences}")
    stop_words = arrays["stop_word"].reshape(-1) if "stop_word" in arrays else [b""] * len(texts)
    rows = zip(texts, arrays["completion_tokens"].reshape(-1), arrays["finish_reason"].reshape(-1), stop_words, strict=True)
    samples = tuple(
        Sample(text, int(tokens), reason.decode(), line_tokens, stop_word.decode(), log_probs=log_probs)
        for (text, tokens, reason, stop_word), line_tokens, log_probs in zip(
            rows, _by_text(request, texts, arrays), _log_probs(texts, arrays), strict=True
        )
    )
    return Generation(samples, int(arrays["prompt_tokens"].reshape(-1)[0]))


def sequence_seed(seed: int, sequence: int) -> int:
    """The seed of one sequence of a call, the same for every runtime: 32 bits, and never the one that means "choose one"."""
    digest = hashlib.blake2b(f"{seed}/{sequence}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % _LLAMA_CPP_RANDOM_SEED


def _line_tokens(sample: Sample) -> Sequence[int]:
    """A tier that cannot end a text at a line says that fewer lines would have cost as much."""
    return sample.line_tokens or (sample.completion_tokens,) * _lines(sample.text)


def _by_text(request: GenerateRequest, texts: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> list[tuple[int, ...]]:
    if "line_tokens" not in arrays:
        return [()] * len(texts)
    ends = list(itertools.accumulate(map(_lines, texts), initial=0))
    line_tokens = arrays["line_tokens"].reshape(-1).tolist()
    if len(line_tokens) != ends[-1]:
        raise TierUnavailable(f"tier {request.tier}: {len(line_tokens)} line_tokens for {ends[-1]} lines")
    return [tuple(line_tokens[start:end]) for start, end in itertools.pairwise(ends)]


def _log_probs(texts: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> list[LogProbs | None]:
    if "log_prob_tokens" not in arrays:
        return [None] * len(texts)
    columns = [arrays[name].reshape(-1).tolist() for name in ("cum_log_probs", "min_log_prob", "log_prob_tokens")]
    return [LogProbs(total, lowest, tokens) if tokens else None for total, lowest, tokens in zip(*columns, strict=True)]


def _lines(text: str) -> int:
    """The lines that `line_tokens` counts; a text has at least one."""
    return text.count("\n") + 1
