"""AsyncCascadeClient against a gRPC server that speaks Triton's protocol."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from codecascade.triton.calls.tls import Tls
from codecascade_client.answers import Completion
from codecascade_client.client import AsyncCascadeClient
from codecascade_client.errors import RequestFailed
from codecascade_client.settings import Settings

from tests.unit.client.fake_cascade import Answer, Failure, FakeCascade, serving, trace

TLS = Path(__file__).parent / "tls"


@pytest.fixture
def server() -> Iterator[FakeCascade]:
    with serving(lambda _: Answer(trace=trace({}))) as fake:
        yield fake


async def failure(address: str, tls: Tls | None = None, **request: Any) -> RequestFailed:
    async with AsyncCascadeClient(address, tls) as client:
        with pytest.raises(RequestFailed) as raised:
            await client.complete(**{"prompt": "def f():\n", **request})
    return raised.value


async def test_sends_what_was_given_and_nothing_else(server: FakeCascade) -> None:
    async with AsyncCascadeClient(server.address) as client:
        await client.complete("def f():\n")
        await client.complete("é", entry_point="f", plan="thrifty", max_tokens=7, seed=2**64 - 1, return_trace=True, cursor=2)
    assert server.requests == [
        {"prompt": "def f():\n"},
        {
            "prompt": "é",
            "seed": 2**64 - 1,
            "entry_point": "f",
            "plan": "thrifty",
            "cursor": 2,
            "max_tokens": 7,
            "return_trace": True,
        },
    ]


async def test_reads_the_answer() -> None:
    answer = Answer("x =\r\n'é'\0", "large", 0.25, 1e-3, inserted="\r\n'é'\0", finish_reason="length")
    with serving(lambda _: answer) as server:
        async with AsyncCascadeClient(server.address) as client:
            expected = Completion("x =\r\n'é'\0", "large", 0.25, 1e-3, None, "\r\n'é'\0", "length")
            assert await client.complete("x =") == expected


async def test_reads_the_trace(server: FakeCascade) -> None:
    async with AsyncCascadeClient(server.address) as client:
        assert (await client.complete("x =", return_trace=True)).trace == trace({})


async def test_a_failure_carries_the_code_and_the_sentence_of_the_server() -> None:
    with serving(lambda _: Failure(grpc.StatusCode.INVALID_ARGUMENT, "plan 'x' is unknown, allowed are y")) as server:
        failed = await failure(server.address)
    assert (failed.code, failed.sentence) == (grpc.StatusCode.INVALID_ARGUMENT, "plan 'x' is unknown, allowed are y")
    assert str(failed) == failed.sentence


async def test_an_unavailable_tier_is_not_taken_for_an_absent_server() -> None:
    with serving(lambda _: Failure(grpc.StatusCode.UNAVAILABLE, "no tier answered")) as server:
        assert (await failure(server.address)).sentence == "no tier answered"
        assert len(server.requests) == 1  # and is not retried


async def test_an_absent_server_is_named() -> None:
    address = "127.0.0.1:1"
    failed = await failure(address)
    assert (failed.code, failed.sentence) == (grpc.StatusCode.UNAVAILABLE, f"no server answers at {address}: is it running?")


async def test_a_name_that_cannot_be_resolved_is_told_from_an_absent_server() -> None:
    failed = await failure("a..b:8001")
    assert failed.sentence == "no connection to a..b:8001: the name cannot be resolved"


async def test_waits_no_longer_than_it_is_told() -> None:
    released = threading.Event()

    def stall(_: dict[str, Any]) -> Answer:
        released.wait(30)
        return Answer()

    with serving(stall) as server:
        failed = await failure(server.address, timeout_s=0.2)
        released.set()
    assert failed.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert failed.sentence == f"{server.address} gave no answer within 0.2 s"


async def test_cancelling_the_call_cancels_it_on_the_server() -> None:
    asked, released = threading.Event(), threading.Event()

    def stall(_: dict[str, Any]) -> Answer:
        asked.set()
        released.wait(30)
        return Answer()

    with serving(stall) as server:
        async with AsyncCascadeClient(server.address) as client:
            call = asyncio.ensure_future(client.complete("x ="))
            assert await asyncio.to_thread(asked.wait, 30)
            call.cancel()
            assert await asyncio.to_thread(server.cancelled.wait, 30)
            released.set()
            with pytest.raises(asyncio.CancelledError):
                await call


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"seed": -1}, "seed is -1, must be an integer from 0 to 18446744073709551615"),
        ({"seed": 2**64}, "seed is 18446744073709551616, must be an integer from 0 to 18446744073709551615"),
        ({"max_tokens": 2**31}, "max_tokens is 2147483648, must be an integer from -2147483648 to 2147483647"),
        ({"prompt": "x\ud800"}, "prompt has half a surrogate pair at character 1, must be valid Unicode"),
    ],
)
async def test_what_no_tensor_can_hold_is_refused_before_it_is_sent(
    server: FakeCascade, request_: dict[str, Any], sentence: str
) -> None:
    failed = await failure(server.address, **request_)
    assert (failed.code, failed.sentence) == (grpc.StatusCode.INVALID_ARGUMENT, sentence)
    assert not server.requests


@pytest.mark.parametrize("url", ["", "localhost", "http://localhost:8001", "localhost:http", "localhost:65536", "a b:1"])
def test_an_address_is_host_and_port(url: str) -> None:
    with pytest.raises(ValueError, match="must be host:port"):
        AsyncCascadeClient(url)


async def test_tells_how_the_server_is(server: FakeCascade) -> None:
    async with AsyncCascadeClient(server.address) as client:
        health = await client.health()
    assert (health.live, health.ready) == (True, True)
    assert health.models == {"cascade": True, "small": False}


@pytest.fixture
def tls_server() -> Iterator[FakeCascade]:
    pair = [((TLS / "key.pem").read_bytes(), (TLS / "certificate.pem").read_bytes())]
    with serving(lambda _: Answer(tier="behind TLS"), grpc.ssl_server_credentials(pair)) as fake:
        yield fake


async def test_speaks_tls_with_the_roots_that_it_is_given(tls_server: FakeCascade) -> None:
    async with AsyncCascadeClient(tls_server.address, Tls(TLS / "certificate.pem")) as client:
        assert (await client.complete("x =")).tier == "behind TLS"


async def test_speaks_to_no_server_that_its_roots_do_not_vouch_for(tls_server: FakeCascade) -> None:
    failed = await failure(tls_server.address, Tls())
    assert failed.code is grpc.StatusCode.UNAVAILABLE
    assert failed.sentence.startswith(f"no connection to {tls_server.address}: Tls handshake failed")
    assert not tls_server.requests


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "TLS", "ROOT_CERTIFICATES", "TIMEOUT_S"):
        monkeypatch.delenv(f"CODECASCADE_{name}", raising=False)
    assert (Settings().url, Settings().tls, Settings().root_certificates) == ("127.0.0.1:8001", False, None)
    monkeypatch.setenv("CODECASCADE_URL", "triton:9001")
    monkeypatch.setenv("CODECASCADE_ROOT_CERTIFICATES", "/roots.pem")
    monkeypatch.setenv("CODECASCADE_TIMEOUT_S", "5")
    settings = Settings()
    assert (settings.url, settings.root_certificates, settings.timeout_s) == ("triton:9001", Path("/roots.pem"), 5.0)


async def test_root_certificates_alone_mean_tls(tls_server: FakeCascade) -> None:
    settings = Settings(url=tls_server.address, root_certificates=TLS / "certificate.pem")
    async with AsyncCascadeClient.from_settings(settings) as client:
        assert (await client.complete("x =")).tier == "behind TLS"
