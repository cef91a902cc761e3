"""Tiers and sandbox of other Tritons, over gRPC. Imports without Triton and, until a call is made, without tritonclient."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codecascade.deployment import Deployment
from codecascade.errors import InvalidRequest, SandboxUnavailable, TierUnavailable
from codecascade.tiers.contract import Generate, GenerateRequest, Generation
from codecascade.triton.calls.tls import Tls
from codecascade.triton.tier_contract import REFUSAL, generate_inputs, generation
from codecascade.types import Candidate, TestLine, VerdictMatrix

# A name that stands for several servers is all of them, in turn; the other options are tritonclient's own.
_OPTIONS = [
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]


class RemoteFailed(Exception):
    """A call without an answer. invalid: the request was to blame."""

    def __init__(self, sentence: str, *, invalid: bool = False) -> None:
        super().__init__(sentence)
        self.invalid = invalid


class RemoteModel:
    """Made and used in one event loop. url: host:port. A caller that is cancelled cancels the call."""

    def __init__(self, url: str, model: str, tls: Tls | None, timeout_s: float) -> None:
        self._url, self._model, self._tls, self._timeout_s = url, model, tls, timeout_s
        self._client: Any = None

    async def __call__(self, inputs: Sequence[Any]) -> dict[str, NDArray[Any]]:
        """Output tensors by name. inputs: of `texts` and `numbers`. Raises RemoteFailed."""
        from tritonclient.utils import InferenceServerException  # only where it is used: an offline tool has no need of it

        try:
            result = await asyncio.wait_for(self._connected().infer(self._model, inputs), self._timeout_s)
        except InferenceServerException as error:
            raise RemoteFailed(error.message(), invalid=error.status() == "StatusCode.INVALID_ARGUMENT") from error
        except asyncio.TimeoutError:
            raise RemoteFailed(f"no answer within {self._timeout_s:g} s") from None
        return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    def _connected(self) -> Any:
        if self._client is None:
            from tritonclient.grpc.aio import InferenceServerClient

            credentials = self._tls.credentials() if self._tls else None
            self._client = InferenceServerClient(self._url, creds=credentials, channel_args=_OPTIONS)
        return self._client


def texts(name: str, values: Sequence[str]) -> Any:
    """A BYTES vector: one element per text."""
    return _tensor(name, np.array([value.encode("utf-8", "replace") for value in values], np.object_), "BYTES")


def numbers(name: str, values: Sequence[float], dtype: type[np.generic]) -> Any:
    from tritonclient.utils import np_to_triton_dtype

    return _tensor(name, np.array(values, dtype), np_to_triton_dtype(dtype))


def _tensor(name: str, array: NDArray[Any], datatype: str) -> Any:
    from tritonclient.grpc import InferInput

    return InferInput(name, list(array.shape), datatype).set_data_from_numpy(array)


class RemoteTiers:
    """`generate` of the tiers that have a url. Made and used in one event loop."""

    def __init__(self, deployment: Deployment, tls: Tls | None = None) -> None:
        self._urls = {name: tier.url for name, tier in deployment.tiers.items() if tier.url is not None}
        self._models = {name: RemoteModel(url, name, tls, deployment.tiers[name].timeout_s) for name, url in self._urls.items()}

    def __contains__(self, tier: str) -> bool:
        return tier in self._models

    async def generate(self, request: GenerateRequest) -> Generation:
        """Raises TierUnavailable naming the other server, or InvalidRequest when the tier refuses the request."""
        try:
            outputs = await self._models[request.tier](generate_inputs(request, texts, numbers))
        except RemoteFailed as error:
            if error.invalid:
                raise InvalidRequest(f"tier {request.tier}: {str(error).removeprefix(REFUSAL)}") from error
            raise TierUnavailable(f"tier {request.tier} at {self._urls[request.tier]}: {error}") from error
        return generation(request, outputs)

    async def close(self) -> None:
        for model in self._models.values():
            await model.close()


def with_remote_tiers(local: Generate, deployment: Deployment, url: str | None, tls: Tls | None) -> Generate:
    """`generate` of every tier: `local` for the tiers without a url. Raises ValueError for a url that is not host:port.

    url: of the server of all tiers that name none of their own; None: those are local.
    """
    tiers = {name: replace(tier, url=tier.url or url) for name, tier in deployment.tiers.items()}
    remote = RemoteTiers(replace(deployment, tiers=tiers), tls)

    async def generate(request: GenerateRequest) -> Generation:
        return await (remote.generate if request.tier in remote else local)(request)

    return generate


_TIMEOUT_S = 120.0


class RemoteSandbox:
    """Same interface as SandboxPool.run, over gRPC. Made and used in one event loop."""

    def __init__(self, url: str, tls: Tls | None = None, model: str = "sandbox", timeout_s: float = _TIMEOUT_S) -> None:
        self._url = url
        self._model = RemoteModel(url, model, tls, timeout_s)

    async def run(self, candidates: Sequence[Candidate], test_lines: Sequence[TestLine]) -> VerdictMatrix:
        """(candidates, lines) verdicts. Raises SandboxUnavailable naming the other server, InvalidRequest as it did."""
        shape = (len(candidates), len(test_lines))
        if not all(shape):
            return VerdictMatrix(np.zeros(shape, np.int8), np.zeros(len(candidates)))
        inputs = [
            texts("candidates", [candidate.source for candidate in candidates]),
            texts("test_lines", [line.source for line in test_lines]),
        ]
        try:
            outputs = await self._model(inputs)
        except RemoteFailed as error:
            if error.invalid:
                raise InvalidRequest(str(error)) from error
            raise SandboxUnavailable(f"the sandbox at {self._url}: {error}") from error
        matrix = VerdictMatrix(outputs["verdicts"], outputs["cpu_s"])
        if matrix.verdicts.shape != shape:
            raise SandboxUnavailable(f"the sandbox at {self._url}: verdicts of shape {matrix.verdicts.shape} instead of {shape}")
        return matrix

    async def close(self) -> None:
        await self._model.close()
