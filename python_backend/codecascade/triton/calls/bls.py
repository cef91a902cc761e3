"""Tiers and sandbox as nested calls (BLS) to other models of the same Triton."""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from codecascade.deployment import Deployment
from codecascade.errors import InvalidRequest, SandboxUnavailable, TierUnavailable
from codecascade.tiers.contract import OUTPUTS, GenerateRequest, Generation, read_generation, request_arrays
from codecascade.triton import sandbox_contract
from codecascade.triton.calls.names import CALL, CREDENTIALS, GIVE_UP
from codecascade.triton.tensors import tensor, texts
from codecascade.triton.tier_contract import REFUSAL
from codecascade.types import Candidate, TestLine, VerdictMatrix

CALLS_IN_FLIGHT = 256  # nested calls to one model at a time; each holds a thread while it waits
PULSE_S = 5.0  # seconds between two checks that a model with calls under way still lives
WATCH_S = 0.2  # seconds between two looks at the calls under way
STOP_AGAIN_S = 0.2  # seconds between two stop requests to a model that is stopped by requests
_DEAD = "its process has ended"
# What Triton puts before the sentence of an ensemble's step.
_WRAPPED = re.compile(r"^(\[request id: [^\]]*\] )?(in ensemble '[^']*', )?")

Inputs = Callable[[], list[Any]]  # makes input tensors; a tensor can be sent only once


class CallFailed(Exception):
    """A nested call failed. invalid: the request was to blame. dead: the model's process has ended."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence.removeprefix(REFUSAL))
        self.invalid = sentence.startswith(REFUSAL)
        self.dead = sentence == _DEAD


class BlsModel:
    """One model of this Triton. It has threads of its own, so a model that hangs cannot starve calls to the others.

    Calls block in threads instead of awaiting `async_exec`: that runs in the loop's one default executor, whose threads all
    models would share, costs more for each call, and cannot be given up.
    A model whose process dies never answers the calls under way, and Triton reports nothing; it only refuses new calls. So
    while calls are under way, `pulse` (input tensors that the model refuses at once) checks that it still lives.
    stop: for a model that is not ours, makes the request that stops the call of a given name; its calls carry their name as
    request id. Such a request may overtake the call, so it is repeated until the call has ended.
    """

    def __init__(
        self,
        name: str,
        outputs: Sequence[str],
        timeout_s: float,
        pulse: Inputs,
        stop: Callable[[str], Any] | None = None,
    ) -> None:
        self._name = name
        self._outputs = list(outputs)
        self._timeout_s = timeout_s
        self._pulse = pulse
        self._stop = stop
        self._stopping: set[asyncio.Future[None]] = set()
        self._under_way: dict[asyncio.Future[Any], float] = {}  # since when
        self._secret = secrets.token_hex(
            16
        )  # in the names of its calls; drawn once, because every draw releases the interpreter's lock
        self._numbers = itertools.count()
        self._watch: asyncio.Task[None] | None = None
        self._threads = ThreadPoolExecutor(CALLS_IN_FLIGHT, thread_name_prefix=name)
        self._giving_up = ThreadPoolExecutor(1, thread_name_prefix=f"{name}: giving up")

    async def __call__(self, inputs: Inputs) -> dict[str, NDArray[Any]]:
        """Output tensors by name. A caller that is cancelled stops the model's work. Raises CallFailed."""
        if self._watch is None:
            self._watch = asyncio.ensure_future(self._watch_calls())
        name = f"{self._secret}-{next(self._numbers)}"
        call = asyncio.get_running_loop().create_future()
        ended = self._start(self._request(inputs, {CALL: name}), call)
        self._under_way[call] = time.monotonic()
        try:
            response = await call
        except BaseException:
            self._give_up(name, inputs, ended)
            raise
        finally:
            del self._under_way[call]
        return _outputs_of(response)

    def _start(self, request: Any, call: asyncio.Future[Any]) -> Future[None]:
        """Settle `call` with the response or the exception. Lighter than run_in_executor, which is most of the overhead.

        The returned future is done when the model has answered, whatever became of `call` meanwhile.
        """
        return self._threads.submit(_execute, request, asyncio.get_running_loop(), call)

    def _give_up(self, name: str, inputs: Inputs, ended: Future[None]) -> None:
        if self._stop is None:
            self._giving_up.submit(self._request(inputs, {GIVE_UP: name}).exec)
        else:
            stopping = asyncio.ensure_future(self._stop_until(ended, name, self._stop))
            self._stopping.add(stopping)
            stopping.add_done_callback(self._stopping.discard)

    async def _stop_until(self, ended: Future[None], name: str, stop: Callable[[str], Any]) -> None:
        loop = asyncio.get_running_loop()
        while not ended.done():
            await loop.run_in_executor(self._giving_up, stop(name).exec)
            await asyncio.wait({asyncio.wrap_future(ended)}, timeout=STOP_AGAIN_S)

    async def _watch_calls(self) -> None:
        pulse_s = time.monotonic()
        while True:
            await asyncio.sleep(WATCH_S)
            now = time.monotonic()
            for call, since in self._under_way.items():
                if now - since > self._timeout_s:
                    _fail(call, f"no answer within {self._timeout_s:g} s")
            if now - min(self._under_way.values(), default=now) > PULSE_S < now - pulse_s:
                pulse_s = now
                if await self._is_dead():
                    for call in self._under_way:
                        _fail(call, _DEAD)

    async def _is_dead(self) -> bool:
        """False also when the pulse itself is not answered: then the timeout of the calls decides."""
        try:
            answer = asyncio.get_running_loop().create_future()
            self._start(self._request(self._pulse, {}), answer)
            _outputs_of(await asyncio.wait_for(answer, PULSE_S))
        except CallFailed as error:
            return error.dead
        except asyncio.TimeoutError:
            pass
        return False

    def _request(self, inputs: Inputs, parameters: dict[str, str]) -> Any:
        return pb_utils.InferenceRequest(
            request_id=parameters.get(CALL, "") if self._stop else "",
            model_name=self._name,
            inputs=inputs(),
            requested_output_names=self._outputs,
            parameters=parameters if self._stop else {**CREDENTIALS, **parameters},
        )


