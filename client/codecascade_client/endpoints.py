"""The tier contract over gRPC, spread over several servers that may come and go."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
from codecascade.sampling import GenerateRequest, Generation
from codecascade.types import InvalidRequest, Sample, TierUnavailable
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferResult
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from codecascade_client.client import Tls, read_settings

CALL_TIMEOUT_S = 3600.0  # a call may wait long for its turn on a busy tier
BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # waits while no endpoint can be reached; then it is given up
_UNAVAILABLE = "StatusCode.UNAVAILABLE"
_INVALID = "StatusCode.INVALID_ARGUMENT"


class _EndpointUnavailable(Exception):
    pass


Sleep = Callable[[float], Awaitable[None]]


def endpoints_from_settings(urls: Sequence[str] | None) -> TierEndpoints:
    """urls: none for that of the settings; their TLS is used either way. Raises BadSettings."""
    settings = [read_settings(url) for url in urls or (None,)]
    return TierEndpoints([each.url for each in settings], tls=Tls.from_settings(settings[0]))


class TierEndpoints:
    """`generate` over servers that all have the same tiers. An async context manager.

    Calls go round the endpoints. A call that finds its endpoint unavailable, even halfway, goes to the next one; when it has been
    round all of them it waits, longer each time. Every other failure is the caller's.
    """

    def __init__(self, urls: Sequence[str], sleep: Sleep = asyncio.sleep, tls: Tls | None = None) -> None:
        if not urls:
            raise InvalidRequest("no endpoint is given, at least one host:port is needed")
        self._urls = tuple(urls)
        self._sleep = sleep
        self._tls = tls
        self._turn = itertools.count()

    async def __aenter__(self) -> TierEndpoints:
        credentials = self._tls.credentials() if self._tls else None
        self._servers = [InferenceServerClient(url, creds=credentials) for url in self._urls]
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            await server.close()

    async def generate(self, request: GenerateRequest) -> Generation:
        """Raises InvalidRequest when the tier refuses the request, TierUnavailable when no endpoint answers or one fails."""
        reason = ""
        for wait_s in (0.0, *BACKOFF_S):
            await self._sleep(wait_s)
            first = next(self._turn)
            for offset in range(len(self._servers)):
                try:
                    return await self._ask(self._servers[(first + offset) % len(self._servers)], request)
                except _EndpointUnavailable as error:
                    reason = str(error)
        raise TierUnavailable(f"tier {request.tier} cannot be asked at {', '.join(self._urls)}: {reason}")

    async def _ask(self, server: InferenceServerClient, request: GenerateRequest) -> Generation:
        try:
            answer = await server.infer(request.tier, _inputs(request), client_timeout=CALL_TIMEOUT_S)
        except InferenceServerException as error:
            sentence = str(error.message()).strip().split("\n")[0]
            if error.status() == _UNAVAILABLE:
                raise _EndpointUnavailable(sentence) from error
            kind = InvalidRequest if error.status() == _INVALID else TierUnavailable
            raise kind(f"tier {request.tier}: {sentence}") from error
        return _generation(request, answer)


def _inputs(request: GenerateRequest) -> list[InferInput]:
    return [
        _texts("text_input", [request.text_input]),
        _texts("stop_words", request.stop_words),
        _tensor("max_tokens", "INT32", np.array([request.max_tokens], np.int32)),
        _tensor("temperature", "FP32", np.array([request.temperature], np.float32)),
        _tensor("top_p", "FP32", np.array([request.top_p], np.float32)),
        _tensor("seed", "UINT64", np.array([request.seed], np.uint64)),
        _tensor("num_return_sequences", "INT32", np.array([request.num_return_sequences], np.int32)),
    ]


def _generation(request: GenerateRequest, result: InferResult) -> Generation:
    texts, tokens, reasons = (result.as_numpy(name) for name in ("text_output", "completion_tokens", "finish_reason"))
    if len(texts) != request.num_return_sequences:
        raise TierUnavailable(f"tier {request.tier}: {len(texts)} sequences, asked for {request.num_return_sequences}")
    rows = zip(texts, tokens, reasons, strict=True)
    samples = tuple(Sample(text.decode("utf-8", "replace"), int(count), reason.decode()) for text, count, reason in rows)
    return Generation(samples, int(result.as_numpy("prompt_tokens")[0]))


def _texts(name: str, texts: Sequence[str]) -> InferInput:
    return _tensor(name, "BYTES", np.array([text.encode() for text in texts], dtype=np.object_))


def _tensor(name: str, datatype: str, values: NDArray[Any]) -> InferInput:
    tensor = InferInput(name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values)
    return tensor
