"""llama.cpp in this process, behind the tier contract: one model in a few slots, each with its share of the cores.

Why a slot decodes one sequence at a time. On a few CPU cores, sequences decoded side by side are hardly faster than one after
another, and a batch's composition changes the low bits of its logits, which is enough to flip a token. Why a slot has few
threads. The threads of one evaluation meet after every operation, so on two cores two slots of one thread write more than one
slot of two, and a busy neighbour slows one slot, not all. Why the prompt is read separately. The logits after a prompt also
depend on how much of it was read in one batch, that is, on what the cache held. So a call first reads its whole prompt into an
empty cache, and each of its sequences then starts from that same cache. On one kind of CPU, the same prompt and seed give the
same text, whatever ran before, in any slot and with any number of threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codecascade.errors import Cancelled, InvalidRequest, TierUnavailable
from codecascade.tiers.contract import GenerateRequest, Generation, sequence_seed
from codecascade.types import Sample

# OpenMP's threads spin while they wait for each other: with two threads on two cores and one other busy process, 2 tokens/s
# instead of 20. OpenMP reads this once, when it is loaded. A slot of one thread never waits.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
import xllamacpp

_BATCH_TOKENS = 64  # of a prompt, between two looks at whether the caller is still there; larger batches are no faster
_GGUF = b"GGUF"
_LOG_ERRORS = 1
_LISTEN_S = 60.0


class LlamaCpp:
    """weights: a GGUF file. context_tokens: prompt and completion together. slots: calls served at a time, cores permitting.

    Raises TierUnavailable if the weights cannot be loaded. Calls queue up in the order in which they came.
    """

    def __init__(self, weights: Path, context_tokens: int, slots: int) -> None:
        cores = len(os.sched_getaffinity(0))
        slots = min(slots, cores)
        self._free = [_Slot(weights, context_tokens, threads=cores // slots) for _ in range(slots)]
        self._workers = ThreadPoolExecutor(slots, thread_name_prefix="llama.cpp")

    async def generate(self, request: GenerateRequest) -> Generation:
        """One sample per sequence; sequence j is drawn with a seed that follows from (request.seed, j).

        Stop words are cut from the text, and are paid for. A text that ends at max_tokens (finish_reason "length") ends
        before what may have been the beginning of a stop word. A line has ended, for max_lines and line_tokens, when its line
        feed is known not to begin a stop word, often a token later. Cancelling stops the generation at its next token and gives
        its slot to the next call.
        Raises InvalidRequest if the prompt does not fit into the context.
        """
        gone = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._workers, self._generate, request, gone)
        except asyncio.CancelledError:
            gone.set()
            raise

    def close(self) -> None:
        """Waits for the calls under way, drops the rest."""
        self._workers.shutdown(cancel_futures=True)
        self._free.clear()

    def _generate(self, request: GenerateRequest, gone: threading.Event) -> Generation:
        slot = self._free.pop()  # there are as many slots as workers
        try:
            return slot.generate(request, gone)
        finally:
            self._free.append(slot)


class _Slot:
    """One llama.cpp server that answers one call at a time."""

    def __init__(self, weights: Path, context_tokens: int, threads: int) -> None:
        self._server = _load(weights, context_tokens, threads)
        self._read: _Read | None = None

    def generate(self, request: GenerateRequest, gone: threading.Event) -> Generation:
        prompt_tokens = self._read_prompt(request.text_input, gone)
        sequences = range(request.num_return_sequences)
        return Generation(tuple(self._write(request, sequence, gone) for sequence in sequences), prompt_tokens)

    def _read_prompt(self, text: str, gone: threading.Event) -> int:
        """Leaves the slot's cache holding this prompt, read from its start. Returns the prompt's tokens."""
        if self._read is None or self._read.text != text:
            self._read = None
            answer = self._ask({"prompt": text, "max_tokens": 0, "cache_prompt": False}, _Answer(gone))
            self._read = _Read(text, answer.prompt_tokens)
        return self._read.tokens

    def _write(self, request: GenerateRequest, sequence: int, gone: threading.Event) -> Sample:
        answer = self._ask(
            {
                "prompt": request.text_input,
                "cache_prompt": True,
                "max_tokens": request.max_tokens,
                "stop": request.stop_words,
                "samplers": ["temperature", "top_p"],
                "temperature": request.temperature,
                "top_p": request.top_p,
                "seed": sequence_seed(request.seed, sequence),
            },
            _Answer(gone, request.max_lines),
        )
        return answer.sample

    def _ask(self, body: dict[str, Any], answer: _Answer) -> _Answer:
        """Streams, because between two chunks an answer can be ended. Raises Cancelled, InvalidRequest, TierUnavailable."""
        stream = {
            "stream": True,
            "return_progress": True,
            "timings_per_token": True,
            "stream_options": {"include_usage": True},
        }
        self._server.handle_completions({**body, **stream}, answer.receive)
        if answer.gone.is_set():
            raise Cancelled("the caller cancelled the request")
        if answer.error is not None:
            raise _failure(answer.error)
        return answer


@dataclass(frozen=True, slots=True)
class _Read:
    """The prompt that the slot's cache holds."""

    text: str
    tokens: int


