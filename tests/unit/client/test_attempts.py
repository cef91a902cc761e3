"""When a call is tried again: never when something may have been spent on it."""

from __future__ import annotations

import grpc  # type: ignore[import-untyped]
import pytest
from codecascade import errors
from codecascade_client.attempts import NO_RETRIES, Attempts, Retries
from codecascade_client.errors import Overloaded, RequestFailed

REFUSED = "connections to all backends failing; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect: Connection refused"
OVERLOADED = str(errors.Overloaded("tier small has no room", 2.0))
CODES = grpc.StatusCode


class Failed(grpc.RpcError):  # type: ignore[misc]
    """A failed call as gRPC tells it."""

    def __init__(self, code: grpc.StatusCode, words: str) -> None:
        self._code, self._words = code, words

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._words


def attempts(timeout_s: float = 60.0, retries: Retries | None = None) -> Attempts:
    return Attempts("host:1", timeout_s, retries or Retries())


@pytest.mark.parametrize(
    ("code", "words", "least_s"),
    [
        (CODES.UNAVAILABLE, REFUSED, 0.15),
        (CODES.UNAVAILABLE, REFUSED.replace("connections to all backends failing", "failed to connect to all addresses"), 0.15),
        (CODES.UNAVAILABLE, "Request for unknown model: 'cascade' has no available versions", 0.15),
        (CODES.NOT_FOUND, "Request for unknown model: 'cascade' has no available versions", 0.15),
        (CODES.UNAVAILABLE, OVERLOADED, 2.15),
        (CODES.RESOURCE_EXHAUSTED, f"[request id: 1] {OVERLOADED}", 2.15),
    ],
)
def test_what_nobody_spent_anything_on_is_tried_again(code: grpc.StatusCode, words: str, least_s: float) -> None:
    assert least_s <= attempts().pause_s(Failed(code, words)) <= 2 * least_s


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (CODES.UNAVAILABLE, "no tier answered: tier small: told to fail"),
        (CODES.UNAVAILABLE, "Socket closed"),
        (CODES.UNAVAILABLE, "recvmsg:Connection reset by peer"),
        (CODES.INTERNAL, "internal error"),
        (CODES.CANCELLED, "cancelled"),
        (CODES.DEADLINE_EXCEEDED, "Deadline Exceeded"),
        (CODES.INVALID_ARGUMENT, "prompt is empty"),
    ],
)
def test_nothing_else_is(code: grpc.StatusCode, words: str) -> None:
    with pytest.raises(RequestFailed) as failed:
        attempts().pause_s(Failed(code, words))
    assert failed.value.retry_after_s is None


def test_an_overload_says_when_there_may_be_room() -> None:
    with pytest.raises(Overloaded) as failed:
        attempts(retries=NO_RETRIES).pause_s(Failed(CODES.UNAVAILABLE, OVERLOADED))
    assert (failed.value.retry_after_s, failed.value.sentence) == (2.0, OVERLOADED)


def test_the_requests_own_deadline_has_its_status() -> None:
    with pytest.raises(RequestFailed) as failed:
        attempts().pause_s(Failed(CODES.CANCELLED, "[request id: 1] deadline exceeded: 100 ms have passed"))
    assert (failed.value.code, failed.value.sentence) == (CODES.DEADLINE_EXCEEDED, "deadline exceeded: 100 ms have passed")


def test_nothing_is_tried_again_that_would_end_after_the_deadline() -> None:
    with pytest.raises(Overloaded):
        attempts(timeout_s=2.0).pause_s(Failed(CODES.UNAVAILABLE, OVERLOADED))


def test_waits_grow_and_end() -> None:
    these = attempts(retries=Retries(attempts=6, first_s=1.0, longest_s=4.0))
    pauses = [these.pause_s(Failed(CODES.UNAVAILABLE, REFUSED)) for _ in range(5)]
    for pause, longest in zip(pauses, (1, 2, 4, 4, 4), strict=True):
        assert longest / 2 <= pause <= longest
    with pytest.raises(RequestFailed, match="no server answers at host:1: is it running"):
        these.pause_s(Failed(CODES.UNAVAILABLE, REFUSED))


def test_an_answer_that_had_begun_is_not_asked_for_again() -> None:
    with pytest.raises(Overloaded):
        attempts().pause_s(Failed(CODES.UNAVAILABLE, OVERLOADED), begun=True)
