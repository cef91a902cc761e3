"""llama.cpp in this process, behind the tier contract: one model in a few slots, each with its share of the cores.

A slot decodes one sequence at a time. On a few CPU cores a batch of sequences is hardly faster than one after another, and the
batch's composition changes the low bits of the logits, which is enough to flip a token.

A slot has few threads. The threads of one evaluation synchronize after every operation. So on two cores, two slots of one thread
generate more than one slot of two threads, and a busy neighbour slows one slot, not all.

A call evaluates its whole prompt first, into an empty cache, and each of its sequences starts from that cache. The logits after
a prompt depend on how much of it was evaluated in one batch, that is, on what the cache held before.

So on one kind of CPU, the same prompt and seed give the same text, whatever ran before, in any slot, with any number of threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from codecascade.errors import Cancelled, InvalidRequest, TierUnavailable
from codecascade.tiers.contract import GenerateRequest, Generation
from codecascade.tiers.gguf import Vocabulary, read_vocabulary
from codecascade.tiers.special_tokens import SpecialTokens, template_of, too_long
from codecascade.types import LogProbs, Sample

# By default OpenMP's threads spin while they wait for each other: with two threads on two cores and one other busy process, that
# gives 2 tokens/s instead of 20. OpenMP reads this variable once, when it is loaded. A slot of one thread never waits.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
import xllamacpp

_BATCH_TOKENS = 64  # prompt tokens between two checks for cancellation; larger batches are no faster
_GGUF = b"GGUF"
_LOG_ERRORS = 1
_LISTEN_S = 60.0


class LlamaCpp:
    """A loaded GGUF model. Calls queue in the order of arrival. Raises TierUnavailable if the weights cannot be loaded."""

    def __init__(
        self,
        weights: Path,
        context_tokens: int,  # prompt and completion together
        slots: int,  # calls served at a time, at most one per core
    ) -> None:
        cores = len(os.sched_getaffinity(0))
        slots = min(slots, cores)
        servers = [_load(weights, context_tokens, threads=cores // slots) for _ in range(slots)]
        prompts = _prompts(weights)
        self._free = [_Slot(server, prompts) for server in servers]
        self._workers = ThreadPoolExecutor(slots, thread_name_prefix="llama.cpp")

    async def generate(self, request: GenerateRequest) -> Generation:
        """One sample per sequence. The seed of sequence j derives from (request.seed, j).

        Stop words are cut from the text, but their tokens count. If a text ends at max_tokens (finish_reason "length"), what may
        begin a stop word is cut from its end too. For max_lines and line_tokens, a line has ended when its line feed is
        known not to begin a stop word, often a token later. Cancelling stops the generation at its next token and frees its slot.
        Raises InvalidRequest if the prompt does not fit into the context.
        """
        cancelled = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._workers, self._generate, request, cancelled)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def close(self) -> None:
        """Wait for the running calls and drop the queued ones."""
        self._workers.shutdown(cancel_futures=True)
        self._free.clear()

    def _generate(self, request: GenerateRequest, cancelled: threading.Event) -> Generation:
        slot = self._free.pop()  # there are as many slots as workers
        try:
            return slot.generate(request, cancelled)
        finally:
            self._free.append(slot)


_Prompt: TypeAlias = "str | list[str | int]"
"""A prompt as llama.cpp takes it: a text, or texts and tokens in turn, of which each text is tokenized by itself."""


class _Prompts:
    """Makes prompts of texts, for one model."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._special = SpecialTokens(vocabulary.special)

    def of(self, text: str, literal_ranges: Sequence[int]) -> _Prompt:
        """llama.cpp takes a list of texts for as many prompts unless a token is among them: the characters alone are tokens."""
        first, *others = self._special.apart(text, literal_ranges)
        if not others:
            return first
        prompt: list[str | int] = [first]
        for character, part in zip(others[::2], others[1::2], strict=True):
            prompt += [*self._vocabulary.character_ids(character), part]
        return prompt


