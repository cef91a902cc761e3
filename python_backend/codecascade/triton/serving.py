"""The background loop on which a Python model answers its requests.

`execute` hands requests to an asyncio loop and returns; each answer goes out through its request's response sender. So a model
works on many requests at once while its clients make ordinary unary calls.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import triton_python_backend_utils as pb_utils

from codecascade.errors import (
    Cancelled,
    CascadeError,
    DeadlineReached,
    InvalidRequest,
    Overloaded,
    SandboxUnavailable,
    TierUnavailable,
)
from codecascade.triton.arrival import context_of_now
from codecascade.triton.calls.gate import Gate, Slot
from codecascade.triton.calls.names import ALIVE, CALL, GIVE_UP, REFUSAL, TOKEN_VARIABLE, is_trusted

_REMEMBERED = 4096  # names that were given up before their calls arrived
_CANCEL_POLL_S = 0.1  # asking Triton about one request takes 0.03 ms
# Names of pb_utils.TritonError codes: the stub adds TritonError to the module only after it has imported the model.
_CODES = {
    TierUnavailable: "UNAVAILABLE",
    SandboxUnavailable: "UNAVAILABLE",
    Overloaded: "UNAVAILABLE",  # Triton 2.51 has no RESOURCE_EXHAUSTED for Python models
    DeadlineReached: "CANCELLED",  # nor DEADLINE_EXCEEDED; UNAVAILABLE would invite to try again
    Cancelled: "CANCELLED",
}
_STRANGER = f"this model answers only the cascade: the request parameter token must be the server's {TOKEN_VARIABLE}"

Answer = Callable[[Any], Coroutine[Any, Any, list[Any]]]


class Serving:
    """A background asyncio loop that answers a model's requests with `answer(request) -> output tensors`.

    threads: blocking calls at a time; a nested BLS call holds one thread.
    nested: whether other models call this one. Triton 2.51 makes every error of a nested call INTERNAL; the sentence of an
    InvalidRequest then starts with REFUSAL, so that the calling model can tell it from a failure.
    guarded: answer only requests with the token of calls/names.py.
    When a caller goes away, or a calling model gives up, `answer` is cancelled, once.
    A CascadeError becomes its gRPC code and sentence. Anything else becomes INTERNAL, with the traceback in Triton's log only.
    """

    def __init__(self, answer: Answer, threads: int = 8, *, nested: bool = False, guarded: bool = False) -> None:
        self._answer = answer
        self._refusal = REFUSAL if nested else ""
        self._guarded = guarded
        self._calls: dict[str, asyncio.Task[list[Any]]] = {}
        self._given_up: deque[str] = deque(maxlen=_REMEMBERED)
        self.bound("the model", sys.maxsize)
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(ThreadPoolExecutor(threads))
        self._thread = threading.Thread(target=self.loop.run_forever, name="serving", daemon=True)
        self._thread.start()
        self._open: dict[asyncio.Task[list[Any]], _Open] = {}
        asyncio.run_coroutine_threadsafe(self._cancel_abandoned(), self.loop)

    def bound(self, name: str, max_requests: int) -> None:
        """From now on, more requests at a time than this are Overloaded at once. name: of the model, in words."""
        self.door = Gate(name, max_requests, max_queue=0)
        """Its `in_flight` are the requests that are worked on."""

    def submit(self, requests: Sequence[Any]) -> None:
        self.loop.call_soon_threadsafe(self._start, requests, context=context_of_now())

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine on the loop from another thread (start-up, shut-down) and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def close(self, last: Coroutine[Any, Any, None] | None = None) -> None:
        """Cancel what is under way, run `last` and end the loop."""
        self.run(_cancel_all())
        if last:
            self.run(last)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    def _start(self, requests: Sequence[Any]) -> None:
        for request in requests:
            sender = request.get_response_sender()
            named = json.loads(request.parameters() or "{}")
            if ALIVE in named:
                sender.send(pb_utils.InferenceResponse([]), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                continue
            if self._guarded and not is_trusted(named):
                sender.send(_error(_STRANGER, "UNSUPPORTED"), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                continue
            if GIVE_UP in named:
                self._give_up(named[GIVE_UP].split(","))
                sender.send(_error("given up", "CANCELLED"), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                continue
            try:
                slot = self.door.enter_now()
            except Overloaded as error:
                sender.send(_error(str(error), _CODES[Overloaded]), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                continue
            call = named.get(CALL, "")
            work = self.loop.create_task(self._answer(request))
            self._open[work] = _Open(sender, self.loop.time(), call, slot)
            work.add_done_callback(self._send)
            if call in self._given_up:
                work.cancel()
            elif call:
                self._calls[call] = work

    def _send(self, work: asyncio.Task[list[Any]]) -> None:
        done = self._open.pop(work)
        self._calls.pop(done.call, None)
        done.sender.send(_response(work, self._refusal), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        done.slot.leave()

    def _give_up(self, calls: Sequence[str]) -> None:
        """End these calls. The message may overtake a call, so the names of others are remembered."""
        for call in calls:
            work = self._calls.pop(call, None)
            if work:
                work.cancel()
            else:
                self._given_up.append(call)

    async def _cancel_abandoned(self) -> None:
        """Looks only at requests that take a while: it costs a message to another process. A tenth of the time."""
        asking_s = 0.0
        while True:
            await asyncio.sleep(max(_CANCEL_POLL_S, 9 * asking_s))
            now_s = self.loop.time()
            started_before = now_s - _CANCEL_POLL_S
            for work, request in list(self._open.items()):
                if not request.cancelled and request.started < started_before and request.sender.is_cancelled():
                    request.cancelled = True
                    work.cancel()
            asking_s = self.loop.time() - now_s


@dataclass(slots=True)
class _Open:
    """A request that is being worked on."""

    sender: Any
    started: float
    """On the loop's clock."""
    call: str
    """Its name, if the caller gave one."""
    slot: Slot
    cancelled: bool = False


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _response(work: asyncio.Task[list[Any]], refusal: str) -> Any:
    try:
        return pb_utils.InferenceResponse(work.result())
    except asyncio.CancelledError:
        return _error("the caller cancelled the request", "CANCELLED")
    except InvalidRequest as error:
        return _error(refusal + str(error), "INVALID_ARG")
    except CascadeError as error:
        return _error(str(error), _CODES.get(type(error), "INTERNAL"))
    except Exception as error:
        _log_traceback(error)
        return _error(f"internal error ({type(error).__name__}); the server's log has the details", "INTERNAL")


def grpc_code(error: Exception) -> str:
    """The name of the gRPC status that an error of `answer` becomes."""
    return "INVALID_ARGUMENT" if isinstance(error, InvalidRequest) else _CODES.get(type(error), "INTERNAL")


def _error(sentence: str, code: str) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(sentence, getattr(pb_utils.TritonError, code)))


def _log_traceback(error: BaseException) -> None:
    import traceback

    pb_utils.Logger.log_error("".join(traceback.format_exception(error)))
