"""Tiers and sandbox as nested calls (BLS) to other models of the same Triton."""

from __future__ import annotations

import asyncio
import functools
import itertools
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from codecascade.deployment import Deployment
from codecascade.errors import SandboxUnavailable, TierUnavailable
from codecascade.tiers.contract import (
    DEFAULT_PRIORITY,
    INPUTS,
    OUTPUTS,
    GenerateRequest,
    Generation,
    read_generation,
    request_arrays,
)
from codecascade.triton import sandbox_contract
from codecascade.triton.calls.failures import CallFailed
from codecascade.triton.calls.gate import Gate, Slot
from codecascade.triton.calls.names import CALL, CREDENTIALS, GIVE_UP
from codecascade.triton.calls.threads import KEPT, limits_of, shares
from codecascade.triton.settings import read_server_settings
from codecascade.triton.tensors import tensor
from codecascade.types import Candidate, TestLine, VerdictMatrix

PULSE_S = 5.0  # seconds between two checks that a model with calls under way still lives
WATCH_S = 0.2  # seconds between two looks at the calls under way
STOP_AGAIN_S = 0.2  # seconds between two stop requests to a model that is stopped by requests
LOST_S = 60.0  # seconds after which a call that was given up and has not ended never will
_MESSAGES = 8  # threads for messages besides calls; a model that hangs or dies holds at most two of them
_DEAD = "its process has ended"
# What Triton puts before the sentence of an ensemble's step.
_WRAPPED = re.compile(r"^(\[request id: [^\]]*\] )?(in ensemble '[^']*', )?")

Arrays = Mapping[str, NDArray[Any]]


@dataclass(slots=True, eq=False)
class _Call:
    """A nested call that Triton has not answered: it holds a thread."""

    answer: asyncio.Future[Any]
    since_s: float
    slot: Slot | None
    lost: bool = False
    """Whether it will never be answered."""


