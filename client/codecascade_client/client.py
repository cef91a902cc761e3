"""The gRPC clients of the `cascade` model: AsyncCascadeClient, and CascadeClient for programs without asyncio.

Both have the same calls. A call has one deadline, `timeout_s`, for all of its tries. It is tried again only where nothing was
spent on it (see Retries). A call that its caller abandons ends on the server too.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import grpc  # type: ignore[import-untyped]
from codecascade.triton.calls.tls import Tls
from tritonclient.grpc import service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub
from typing_extensions import Self, Unpack

from codecascade_client.answers import Completion, Event, Health, Plans, read_completion, read_event, read_plans
from codecascade_client.attempts import NO_RETRIES, Attempts, Retries
from codecascade_client.channel import DEFAULT_URL, Connection
from codecascade_client.request import Options, infer_request
from codecascade_client.settings import Settings

MODEL, STREAM, PLANS = "cascade", "cascade_stream", "plans"
FAILED = "failed"
LAST = ("final", FAILED)  # of the events of a stream
DEFAULT_TIMEOUT_S = 600.0
_SHORT_S = 5.0  # for calls that generate nothing
# What asks for a server's health, in the order in which it is asked.
_HEALTH: Sequence[tuple[str, Any]] = (
    ("ServerLive", service_pb2.ServerLiveRequest()),
    ("ServerReady", service_pb2.ServerReadyRequest()),
    ("RepositoryIndex", service_pb2.RepositoryIndexRequest()),
)

OpenStream = Callable[[Attempts], Any]


class _Client:
    _stub: Any

    def __init__(
        self,
        url: str | Connection = DEFAULT_URL,
        tls: Tls | None = None,
        *,
        token: str | None = None,
        retries: Retries | None = None,
    ) -> None:
        """url: host:port, several IP:port with commas, or a Connection, which then says the rest too. token: a bearer's."""
        self._connection = url if isinstance(url, Connection) else Connection(url, tls, token)
        self._retries = retries or Retries()
        self._metadata = self._connection.call_metadata

    @classmethod
    def from_settings(cls, settings: Settings, retries: Retries | None = None) -> Self:
        return cls(settings.connection, retries=retries)

    @property
    def url(self) -> str:
        return self._connection.url

    def _attempts(self, timeout_s: float, retries: Retries | None = None) -> Attempts:
        return Attempts(self.url, timeout_s, retries or self._retries)

    def _channel(self, module: Any) -> Any:
        """module: grpc or grpc.aio."""
        where, tls = self._connection, self._connection.tls
        if tls:
            return module.secure_channel(where.target, tls.credentials(), options=where.options)
        return module.insecure_channel(where.target, options=where.options)

    def _opener(self, prompt: str, options: Mapping[str, Any]) -> OpenStream:
        """Without Triton's `triton_grpc_error`, which would give a failed stream a status: Triton 2.51 can crash of it."""
        request = infer_request(STREAM, prompt, options)
        return lambda attempts: self._stub.ModelStreamInfer(
            iter([request]), timeout=attempts.remaining_s(), metadata=self._metadata
        )


class AsyncCascadeClient(_Client):
    """An async context manager. Any number of concurrent calls share its connections. Cancelling a call ends it on the server.

    Raises ValueError for an address that is none.
    """

    async def __aenter__(self) -> Self:
        self._open = self._channel(grpc.aio)
        self._stub = GRPCInferenceServiceStub(self._open)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.close()

    async def complete(self, prompt: str, *, timeout_s: float = DEFAULT_TIMEOUT_S, **options: Unpack[Options]) -> Completion:
        """Finish a prompt. Raises RequestFailed."""
        request = infer_request(MODEL, prompt, options)
        return read_completion(await self._call(self._stub.ModelInfer, request, self._attempts(timeout_s)))

    def stream(self, prompt: str, *, timeout_s: float = DEFAULT_TIMEOUT_S, **options: Unpack[Options]) -> AsyncEvents:
        """Finish a prompt and tell what happens meanwhile; the last event has the completion. Raises RequestFailed.

        Use it as `async with client.stream(prompt) as events: async for event in events:`. Leaving the block ends the request.
        """
        return AsyncEvents(self._opener(prompt, options), self._attempts(timeout_s))

    async def plans(self, *, timeout_s: float = _SHORT_S) -> Plans:
        """The plans that the server can run now. Raises RequestFailed."""
        request = service_pb2.ModelInferRequest(model_name=PLANS)
        return read_plans(await self._call(self._stub.ModelInfer, request, self._attempts(timeout_s)))

    async def health(self, *, timeout_s: float = _SHORT_S) -> Health:
        """How the server is. Raises RequestFailed if it cannot be reached, at once."""
        attempts = self._attempts(timeout_s, NO_RETRIES)
        return _health(*[await self._call(getattr(self._stub, name), request, attempts) for name, request in _HEALTH])

    async def _call(self, method: Any, request: Any, attempts: Attempts) -> Any:
        while True:
            try:
                return await method(request, timeout=attempts.remaining_s(), metadata=self._metadata)
            except grpc.aio.AioRpcError as error:
                pause_s = attempts.pause_s(error)
            await asyncio.sleep(pause_s)


