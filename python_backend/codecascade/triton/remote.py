"""A model of another Triton, over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codecascade.types import InvalidRequest

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


@dataclass(frozen=True, slots=True)
class Tls:
    """Files, PEM. ca: certificates to trust. certificate, key: one's own, where the other side wants them."""

    ca: Path
    certificate: Path | None = None
    key: Path | None = None


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

            tls = self._tls
            self._client = InferenceServerClient(
                self._url,
                ssl=tls is not None,
                root_certificates=str(tls.ca) if tls else None,
                certificate_chain=str(tls.certificate) if tls and tls.certificate else None,
                private_key=str(tls.key) if tls and tls.key else None,
                channel_args=_OPTIONS,
            )
        return self._client


def tls_from(environ: Mapping[str, str], ca: str, certificate: str, key: str) -> Tls | None:
    """The files that three environment variables name; None without the first: no TLS. Raises InvalidRequest."""
    if (environ.get(certificate) or environ.get(key)) and not all(environ.get(name) for name in (ca, certificate, key)):
        raise InvalidRequest(f"{certificate} and {key} go together, and with {ca}")
    for name in (ca, certificate, key):
        if environ.get(name) and not Path(environ[name]).is_file():
            raise InvalidRequest(f"{name} is {environ[name]!r}, which is not a file")
    files = [Path(environ[name]) if environ.get(name) else None for name in (ca, certificate, key)]
    return Tls(files[0], files[1], files[2]) if files[0] else None


def texts(name: str, values: Sequence[str]) -> Any:
    """A BYTES vector: one element per text."""
    return _tensor(name, np.array([value.encode("utf-8", "replace") for value in values], np.object_), "BYTES")


def numbers(name: str, values: Sequence[float], dtype: type[np.generic]) -> Any:
    from tritonclient.utils import np_to_triton_dtype

    return _tensor(name, np.array(values, dtype), np_to_triton_dtype(dtype))


def _tensor(name: str, array: NDArray[Any], datatype: str) -> Any:
    from tritonclient.grpc import InferInput

    return InferInput(name, list(array.shape), datatype).set_data_from_numpy(array)
