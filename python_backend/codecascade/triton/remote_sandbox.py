"""The `sandbox` model of another Triton: programs run away from the host that has the GPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from codecascade.triton.remote import RemoteFailed, RemoteModel, Tls, texts, tls_from
from codecascade.types import Candidate, InvalidRequest, SandboxUnavailable, TestLine, VerdictMatrix

URL = "CODECASCADE_SANDBOX_URL"  # host:port of the other Triton's gRPC
CA = "CODECASCADE_SANDBOX_CA"  # certificates to trust: the connection is then TLS
CERTIFICATE = "CODECASCADE_SANDBOX_CERTIFICATE"  # own certificate and its key, where the other side wants them
KEY = "CODECASCADE_SANDBOX_KEY"

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


def remote_sandbox(environ: Mapping[str, str]) -> RemoteSandbox | None:
    """The sandbox that the environment names, if it names one. Raises InvalidRequest for settings that make no sense."""
    url = environ.get(URL)
    return RemoteSandbox(url, tls_from(environ, CA, CERTIFICATE, KEY)) if url else None