def _execute(request: Any, loop: asyncio.AbstractEventLoop, call: asyncio.Future[Any]) -> None:
    try:
        result = request.exec()
    except pb_utils.TritonModelException as error:
        result = error
    loop.call_soon_threadsafe(_settle, call, result)


def _settle(call: asyncio.Future[Any], result: Any) -> None:
    if not call.done():
        call.set_result(result)


def _fail(call: asyncio.Future[Any], sentence: str) -> None:
    if not call.done():
        call.set_exception(CallFailed(sentence))


def _outputs_of(response: Any) -> dict[str, NDArray[Any]]:
    if isinstance(response, pb_utils.TritonModelException):
        raise CallFailed(_sentence(response)) from response
    if response.has_error():
        raise CallFailed(_sentence(response.error().message()))
    return {output.name(): output.as_numpy() for output in response.output_tensors()}


class BlsTiers:
    """`generate` of every tier of a deployment that this Triton serves."""

    def __init__(self, deployment: Deployment) -> None:
        names = [output.name for output in OUTPUTS]
        self._models = {
            name: BlsModel(name, names, tier.timeout_s, pulse=lambda: [texts("text_input", [""])])
            for name, tier in deployment.tiers.items()
            if tier.url is None
        }

    async def generate(self, request: GenerateRequest) -> Generation:
        """Raises TierUnavailable, or InvalidRequest when the tier refuses the request."""
        try:
            arrays = await self._models[request.tier](lambda: _tensors(request_arrays(request)))
        except CallFailed as error:
            kind = InvalidRequest if error.invalid else TierUnavailable
            raise kind(f"tier {request.tier}: {error}") from error
        return read_generation(request, arrays)


class BlsSandbox:
    """The `sandbox` model."""

    def __init__(self, model: str = sandbox_contract.MODEL) -> None:
        pulse = sandbox_contract.program_arrays([""], [""])
        self._model = BlsModel(model, sandbox_contract.OUTPUTS, sandbox_contract.TIMEOUT_S, pulse=lambda: _tensors(pulse))

    async def run(self, candidates: Sequence[Candidate], test_lines: Sequence[TestLine]) -> VerdictMatrix:
        """Raises SandboxUnavailable."""
        try:
            arrays = await self._model(lambda: _tensors(sandbox_contract.sources(candidates, test_lines)))
        except CallFailed as error:
            raise SandboxUnavailable(str(error)) from error
        return sandbox_contract.read_matrix(arrays, (len(candidates), len(test_lines)))


def _tensors(arrays: Mapping[str, NDArray[Any]]) -> list[Any]:
    return [tensor(name, array) for name, array in arrays.items()]


def _sentence(error: Any) -> str:
    """The first line of an error. The rest is a traceback, which the failing model has logged."""
    line = _WRAPPED.sub("", str(error).strip().split("\n", 1)[0])
    return _DEAD if line.startswith("Stub process") else line
