"""How one call is tried: how long it may take, what its failure means, and when it is tried again."""

from __future__ import annotations

import random
import re
import time
from dataclasses import dataclass

import grpc  # type: ignore[import-untyped]
from codecascade import errors

from codecascade_client.errors import Overloaded, RequestFailed

# What gRPC says of a request that never left this machine.
_NOT_CONNECTED = re.compile(
    r"(?:failed to connect to all addresses|connections to all backends failing); last error: \w+: (?:\S+: )?(.*)", re.DOTALL
)
# What Triton says of a model that it is loading, loads again, or has unloaded because it is about to end (then as NOT_FOUND).
_NOT_LOADED = re.compile(r"Request for unknown model: .* (?:has no available versions|is not ready)")
_REQUEST_ID = re.compile(r"^\[request id: [^\]]*\] ")

_DEADLINE = "deadline exceeded: "


@dataclass(frozen=True, slots=True)
class Retries:
    """A call is tried again only if nothing was spent on it: no server took it, or the server had no room for it."""

    attempts: int = 4
    """Tries in all; 1: none is repeated."""
    first_s: float = 0.3
    """The wait after the first failure, doubled after each further one. Half of it is random. All waits together are longer
    than gRPC waits before it connects again."""
    longest_s: float = 5.0


NO_RETRIES = Retries(attempts=1)


class Attempts:
    """The tries of one call to `address` within `timeout_s`."""

    def __init__(self, address: str, timeout_s: float, retries: Retries) -> None:
        self._address, self._timeout_s, self._retries = address, timeout_s, retries
        self._ends = time.monotonic() + timeout_s
        self._failures = 0

    def remaining_s(self) -> float:
        return max(0.0, self._ends - time.monotonic())

    def pause_s(self, error: grpc.RpcError, *, begun: bool = False) -> float:
        """Seconds to wait before the next try. Raises RequestFailed if there must be none: also if an answer had begun."""
        failed = failure(error.code(), error.details() or "", self._address, self._timeout_s)
        self._failures += 1
        if begun or failed.retry_after_s is None or self._failures >= self._retries.attempts:
            raise failed
        backoff_s = min(self._retries.longest_s, self._retries.first_s * 2 ** (self._failures - 1))
        pause_s: float = failed.retry_after_s + backoff_s * random.uniform(0.5, 1.0)
        if pause_s >= self.remaining_s():
            raise failed
        return pause_s


def failure(code: grpc.StatusCode, words: str, address: str, timeout_s: float) -> RequestFailed:
    """What a status of gRPC means, in one sentence."""
    sentence = _REQUEST_ID.sub("", words.strip()) or code.name
    if sentence.startswith(_DEADLINE):  # a Python model has no status for it
        return RequestFailed(grpc.StatusCode.DEADLINE_EXCEEDED, sentence)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return RequestFailed(code, f"{address} gave no answer within {timeout_s:g} s")
    if overloaded := errors.Overloaded.read(sentence):
        return Overloaded(code, sentence, overloaded.retry_after_s)
    if _NOT_LOADED.match(sentence):
        return RequestFailed(code, sentence, retry_after_s=0.0)
    if code is not grpc.StatusCode.UNAVAILABLE:
        return RequestFailed(code, sentence)
    if unreachable := _unreachable(sentence, address):
        return RequestFailed(code, unreachable, retry_after_s=0.0)
    return RequestFailed(code, sentence)


def _unreachable(words: str, address: str) -> str | None:
    """Why gRPC could not reach the server. None if these are the server's own words."""
    if "errors resolving" in words or "DNS resolution failed" in words:
        return f"no connection to {address}: the name cannot be resolved"
    refused = _NOT_CONNECTED.fullmatch(words)
    if refused and "Connection refused" in refused[1]:
        return f"no server answers at {address}: is it running?"
    return f"no connection to {address}: {refused[1]}" if refused else None
