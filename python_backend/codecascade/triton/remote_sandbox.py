"""The `sandbox` model of another Triton: programs run away from the host that has the GPUs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codecascade.types import Candidate, InvalidRequest, SandboxUnavailable, TestLine, VerdictMatrix

URL = "CODECASCADE_SANDBOX_URL"  # host:port of the other Triton's gRPC
CA = "CODECASCADE_SANDBOX_CA"  # certificates to trust: the connection is then TLS
CERTIFICATE = "CODECASCADE_SANDBOX_CERTIFICATE"  # own certificate and its key, where the other side wants them
KEY = "CODECASCADE_SANDBOX_KEY"

_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Tls:
    """Files, PEM."""

    ca: Path
    certificate: Path | None = None
    key: Path | None = None


class RemoteSandbox:
    """Same interface as SandboxPool.run, over gRPC. Made and used in one event loop."""

    def __init__(self, url: str, tls: Tls | None = None, model: str = "sandbox", timeout_s: float = _TIMEOUT_S) -> None:
        self._url, self._tls, self._model, self._timeout_s = url, tls, model, timeout_s
        self._client: Any = None

    async def run(self, candidates: Sequence[Candidate], test_lines: Sequence[TestLine]) -> VerdictMatrix:
        """(candidates, lines) verdicts. Raises SandboxUnavailable naming the other server, InvalidRequest as it did."""
        shape = (len(candidates), len(test_lines))
        if not all(shape):
            return VerdictMatrix(np.zeros(shape, np.int8), np.zeros(len(candidates)))
        from tritonclient.utils import InferenceServerException  # only where it is used: an offline tool has no need of it

        inputs = [
            _texts("candidates", [candidate.source for candidate in candidates]),
            _texts("test_lines", [line.source for line in test_lines]),
        ]
        try:
            result = await asyncio.wait_for(self._connected().infer(self._model, inputs), self._timeout_s)
        except InferenceServerException as error:
            if error.status() == "StatusCode.INVALID_ARGUMENT":
                raise InvalidRequest(error.message()) from error
            raise SandboxUnavailable(f"the sandbox at {self._url}: {error.message()}") from error
        except asyncio.TimeoutError:
            raise SandboxUnavailable(f"the sandbox at {self._url}: no answer within {self._timeout_s:g} s") from None
        matrix = VerdictMatrix(result.as_numpy("verdicts"), result.as_numpy("cpu_s"))
        if matrix.verdicts.shape != shape:
            raise SandboxUnavailable(f"the sandbox at {self._url}: verdicts of shape {matrix.verdicts.shape} instead of {shape}")
        return matrix

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    def _connected(self) -> Any:
        if self._client is None:
            from tritonclient.grpc.aio import InferenceServerClient

            tls = self._tls
            self._client = InferenceServerClient(
                self._url,
                ssl=tls is not None,
                root_certificates=str(tls.ca) if tls else None,
                certificate_chain=str(tls.certificate) if tls and tls.certificate else None,
                private_key=str(tls.key) if tls and tls.key else None,
            )
        return self._client


def remote_sandbox(environ: Mapping[str, str]) -> RemoteSandbox | None:
    """The sandbox that the environment names, if it names one. Raises InvalidRequest for settings that make no sense."""
    url, ca, certificate, key = (environ.get(name) for name in (URL, CA, CERTIFICATE, KEY))
    if not url:
        return None
    if (certificate or key) and not (ca and certificate and key):
        raise InvalidRequest(f"{CERTIFICATE} and {KEY} go together, and with {CA}")
    for name in (CA, CERTIFICATE, KEY):
        if environ.get(name) and not Path(environ[name]).is_file():
            raise InvalidRequest(f"{name} is {environ[name]!r}, which is not a file")
    tls = Tls(Path(ca), Path(certificate) if certificate else None, Path(key) if key else None) if ca else None
    return RemoteSandbox(url, tls)


def _texts(name: str, values: Sequence[str]) -> Any:
    from tritonclient.grpc import InferInput

    data = np.array([value.encode("utf-8", "replace") for value in values], np.object_)
    return InferInput(name, list(data.shape), "BYTES").set_data_from_numpy(data)
