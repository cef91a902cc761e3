"""The tier contract over gRPC, spread over several servers that may come and go."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from codecascade.errors import InvalidRequest, TierUnavailable
from codecascade.tiers.contract import OUTPUTS, GenerateRequest, Generation, read_generation, request_arrays
from codecascade.triton.calls.names import CREDENTIALS
from codecascade.triton.calls.remote import infer_inputs
from codecascade.triton.calls.tls import Tls
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from codecascade_client.settings import read_settings

CALL_TIMEOUT_S = 3600.0  # a call may wait long for its turn on a busy tier
BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # waits while no endpoint answers; after the last one the call fails

Sleep = Callable[[float], Awaitable[None]]


def endpoints_from_settings(urls: Sequence[str] | None) -> TierEndpoints:
    """Endpoints at the urls, or at the url of the settings. TLS comes from the settings. Raises InvalidSetting."""
    settings = [read_settings(url) for url in urls or (None,)]
    return TierEndpoints([url for server in settings for url in server.url.split(",")], tls=settings[0].transport_security)


class TierEndpoints:
    """`generate` over servers that all have the same tiers. An async context manager.

    Calls go round the endpoints. If an endpoint is unavailable, even halfway through a call, the call goes to the next one. After
    a whole round it waits, longer each time. Any other failure is the caller's.

    Not gRPC's own round robin and retries: over several servers they take no host names, check every certificate for one and the
    same name, and give up after five attempts.
    """

    def __init__(self, urls: Sequence[str], sleep: Sleep = asyncio.sleep, tls: Tls | None = None) -> None:
        if not urls:
            raise InvalidRequest("no endpoint is given, at least one host:port is needed")
        self._urls = tuple(urls)
        self._sleep = sleep
        self._tls = tls

    async def __aenter__(self) -> TierEndpoints:
        credentials = self._tls.credentials() if self._tls else None
        self._servers = deque(InferenceServerClient(url, creds=credentials) for url in self._urls)
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            await server.close()

    async def generate(self, request: GenerateRequest) -> Generation:
        """Raises InvalidRequest when the tier refuses the request, TierUnavailable when it fails or no endpoint answers."""
        inputs = infer_inputs(request_arrays(request))
        sentence = ""
        for wait_s in (0.0, *BACKOFF_S):
            await self._sleep(wait_s)
            this_round = tuple(self._servers)
            self._servers.rotate(-1)
            for server in this_round:
                try:
                    answer = await server.infer(request.tier, inputs, client_timeout=CALL_TIMEOUT_S, parameters=CREDENTIALS)
                except InferenceServerException as error:
                    sentence = str(error.message()).strip().split("\n")[0]
                    if error.status() != "StatusCode.UNAVAILABLE":
                        refused = error.status() == "StatusCode.INVALID_ARGUMENT"
                        raise (InvalidRequest if refused else TierUnavailable)(f"tier {request.tier}: {sentence}") from error
                else:
                    arrays = {output.name: answer.as_numpy(output.name) for output in OUTPUTS}
                    return read_generation(request, {name: array for name, array in arrays.items() if array is not None})
        raise TierUnavailable(f"tier {request.tier} cannot be asked at {', '.join(self._urls)}: {sentence}")
