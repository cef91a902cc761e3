"""The gRPC client of the `cascade` model. Asynchronous. It retries nothing; gRPC itself tries again to connect."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
from codecascade.triton.calls.remote import infer_inputs
from codecascade.triton.calls.tls import Tls
from numpy.typing import NDArray
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from codecascade_client.errors import RequestFailed
from codecascade_client.settings import DEFAULT_URL, Settings, check_address

MODEL = "cascade"
_NOT_CONNECTED = re.compile(r"failed to connect to all addresses; last error: \w+: (?:\S+: )?(.*)", re.DOTALL)
_INTEGERS: dict[str, np.dtype[Any]] = {"INT32": np.dtype(np.int32), "UINT64": np.dtype(np.uint64)}


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer of the cascade."""

    text: str  # the prompt as it was given, with what was inserted
    tier: str  # that answered
    score: float  # 0…1; 0 if nothing was tested
    cost_usd: float
    trace: dict[str, Any] | None = None  # None unless it was asked for
    inserted: str = ""  # what was inserted alone: at the prompt's end, its hole, or the cursor
    finish_reason: str = "stop"  # or length: the token limit cut the answer


class CascadeClient:
    """One connection to a server. Any number of concurrent calls share it. An async context manager.

    url: host:port of the gRPC service, without a scheme. Raises ValueError for anything else.
    """

    def __init__(self, url: str = DEFAULT_URL, tls: Tls | None = None) -> None:
        check_address(url)
        self.url = url
        self._tls = tls

    @classmethod
    def from_settings(cls, settings: Settings) -> CascadeClient:
        return cls(settings.url, settings.transport_security)

    async def __aenter__(self) -> CascadeClient:
        self._triton = InferenceServerClient(self.url, creds=self._tls.credentials() if self._tls else None)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._triton.close()

    async def complete(
        self,
        prompt: str,
        entry_point: str | None = None,
        plan: str | None = None,
        max_tokens: int | None = None,
        seed: int = 0,
        return_trace: bool = False,
        timeout_s: float = 600.0,
        cursor: int | None = None,
        tests: Sequence[str] = (),
        cases: Sequence[Mapping[str, str]] = (),
    ) -> Completion:
        """Finish a prompt. If the call is cancelled, the server cancels it too.

        entry_point: the function under test, a method as Stack.push (default: the one that is being written). plan: a plan's
        name (default: the server's default plan). cursor: the byte of the prompt where the code is to go on (default: where it
        is incomplete). tests: asserts or test programs that the answer has to pass. cases: what a program reads from standard
        input and has to print, as {"input": "3 4\\n", "output": "7"}. Raises RequestFailed.
        """
        inputs = {"prompt": _text("prompt", prompt), "seed": _integer("seed", "UINT64", seed, low=0)}
        if entry_point is not None:
            inputs["entry_point"] = _text("entry_point", entry_point)
        if plan is not None:
            inputs["plan"] = _text("plan", plan)
        if cursor is not None:
            inputs["cursor"] = _integer("cursor", "INT32", cursor, low=0)
        if tests:
            inputs["tests"] = np.concatenate([_text(f"tests[{number}]", test) for number, test in enumerate(tests)])
        if cases:
            inputs["cases"] = np.concatenate([_text(f"cases[{number}]", json.dumps(case)) for number, case in enumerate(cases)])
        if max_tokens is not None:
            inputs["max_tokens"] = _integer("max_tokens", "INT32", max_tokens, low=1)
        if return_trace:
            inputs["return_trace"] = np.array([True])
        try:
            result = await self._triton.infer(MODEL, infer_inputs(inputs), client_timeout=timeout_s)
        except InferenceServerException as error:
            raise self._failed(error, timeout_s) from None
        names = ("completion", "inserted", "finish_reason", "tier", "trace")
        completion, inserted, ended, tier, trace = (result.as_numpy(name)[0].decode() for name in names)
        score, cost = (float(result.as_numpy(name)[0]) for name in ("score", "cost"))
        return Completion(completion, tier, score, cost, json.loads(trace) if trace else None, inserted, ended)

    async def models(self, timeout_s: float = 5.0) -> dict[str, bool]:
        """The server's models: name → whether it is ready. Raises RequestFailed."""
        try:
            index = await self._triton.get_model_repository_index(client_timeout=timeout_s)
        except InferenceServerException as error:
            raise self._failed(error, timeout_s) from None
        return {model.name: model.state == "READY" for model in index.models}

    def _failed(self, error: InferenceServerException, timeout_s: float) -> RequestFailed:
        code = grpc.StatusCode[error.status().removeprefix("StatusCode.")]
        sentence = error.message() or code.name
        if code is grpc.StatusCode.UNAVAILABLE:
            sentence = self._unreachable(sentence) or sentence
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            sentence = f"{self.url} gave no answer within {timeout_s:g} s"
        return RequestFailed(code, sentence)

    def _unreachable(self, words: str) -> str | None:
        """Why gRPC could not reach the server. None if these are the server's own words."""
        if words.startswith("errors resolving"):
            return f"no connection to {self.url}: the name cannot be resolved"
        refused = _NOT_CONNECTED.fullmatch(words)
        if refused and "Connection refused" in refused[1]:
            return f"no server answers at {self.url}: is it running?"
        return f"no connection to {self.url}: {refused[1]}" if refused else None


def _text(name: str, text: str) -> NDArray[Any]:
    try:
        return np.array([text.encode()], dtype=np.object_)
    except UnicodeEncodeError as error:
        raise _refused(f"{name} has half a surrogate pair at character {error.start}, it must be valid Unicode") from None


def _integer(name: str, datatype: str, value: int, low: int) -> NDArray[Any]:
    """Raises RequestFailed if the type cannot hold the value. The server judges the rest."""
    dtype = _INTEGERS[datatype]
    bounds = np.iinfo(dtype)
    if not bounds.min <= value <= bounds.max:
        raise _refused(f"{name} is {value}, it must be {low} to {bounds.max}")
    return np.array([value], dtype)


def _refused(sentence: str) -> RequestFailed:
    return RequestFailed(grpc.StatusCode.INVALID_ARGUMENT, sentence)