class _TooLong(Exception):
    """The prompt has more tokens than the context."""

    def __init__(self, tokens: int, context_tokens: int) -> None:
        super().__init__(tokens, context_tokens)
        self.tokens, self.context_tokens = tokens, context_tokens


class _Slot:
    """One llama.cpp server that answers one call at a time."""

    def __init__(self, server: Any, prompts: _Prompts) -> None:
        self._server = server
        self._prompts = prompts
        self._cached: _CachedPrompt | None = None

    def generate(self, request: GenerateRequest, cancelled: threading.Event) -> Generation:
        prompt = self._prompts.of(request.text_input, request.literal_ranges)
        try:
            prompt_tokens = self._read_prompt(prompt, cancelled)
        except _TooLong as refusal:
            raise InvalidRequest(self._sentence(refusal, request, cancelled)) from None
        return Generation(tuple(self._write(request, prompt, seed, cancelled) for seed in request.seeds), prompt_tokens)

    def _read_prompt(self, prompt: _Prompt, cancelled: threading.Event) -> int:
        """Fill the slot's cache with this prompt, evaluated from its start. Returns the number of prompt tokens."""
        if self._cached is None or self._cached.prompt != prompt:
            self._cached = None
            answer = self._ask({"prompt": prompt, "max_tokens": 0, "cache_prompt": False}, _Answer(cancelled))
            self._cached = _CachedPrompt(prompt, answer.prompt_tokens)
        return self._cached.tokens

    def _sentence(self, refusal: _TooLong, request: GenerateRequest, cancelled: threading.Event) -> str:
        template = template_of(request.text_input, request.literal_ranges)
        try:
            template_tokens = self._read_prompt(template, cancelled) if template else 0
        except _TooLong as alone:
            template_tokens = alone.tokens
        counted = too_long(refusal.tokens, refusal.context_tokens - 1, template_tokens)
        return f"{counted}: the context holds {refusal.context_tokens}, completion included"

    def _write(self, request: GenerateRequest, prompt: _Prompt, seed: int, cancelled: threading.Event) -> Sample:
        answer = self._ask(
            {
                "prompt": prompt,
                "cache_prompt": True,
                "max_tokens": request.max_tokens,
                "stop": request.stop_words,
                "samplers": ["temperature", "top_p"],
                "temperature": request.temperature,
                "top_p": request.top_p,
                "seed": seed,
                "logprobs": 1,
            },
            _Answer(cancelled, request.max_lines),
        )
        return answer.sample

    def _ask(self, body: dict[str, Any], answer: _Answer) -> _Answer:
        """Stream, because a stream can be ended between two chunks. Raises Cancelled, _TooLong, TierUnavailable.

        verbose: the last chunk names the stop word.
        """
        stream = {
            "stream": True,
            "verbose": True,
            "return_progress": True,
            "timings_per_token": True,
            "stream_options": {"include_usage": True},
        }
        self._server.handle_completions({**body, **stream}, answer.receive)
        if answer.cancelled.is_set():
            raise Cancelled("the caller cancelled the request")
        if answer.error is not None:
            raise _failure(answer.error)
        return answer


@dataclass(frozen=True, slots=True)
class _CachedPrompt:
    """The prompt that the slot's cache holds."""

    prompt: _Prompt
    tokens: int


