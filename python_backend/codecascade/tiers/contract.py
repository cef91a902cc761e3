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
_OUTPUT_TYPES = {tensor.name: tensor.datatype for tensor in OUTPUTS}
FINISH_REASONS = ("stop", "length", "cancelled")
_MOST_LOG_PROB, _LEAST_LOG_PROB = 0.1, -1e9  # of a sequence: the sum is 0 or less, but for the rounding of an engine
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
    """The answer that output tensors hold. Without line_tokens a sequence cannot end at a line; without stop_word none are
    known, nor log-probabilities without LOG_PROB_OUTPUTS.

    Raises TierUnavailable for what the contract does not allow, so that another tier is asked and no such count is billed.
    """
    output = _Outputs(request, arrays)
    count = request.num_return_sequences
    texts = output.read("text_output", count)
    tokens = output.read("completion_tokens", count, request.max_tokens)
    reasons = output.read("finish_reason", count)
    for reason in reasons:
        if reason not in FINISH_REASONS:
            raise output.malformed(f"finish_reason is {reason!r}, must be {', '.join(FINISH_REASONS)}")
    stop_words = output.read("stop_word", count) if "stop_word" in arrays else [""] * count
    rows = zip(texts, tokens, reasons, _by_text(output, texts, max(tokens, default=0)), stop_words, strict=True)
    samples = tuple(Sample(*row, log_probs=log_probs) for row, log_probs in zip(rows, _log_probs(output, request), strict=True))
    return Generation(samples, output.read("prompt_tokens", 1, _most_prompt_tokens(request))[0])


def sequence_seed(seed: int, sequence: int) -> int:
    """The seed of one sequence of a call, the same for every runtime: 32 bits, and never the one that means "choose one"."""
    digest = hashlib.blake2b(f"{seed}/{sequence}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % _LLAMA_CPP_RANDOM_SEED


def _line_tokens(sample: Sample) -> Sequence[int]:
    """A tier that cannot end a text at a line says that fewer lines would have cost as much."""
    return sample.line_tokens or (sample.completion_tokens,) * _lines(sample.text)


class _Outputs:
    """Output tensors, checked against the table as they are read."""

    def __init__(self, request: GenerateRequest, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._tier = request.tier
        self.arrays = arrays

    def read(self, name: str, count: int, high: float = 0, low: float = 0) -> list[Any]:
        """The `count` elements of an output; numbers are low…high. Raises TierUnavailable."""
        datatype, array = _OUTPUT_TYPES[name], self.arrays.get(name)
        if array is None:
            raise self.malformed(f"{name} is missing")
        if array.dtype != _DTYPES[datatype]:
            raise self.malformed(f"{name} is of type {array.dtype}, must be {datatype}")
        if array.size != count:
            raise self.malformed(f"{name} has length {array.size}, must be {count}")
        values: list[Any] = array.reshape(-1).tolist()
        if datatype == "BYTES":
            return [self._text(name, value) for value in values]
        for value in values:
            if not low <= value <= high:  # NaN is in no range
                raise self.malformed(f"{name} is {value:g}, must be {low:g} to {high:g}")
        return values

    def malformed(self, what: str) -> TierUnavailable:
        return TierUnavailable(f"tier {self._tier}: its answer is malformed: {what}")

    def _text(self, name: str, value: Any) -> str:
        try:
            return bytes.decode(value)
        except TypeError:
            raise self.malformed(f"{name} holds {value!r:.40}, must be bytes") from None
        except UnicodeDecodeError as error:
            raise self.malformed(f"{name} is not UTF-8 (byte {error.start} of {len(value)})") from None


def _most_prompt_tokens(request: GenerateRequest) -> int:
    """More than any tokenizer makes of the prompt."""
    return 64 + 16 * len(request.text_input.encode("utf-8", "replace"))


def _by_text(output: _Outputs, texts: Sequence[str], most_tokens: int) -> list[tuple[int, ...]]:
    if "line_tokens" not in output.arrays:
        return [()] * len(texts)
    ends = list(itertools.accumulate(map(_lines, texts), initial=0))
    line_tokens = output.read("line_tokens", ends[-1], most_tokens)
    return [tuple(line_tokens[start:end]) for start, end in itertools.pairwise(ends)]


def _log_probs(output: _Outputs, request: GenerateRequest) -> list[LogProbs | None]:
    if LOG_PROB_OUTPUTS.isdisjoint(output.arrays):
        return [None] * request.num_return_sequences
    count = request.num_return_sequences
    totals, lowest = (output.read(name, count, _MOST_LOG_PROB, _LEAST_LOG_PROB) for name in ("cum_log_probs", "min_log_prob"))
    tokens = output.read("log_prob_tokens", count, request.max_tokens)
    return [LogProbs(*row) if row[2] else None for row in zip(totals, lowest, tokens, strict=True)]


def _lines(text: str) -> int:
    """The lines that `line_tokens` counts; a text has at least one."""
    return text.count("\n") + 1
