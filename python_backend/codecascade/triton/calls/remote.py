"""Tiers and sandbox of other Tritons, over gRPC. Imports without Triton and, until a call is made, without tritonclient."""

from __future__ import annotations

import asyncio
import functools
import itertools
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from codecascade.deployment import MAX_QUEUE, SANDBOX_MAX_IN_FLIGHT, Deployment
from codecascade.errors import InvalidRequest, SandboxUnavailable, TierUnavailable
from codecascade.tiers.contract import DEFAULT_PRIORITY, GenerateRequest, Generation, read_generation, request_arrays
from codecascade.triton import sandbox_contract
from codecascade.triton.calls.failures import CallFailed
from codecascade.triton.calls.gate import Gate, Slot
from codecascade.triton.calls.names import CALL, CREDENTIALS, GIVE_UP
from codecascade.triton.calls.tls import Tls
from codecascade.types import Candidate, TestLine, VerdictMatrix

# A name with several addresses is called in turn. The other options are tritonclient's own.
_OPTIONS = [
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A server that was started again is found within a second; gRPC's own wait grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]

MAX_IN_FLIGHT = 1024  # calls to a tier that sets no limit of its own
_GIVE_UP_AGAIN_S = 0.2  # seconds between two requests to end a call: with several servers, one request reaches one of them
_GIVE_UP_S = 5.0  # seconds after which a call that does not end is cancelled by gRPC


class Tiers(Protocol):
    """Some tiers, and what stands before each."""

    gates: dict[str, Gate]

    async def generate(self, request: GenerateRequest) -> Generation: ...


class RemoteModel:
    """A model at url (host:port). Must be made and used in one event loop. Cancelling the caller ends the call.

    It ends as a nested call does: a second request gives up its name. Cancellation by gRPC comes last, because it can crash a
    Triton before 2.59 (triton-inference-server/server, pull requests 7840, 8078 and 8220).
    """

    def __init__(self, url: str, model: str, tls: Tls | None, timeout_s: float) -> None:
        self._url, self._model, self._tls, self._timeout_s = url, model, tls, timeout_s
        self._client: Any = None
        self._secret = secrets.token_hex(16)
        self._numbers = itertools.count()
        self._ending: set[asyncio.Task[None]] = set()

    async def __call__(self, arrays: Mapping[str, NDArray[Any]], slot: Slot | None = None) -> dict[str, NDArray[Any]]:
        """arrays: input tensors, by name. Returns the output tensors, by name. Raises CallFailed.

        slot: left when the call has ended, which may be after the caller has gone.
        """
        from tritonclient.utils import InferenceServerException  # here, because offline tools do not need it

        name = f"{self._secret}-{next(self._numbers)}"
        call = asyncio.ensure_future(self._infer(arrays, {CALL: name}))
        try:
            result = await asyncio.wait_for(asyncio.shield(call), self._timeout_s)
        except InferenceServerException as error:
            raise CallFailed(error.message(), refused=error.status() == "StatusCode.INVALID_ARGUMENT") from error
        except asyncio.TimeoutError:
            raise CallFailed(f"no answer within {self._timeout_s:g} s") from None
        finally:
            if slot:
                call.add_done_callback(lambda _: slot.leave())
            if not call.done():
                ending = asyncio.ensure_future(self._end(call, name, arrays))
                self._ending.add(ending)
                ending.add_done_callback(self._ending.discard)
        return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}

    async def close(self) -> None:
        for ending in self._ending:
            ending.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _end(self, call: asyncio.Task[Any], name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Give up a call until it has ended, and cancel it if it does not end."""
        requests: list[asyncio.Task[Any]] = []
        try:
            while not call.done() and len(requests) * _GIVE_UP_AGAIN_S < _GIVE_UP_S:
                requests.append(asyncio.ensure_future(self._infer(arrays, {GIVE_UP: name})))
                await asyncio.wait({call}, timeout=_GIVE_UP_AGAIN_S)
            await asyncio.wait(requests, timeout=_GIVE_UP_AGAIN_S)
        finally:
            for left in (call, *requests):
                left.cancel()  # changes nothing where it has ended
            await asyncio.gather(call, *requests, return_exceptions=True)

    async def _infer(self, arrays: Mapping[str, NDArray[Any]], parameters: dict[str, str]) -> Any:
        return await self._connected().infer(self._model, infer_inputs(arrays), parameters={**CREDENTIALS, **parameters})

    def _connected(self) -> Any:
        if self._client is None:
            from tritonclient.grpc.aio import InferenceServerClient

            credentials = self._tls.credentials() if self._tls else None
            self._client = InferenceServerClient(self._url, creds=credentials, channel_args=_OPTIONS)
        return self._client


def infer_inputs(arrays: Mapping[str, NDArray[Any]]) -> list[Any]:
    """Input tensors as tritonclient sends them."""
    from tritonclient.grpc import InferInput
    from tritonclient.utils import np_to_triton_dtype

    return [
        InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)).set_data_from_numpy(array)
        for name, array in arrays.items()
    ]


class RemoteTiers:
    """`generate` of the tiers that have a url. Must be made and used in one event loop."""

    def __init__(self, deployment: Deployment, tls: Tls | None = None) -> None:
        tiers = {name: tier for name, tier in deployment.tiers.items() if tier.url is not None}
        self._places = {name: f" at {tier.url}" for name, tier in tiers.items()}
        self._models = {name: RemoteModel(str(tier.url), name, tls, tier.timeout_s) for name, tier in tiers.items()}
        self.gates = {
            name: Gate(f"tier {name}", tier.max_in_flight or MAX_IN_FLIGHT, tier.max_queue) for name, tier in tiers.items()
        }

    def __contains__(self, tier: str) -> bool:
        return tier in self._models

    async def generate(self, request: GenerateRequest) -> Generation:
        """Raises TierUnavailable naming the other server, Overloaded, or InvalidRequest when the tier refuses the request."""
        name = request.tier
        read = functools.partial(read_generation, request)
        try:
            return await self.gates[name].ask(self._models[name], request_arrays(request), read, request.priority)
        except CallFailed as error:
            raise error.told_as(f"tier {name}", TierUnavailable, self._places[name]) from error

    async def close(self) -> None:
        for model in self._models.values():
            await model.close()


class AllTiers:
    """`generate` of every tier of a deployment: `local` for those without a url. Raises ValueError for a url that is none.

    url: of the server of all tiers that name none of their own; None: those are local.
    """

    def __init__(self, local: Tiers, deployment: Deployment, url: str | None, tls: Tls | None) -> None:
        tiers = {name: replace(tier, url=tier.url or url) for name, tier in deployment.tiers.items()}
        self._local = local
        self._remote = RemoteTiers(replace(deployment, tiers=tiers), tls)
        self.gates = {**local.gates, **self._remote.gates}

    async def generate(self, request: GenerateRequest) -> Generation:
        return await (self._remote if request.tier in self._remote else self._local).generate(request)


class RemoteSandbox:
    """The interface of SandboxPool.run, over gRPC. Must be made and used in one event loop."""

    def __init__(
        self,
        url: str,
        tls: Tls | None = None,
        timeout_s: float = sandbox_contract.TIMEOUT_S,
        max_in_flight: int = SANDBOX_MAX_IN_FLIGHT,
        max_queue: int = MAX_QUEUE,
    ) -> None:
        self._url = url
        self._model = RemoteModel(url, sandbox_contract.MODEL, tls, timeout_s)
        self.gate = Gate(f"the sandbox at {url}", max_in_flight, max_queue)

    async def run(
        self, candidates: Sequence[Candidate], test_lines: Sequence[TestLine], priority: int = DEFAULT_PRIORITY
    ) -> VerdictMatrix:
        """(candidates, lines) verdicts. Raises SandboxUnavailable naming the other server, Overloaded, or InvalidRequest."""
        shape = (len(candidates), len(test_lines))
        if not all(shape):
            return VerdictMatrix(np.zeros(shape, np.int8), np.zeros(len(candidates)))
        read = functools.partial(sandbox_contract.read_matrix, shape=shape)
        try:
            return await self.gate.ask(self._model, sandbox_contract.sources(candidates, test_lines), read, priority)
        except CallFailed as error:
            if error.refused:
                raise InvalidRequest(str(error)) from error
            raise error.told_as(f"the sandbox at {self._url}", SandboxUnavailable) from error
        except SandboxUnavailable as error:
            raise SandboxUnavailable(f"the sandbox at {self._url}: {error}") from error

    async def close(self) -> None:
        await self._model.close()