class _Answer:
    """The chunks that a completion has streamed so far. Without max_lines, the stream ends by itself."""

    def __init__(self, cancelled: threading.Event, max_lines: int | None = None) -> None:
        self.cancelled = cancelled
        self.error: dict[str, Any] | None = None
        self.prompt_tokens = 0
        self._max_lines = max_lines
        self._text = ""
        self._tokens = 0
        self._line_tokens: list[int] = []  # of the lines that have ended
        self._finish_reason = "stop"
        self._stop_word = ""
        self._log_probs: list[float] = []

    def receive(self, chunk: dict[str, Any]) -> bool:
        """Add a chunk: one token (often without text), or the last chunk. Returns whether the answer is complete."""
        self.error = chunk.get("error")
        if self.error is None:
            choice = chunk["choices"][0]
            self._text += choice["text"]
            self._tokens = chunk["timings"]["predicted_n"]
            self._line_tokens += [self._tokens] * choice["text"].count("\n")
            told = choice.get("logprobs") or {"content": ()}
            self._log_probs += [token["logprob"] for token in told["content"]]
            if "usage" in chunk:
                self.prompt_tokens = chunk["usage"]["prompt_tokens"]
                self._finish_reason = choice["finish_reason"]
                self._stop_word = chunk["__verbose"]["stopping_word"]
        return self.cancelled.is_set() or self._has_enough_lines

    @property
    def sample(self) -> Sample:
        if self._has_enough_lines:
            lines = self._text.split("\n")[: self._max_lines]
            ends = tuple(self._line_tokens[: self._max_lines])
            return Sample("\n".join(lines), self._tokens, "stop", ends, log_probs=LogProbs.of(self._log_probs))
        ends = (*self._line_tokens, self._tokens)
        return Sample(
            self._text, self._tokens, self._finish_reason, ends, self._stop_word, log_probs=LogProbs.of(self._log_probs)
        )

    @property
    def _has_enough_lines(self) -> bool:
        return self._max_lines is not None and len(self._line_tokens) >= self._max_lines


def _failure(error: dict[str, Any]) -> Exception:
    if error.get("type") == "exceed_context_size_error":
        return _TooLong(error["n_prompt_tokens"], error["n_ctx"])
    return TierUnavailable(f"llama.cpp refused the request: {error['message']}")


def _load(weights: Path, context_tokens: int, threads: int) -> Any:
    _check(weights)
    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.n_ctx = context_tokens
    params.fit_params = False
    params.n_parallel = 1
    params.n_batch = params.n_ubatch = _BATCH_TOKENS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.cache_ram_mib = 0  # no prompt cache beside the slot's own
    params.cache_idle_slots = False
    params.n_ctx_checkpoints = 0
    params.endpoint_slots = False
    params.ui = False
    params.verbosity = _LOG_ERRORS
    # The server has to listen somewhere: on a socket that nobody else can open and whose file is removed at once.
    with tempfile.TemporaryDirectory(prefix="codecascade-") as folder, _signal_handlers_kept():
        address = os.path.join(folder, "llama.cpp.sock")
        params.hostnames = [address]
        try:
            server = xllamacpp.Server(params)
        except RuntimeError as error:
            raise TierUnavailable(
                f"the weights file {weights} cannot be loaded: it is incomplete, llama.cpp does not support its model, "
                f"or the memory is too small for it and {context_tokens} tokens of context"
            ) from error
        _wait_until_it_listens(address)
        return server


def _wait_until_it_listens(address: str) -> None:
    """Wait, because a server that is closed before its thread accepts connections never ends, and close() then hangs."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_LISTEN_S)
            client.connect(address)
            client.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            client.recv(1)
    except OSError as error:
        raise TierUnavailable(f"llama.cpp was loaded, but its server does not answer: {error}") from error


def _prompts(weights: Path) -> _Prompts:
    try:
        return _Prompts(read_vocabulary(weights))
    except (ValueError, KeyError, struct.error) as error:
        raise TierUnavailable(f"the vocabulary in the weights file {weights} cannot be read: {error}") from error


def _check(weights: Path) -> None:
    try:
        with weights.open("rb") as file:
            magic = file.read(len(_GGUF))
    except OSError as error:
        raise TierUnavailable(f"the weights file {weights} cannot be read: {error.strerror}") from error
    if magic != _GGUF:
        raise TierUnavailable(f"the weights file {weights} is not a GGUF file")


@contextlib.contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Restore the handlers of SIGINT and SIGTERM: llama.cpp replaces those of its process (Triton's stub, a test run)."""
    libc = ctypes.CDLL(None)
    # A struct sigaction is smaller than 256 bytes.
    saved = {number: ctypes.create_string_buffer(256) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, action in saved.items():
        libc.sigaction(int(number), None, action)
    try:
        yield
    finally:
        for number, action in saved.items():
            libc.sigaction(int(number), action, None)