class BlsModel:
    """One model of this Triton. It has threads of its own, so a model that hangs cannot starve calls to the others.

    Calls block in threads instead of awaiting `async_exec`: that runs in the loop's one default executor, whose threads all
    models would share, costs more for each call, and cannot be given up.
    A model whose process dies never answers the calls under way, and Triton reports nothing; it only refuses new calls. So
    while calls are under way, `pulse` (inputs that the model refuses at once) checks that it still lives.
    threads: calls that Triton has not answered, at most; None: all that there are.
    stop: for a model that is not ours, makes the request that stops the call of a given name; its calls carry their name as
    request id. Such a request may overtake the call, so it is repeated until the call has ended.
    """

    def __init__(
        self,
        name: str,
        outputs: Sequence[str],
        timeout_s: float,
        pulse: Arrays,
        threads: int | None = None,
        stop: Callable[[str], Any] | None = None,
    ) -> None:
        self._name = name
        self._outputs = list(outputs)
        self._timeout_s = timeout_s
        self._pulse = pulse
        self._stop = stop
        self._stopping: set[asyncio.Future[None]] = set()
        self._unanswered: dict[str, _Call] = {}  # by name; the oldest first
        self._abandoned: list[str] = []  # names of calls that are to be given up
        self._answered_s = 0.0  # when the last call was answered
        self._pulsing = _Message()
        self._giving_up = _Message()
        self._secret = secrets.token_hex(
            16
        )  # in the names of its calls; drawn once, because every draw releases the interpreter's lock
        self._numbers = itertools.count()
        self._watch: asyncio.Task[None] | None = None
        threads = threads or read_server_settings().nested_calls - KEPT
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._messages = ThreadPoolExecutor(_MESSAGES, thread_name_prefix=f"{name}: messages")

    @property
    def lost(self) -> int:
        """Calls that will never be answered. Their threads are lost until this model's process starts again."""
        return sum(call.lost for call in self._unanswered.values())

    async def __call__(self, arrays: Arrays, slot: Slot | None = None) -> dict[str, NDArray[Any]]:
        """Output tensors by name. A caller that is cancelled stops the model's work. Raises CallFailed.

        slot: left when the model no longer works on the call, which may be long after the caller has gone.
        """
        loop = asyncio.get_running_loop()
        if self._watch is None:
            self._watch = asyncio.ensure_future(self._watch_calls())
        name = f"{self._secret}-{next(self._numbers)}"
        request = self._request(arrays, {CALL: name})
        call = self._unanswered[name] = _Call(loop.create_future(), time.monotonic(), slot)
        # Lighter than run_in_executor, which is most of the overhead.
        ended = self._threads.submit(_execute, request, loop, functools.partial(self._answered, name))
        try:
            response = await call.answer
        except BaseException:
            self._give_up(name, ended)
            raise
        return _outputs_of(response)

    def _answered(self, name: str, response: Any) -> None:
        call = self._unanswered.pop(name)
        self._answered_s = time.monotonic()
        if call.slot:
            call.slot.leave()
        if not call.answer.done():
            call.answer.set_result(response)

    def _give_up(self, name: str, ended: Future[None]) -> None:
        call = self._unanswered.get(name)
        if call is None or call.lost:
            return
        asyncio.get_running_loop().call_later(LOST_S, self._lose, name)
        if self._stop is None:
            self._abandoned.append(name)
            self._send_give_ups()
        else:
            stopping = asyncio.ensure_future(self._stop_until(ended, name, self._stop))
            self._stopping.add(stopping)
            stopping.add_done_callback(self._stopping.discard)

    def _send_give_ups(self) -> None:
        """One message at a time, with the names of all calls that were abandoned meanwhile."""
        if self._abandoned and self._giving_up.may_go(self._answered_s):
            names, self._abandoned = self._abandoned, []
            request = self._request(self._pulse, {GIVE_UP: ",".join(names)})
            self._giving_up.go(self._send(request), lambda _: self._send_give_ups())

    async def _stop_until(self, ended: Future[None], name: str, stop: Callable[[str], Any]) -> None:
        while not ended.done():
            await self._send(stop(name))
            await asyncio.wait({asyncio.wrap_future(ended)}, timeout=STOP_AGAIN_S)

    def _send(self, request: Any) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(self._messages, _executed, request)

    def _lose(self, name: str) -> None:
        call = self._unanswered.get(name)
        if call and not call.lost:
            call.lost = True
            if call.slot:
                call.slot.lose()

    async def _watch_calls(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            now = time.monotonic()
            for call in self._unanswered.values():
                if now - call.since_s > self._timeout_s:
                    _fail(call.answer, CallFailed(f"no answer within {self._timeout_s:g} s"))
            self._send_give_ups()  # those that a message without an answer has held up
            oldest_s = next((call.since_s for call in self._unanswered.values() if not call.lost), now)
            if now - oldest_s > PULSE_S < now - self._pulsing.sent_s and self._pulsing.may_go(self._answered_s):
                self._pulsing.go(self._send(self._request(self._pulse, {})), self._pulsed)

    def _pulsed(self, pulse: asyncio.Future[Any]) -> None:
        try:
            _outputs_of(pulse.result())
        except CallFailed as error:
            if error.dead:
                self._fail_calls_before(self._pulsing.sent_s)

    def _fail_calls_before(self, sent_s: float) -> None:
        for call in self._unanswered.values():
            if call.since_s < sent_s and not call.lost:
                call.lost = True
                _fail(call.answer, CallFailed(_DEAD, dead=True))
                if call.slot:
                    call.slot.leave()

    def _request(self, arrays: Arrays, parameters: dict[str, str]) -> Any:
        return pb_utils.InferenceRequest(
            request_id=parameters.get(CALL, "") if self._stop else "",
            model_name=self._name,
            inputs=[tensor(name, array) for name, array in arrays.items()],
            requested_output_names=self._outputs,
            parameters=parameters if self._stop else {**CREDENTIALS, **parameters},
        )


class _Message:
    """One message at a time. One that a dead process never answers is followed by another once the model answers calls again."""

    def __init__(self) -> None:
        self.sent_s = 0.0
        self._answer: asyncio.Future[Any] | None = None

    def may_go(self, answered_s: float) -> bool:
        """answered_s: when the model last answered a call."""
        return self._answer is None or self._answer.done() or self.sent_s + PULSE_S < answered_s

    def go(self, answer: asyncio.Future[Any], then: Callable[[asyncio.Future[Any]], None]) -> None:
        self.sent_s, self._answer = time.monotonic(), answer
        answer.add_done_callback(then)


def _execute(request: Any, loop: asyncio.AbstractEventLoop, answered: Callable[[Any], None]) -> None:
    loop.call_soon_threadsafe(answered, _executed(request))


def _executed(request: Any) -> Any:
    """The response, or the exception in its place."""
    try:
        return request.exec()
    except pb_utils.TritonModelException as error:
        return error


def _fail(answer: asyncio.Future[Any], error: CallFailed) -> None:
    if not answer.done():
        answer.set_exception(error)


def _outputs_of(response: Any) -> dict[str, NDArray[Any]]:
    if isinstance(response, pb_utils.TritonModelException):
        raise _failure(response) from response
    if response.has_error():
        raise _failure(response.error().message())
    return {output.name(): output.as_numpy() for output in response.output_tensors()}


class BlsTiers:
    """`generate` of every tier of a deployment that this Triton serves."""

    def __init__(self, deployment: Deployment) -> None:
        local = {name: tier for name, tier in deployment.tiers.items() if tier.url is None}
        share = _shares(deployment)
        outputs = [output.name for output in OUTPUTS]
        pulse = {"text_input": INPUTS[0].array([""])}
        self._models = {name: BlsModel(name, outputs, tier.timeout_s, pulse, share[name][1]) for name, tier in local.items()}
        self.gates = {name: Gate(f"tier {name}", share[name][0], tier.max_queue) for name, tier in local.items()}

    async def generate(self, request: GenerateRequest) -> Generation:
        """Raises TierUnavailable, Overloaded, or InvalidRequest when the tier refuses the request."""
        name = request.tier
        read = functools.partial(read_generation, request)
        try:
            return await self.gates[name].ask(self._models[name], request_arrays(request), read, request.priority)
        except CallFailed as error:
            raise error.told_as(f"tier {name}", TierUnavailable) from error


class BlsSandbox:
    """The `sandbox` model."""

    def __init__(self, deployment: Deployment, model: str = sandbox_contract.MODEL) -> None:
        max_in_flight, threads = _shares(deployment)[sandbox_contract.MODEL]
        pulse = sandbox_contract.program_arrays([""], [""])
        self._model = BlsModel(model, sandbox_contract.OUTPUTS, sandbox_contract.TIMEOUT_S, pulse, threads)
        self.gate = Gate("the sandbox", max_in_flight, deployment.sandbox_max_queue)

    async def run(
        self, candidates: Sequence[Candidate], test_lines: Sequence[TestLine], priority: int = DEFAULT_PRIORITY
    ) -> VerdictMatrix:
        """Raises SandboxUnavailable, Overloaded."""
        read = functools.partial(sandbox_contract.read_matrix, shape=(len(candidates), len(test_lines)))
        try:
            return await self.gate.ask(self._model, sandbox_contract.sources(candidates, test_lines), read, priority)
        except CallFailed as error:
            if error.overloaded:
                raise error.overloaded from error
            raise SandboxUnavailable(str(error)) from error


def _shares(deployment: Deployment) -> dict[str, tuple[int, int]]:
    return shares(limits_of(deployment), read_server_settings().nested_calls)


def _failure(error: Any) -> CallFailed:
    """With the first line of an error. The rest is a traceback, which the failing model has logged."""
    line = _WRAPPED.sub("", str(error).strip().split("\n", 1)[0])
    dead = line.startswith("Stub process")
    return CallFailed(_DEAD if dead else line, dead=dead)