class _Answer:
    """What a stream of completion chunks has brought so far. max_lines: None: it ends by itself."""

    def __init__(self, gone: threading.Event, max_lines: int | None = None) -> None:
        self.gone = gone
        self.error: dict[str, Any] | None = None
        self.prompt_tokens = 0
        self._max_lines = max_lines
        self._text = ""
        self._tokens = 0
        self._line_tokens: list[int] = []  # of the lines that have ended
        self._finish_reason = "stop"

    def receive(self, chunk: dict[str, Any]) -> bool:
        """One more chunk: of one token, often without text, or the last one. Returns whether that is enough."""
        self.error = chunk.get("error")
        if self.error is None:
            choice = chunk["choices"][0]
            self._text += choice["text"]
            self._tokens = chunk["timings"]["predicted_n"]
            self._line_tokens += [self._tokens] * choice["text"].count("\n")
            if "usage" in chunk:
                self.prompt_tokens = chunk["usage"]["prompt_tokens"]
                self._finish_reason = choice["finish_reason"]
        return self.gone.is_set() or self._has_enough_lines

    @property
    def sample(self) -> Sample:
        if self._has_enough_lines:
            lines = self._text.split("\n")[: self._max_lines]
            return Sample("\n".join(lines), self._tokens, "stop", tuple(self._line_tokens[: self._max_lines]))
        return Sample(self._text, self._tokens, self._finish_reason, (*self._line_tokens, self._tokens))

    @property
    def _has_enough_lines(self) -> bool:
        return self._max_lines is not None and len(self._line_tokens) >= self._max_lines


def _failure(error: dict[str, Any]) -> Exception:
    if error.get("type") == "exceed_context_size_error":
        return InvalidRequest(
            f"text_input has {error['n_prompt_tokens']} tokens, allowed are at most {error['n_ctx'] - 1}: "
            f"the context holds {error['n_ctx']}, completion included"
        )
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
    params.cache_ram_mib = 0  # nothing is cached but what the slot holds
    params.cache_idle_slots = False
    params.n_ctx_checkpoints = 0
    params.endpoint_slots = False
    params.ui = False
    params.verbosity = _LOG_ERRORS
    # The server insists on listening: on a socket that nobody else can open, and whose name is gone at once.
    with tempfile.TemporaryDirectory(prefix="codecascade-") as folder, _signal_handlers_kept():
        address = os.path.join(folder, "llama.cpp.sock")
        params.hostnames = [address]
        try:
            server = xllamacpp.Server(params)
        except RuntimeError as error:
            raise TierUnavailable(
                f"the weights file {weights} cannot be loaded: it is not a whole GGUF model that llama.cpp knows, "
                f"or there is too little memory for it and {context_tokens} tokens of context"
            ) from error
        _wait_until_it_listens(address)
        return server


def _wait_until_it_listens(address: str) -> None:
    """A server that is closed before its thread accepts connections never ends, and neither does whoever closes it."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_LISTEN_S)
            client.connect(address)
            client.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            client.recv(1)
    except OSError as error:
        raise TierUnavailable(f"llama.cpp was loaded, but its server does not answer: {error}") from error


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
    """llama.cpp takes SIGINT and SIGTERM for itself; they belong to the process around it (Triton's stub, a test run)."""
    libc = ctypes.CDLL(None)
    saved = {
        number: ctypes.create_string_buffer(256) for number in (signal.SIGINT, signal.SIGTERM)
    }  # a struct sigaction is smaller
    for number, action in saved.items():
        libc.sigaction(int(number), None, action)
    try:
        yield
    finally:
        for number, action in saved.items():
            libc.sigaction(int(number), action, None)
