"""How a call to another server ends when nobody waits for it any more. The server here notes what reaches it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
import pytest
from codecascade.triton.calls.failures import CallFailed
from codecascade.triton.calls.names import CALL, GIVE_UP
from codecascade.triton.calls.remote import RemoteModel
from tritonclient.grpc import service_pb2, service_pb2_grpc

ARRAYS = {"number": np.array([1], np.int32)}


@dataclass
class Noting(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers a call when it is given up, as Serving does; one that is deaf never does."""

    deaf: bool = False
    begun: list[str] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    _ends: dict[str, asyncio.Event] = field(default_factory=dict)

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        parameters = {name: value.string_param for name, value in request.parameters.items()}
        if GIVE_UP in parameters:
            self.given_up.append(parameters[GIVE_UP])
            if not self.deaf:
                self._ends[parameters[GIVE_UP]].set()
            await context.abort(grpc.StatusCode.CANCELLED, "given up")
        name = parameters[CALL]
        self._ends[name] = asyncio.Event()
        self.begun.append(name)
        try:
            await self._ends[name].wait()
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        return service_pb2.ModelInferResponse(model_name=request.model_name)


@asynccontextmanager
async def model_of(noting: Noting, timeout_s: float = 60.0) -> AsyncIterator[RemoteModel]:
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(noting, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    model = RemoteModel(f"127.0.0.1:{port}", "far", None, timeout_s)
    yield model
    await model.close()
    await server.stop(None)


async def until(holds: Callable[[], object]) -> None:
    while not holds():  # noqa: ASYNC110 - the server sets no events
        await asyncio.sleep(0.01)


async def test_a_cancelled_call_is_given_up_by_name_and_not_cancelled_by_grpc() -> None:
    noting = Noting()
    async with model_of(noting) as model:
        calls = [asyncio.ensure_future(model(ARRAYS)) for _ in range(3)]
        await until(lambda: len(noting.begun) == 3)
        for call in calls[:2]:
            call.cancel()
        await asyncio.wait(calls[:2])
        assert all(call.cancelled() for call in calls[:2])
        await until(lambda: len(noting.given_up) == 2)
        assert not calls[2].done()
        calls[2].cancel()
        await until(lambda: len(noting.given_up) == 3)
        await until(lambda: not model._ending)
    assert sorted(noting.given_up) == sorted(noting.begun)
    assert len(set(noting.begun)) == 3
    assert noting.cancelled == []


async def test_a_call_that_takes_too_long_is_given_up_too() -> None:
    noting = Noting()
    async with model_of(noting, timeout_s=0.2) as model:
        with pytest.raises(CallFailed, match=r"^no answer within 0\.2 s$"):
            await model(ARRAYS)
        await until(lambda: not model._ending)
    assert noting.given_up == noting.begun
    assert noting.cancelled == []


async def test_a_server_that_ignores_it_is_told_by_grpc_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codecascade.triton.calls.remote._GIVE_UP_S", 0.5)
    noting = Noting(deaf=True)
    async with model_of(noting, timeout_s=0.2) as model:
        with pytest.raises(CallFailed):
            await model(ARRAYS)
        await until(lambda: noting.cancelled)
    assert len(noting.given_up) >= 2
    assert set(noting.given_up) == {*noting.begun} == {*noting.cancelled}


async def test_a_model_that_is_closed_leaves_no_call() -> None:
    noting = Noting(deaf=True)
    async with model_of(noting) as model:
        call = asyncio.ensure_future(model(ARRAYS))
        await until(lambda: noting.begun)
        call.cancel()
        await asyncio.wait({call})
        await until(lambda: noting.given_up)
        await model.close()
        await until(lambda: noting.cancelled)
    assert noting.cancelled == noting.begun