class _Stream:
    """One request that is told event by event, and its tries."""

    def __init__(self, open_call: OpenStream, attempts: Attempts) -> None:
        self._open_call, self._attempts = open_call, attempts
        self._call = open_call(attempts)
        self._begun = False

    def close(self) -> None:
        self._call.cancel()


class AsyncEvents(_Stream):
    """The events of one request, as an async iterator. `close`, or leaving its `async with` block, ends the request."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while True:
            try:
                reply = await self._call.read()
                if reply is grpc.aio.EOF:
                    raise StopAsyncIteration
                event = _event(reply)
                if event.name in LAST:  # a stream that is cancelled while it ends can crash Triton 2.51
                    with suppress(grpc.RpcError):
                        while await self._call.read() is not grpc.aio.EOF:
                            pass
                _check(event)
            except grpc.RpcError as error:
                pause_s = self._attempts.pause_s(error, begun=self._begun)
            else:
                self._begun = True
                return event
            await asyncio.sleep(pause_s)
            self._call = self._open_call(self._attempts)


class CascadeClient(_Client):
    """A context manager. Threads may share it. An interrupt (Ctrl-C) ends the call on the server too.

    Raises ValueError for an address that is none.
    """

    def __enter__(self) -> Self:
        self._open = self._channel(grpc)
        self._stub = GRPCInferenceServiceStub(self._open)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def complete(self, prompt: str, *, timeout_s: float = DEFAULT_TIMEOUT_S, **options: Unpack[Options]) -> Completion:
        """Finish a prompt. Raises RequestFailed."""
        request = infer_request(MODEL, prompt, options)
        return read_completion(self._call(self._stub.ModelInfer, request, self._attempts(timeout_s)))

    def stream(self, prompt: str, *, timeout_s: float = DEFAULT_TIMEOUT_S, **options: Unpack[Options]) -> Events:
        """Finish a prompt and tell what happens meanwhile; the last event has the completion. Raises RequestFailed.

        Use it as `with client.stream(prompt) as events: for event in events:`. Leaving the block ends the request.
        """
        return Events(self._opener(prompt, options), self._attempts(timeout_s))

    def plans(self, *, timeout_s: float = _SHORT_S) -> Plans:
        """The plans that the server can run now. Raises RequestFailed."""
        request = service_pb2.ModelInferRequest(model_name=PLANS)
        return read_plans(self._call(self._stub.ModelInfer, request, self._attempts(timeout_s)))

    def health(self, *, timeout_s: float = _SHORT_S) -> Health:
        """How the server is. Raises RequestFailed if it cannot be reached, at once."""
        attempts = self._attempts(timeout_s, NO_RETRIES)
        return _health(*[self._call(getattr(self._stub, name), request, attempts) for name, request in _HEALTH])

    def _call(self, method: Any, request: Any, attempts: Attempts) -> Any:
        while True:
            call = method.future(request, timeout=attempts.remaining_s(), metadata=self._metadata)
            try:
                return call.result()
            except grpc.RpcError as error:
                pause_s = attempts.pause_s(error)
            except BaseException:
                call.cancel()
                raise
            time.sleep(pause_s)


class Events(_Stream):
    """The events of one request, as an iterator. `close`, from any thread, or leaving its `with` block, ends the request."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        while True:
            try:
                event = _event(next(self._call))
                if event.name in LAST:  # a stream that is cancelled while it ends can crash Triton 2.51
                    with suppress(grpc.RpcError):
                        deque(self._call, maxlen=0)
                _check(event)
            except grpc.RpcError as error:
                pause_s = self._attempts.pause_s(error, begun=self._begun)
            else:
                self._begun = True
                return event
            time.sleep(pause_s)
            self._call = self._open_call(self._attempts)


class _Failed(grpc.RpcError):  # type: ignore[misc]
    """What a stream says of its failure, as gRPC says it of a call."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self._code, self._sentence = grpc.StatusCode[code], sentence

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._sentence


def _event(reply: service_pb2.ModelStreamInferResponse) -> Event:
    """The event that a reply tells. What Triton refuses before the model sees it, it tells without a status."""
    if not reply.error_message:
        return read_event(reply.infer_response)
    codes = {"Request for unknown model": "NOT_FOUND", "overloaded: ": "UNAVAILABLE"}
    told = (code for words, code in codes.items() if words in reply.error_message)
    return Event(FAILED, {"code": next(told, "INVALID_ARGUMENT"), "message": reply.error_message})


def _check(event: Event) -> None:
    """Raises what the request failed with."""
    if event.name == FAILED:
        raise _Failed(event.fields["code"], event.fields["message"])


def _health(live: Any, ready: Any, index: Any) -> Health:
    models = {model.name: model.state == "READY" for model in index.models}
    return Health(live.live, ready.ready and models.get(MODEL, False), models)
