"""Where calls go: one server, several, TLS under another name, tokens."""

from __future__ import annotations

from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest
from codecascade.triton.calls.tls import Tls
from codecascade_client.channel import Connection
from codecascade_client.client import AsyncCascadeClient, CascadeClient
from codecascade_client.errors import RequestFailed
from codecascade_client.settings import Settings

from tests.unit.client.fake_cascade import Answer, serving

TLS = Path(__file__).parent / "tls"


def test_calls_go_round_the_servers() -> None:
    with serving(lambda _: Answer()) as one, serving(lambda _: Answer()) as two:
        client = CascadeClient(f"{one.address},{two.address}")
        with client:
            for _ in range(20):
                client.complete("x =")
    assert (len(one.requests) + len(two.requests), min(len(one.requests), len(two.requests)) > 0) == (20, True)


async def test_a_server_that_does_not_answer_is_left_out() -> None:
    with serving(lambda _: Answer()) as live:
        async with AsyncCascadeClient(f"127.0.0.1:1,{live.address}") as client:
            for _ in range(10):
                await client.complete("x =")
    assert len(live.requests) == 10


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("one:1,two:1", "one of several servers is 'one:1', must be IP:port; one name may have all addresses"),
        ("10.0.0.1:1,[::1]:1", "must all be IPv4 or all be IPv6"),
        ("10.0.0.1:1,", "must be host:port"),
    ],
)
def test_several_servers_are_addresses_of_one_kind(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why.replace("[", r"\[")):
        CascadeClient(url)


def test_a_token_and_metadata_go_with_every_call() -> None:
    with (
        serving(lambda _: Answer()) as server,
        CascadeClient(Connection(server.address, token="secret", metadata={"x-team": "editors"})) as client,
    ):
        client.complete("x =")
        client.health()
    assert {("authorization", "Bearer secret"), ("x-team", "editors")} <= set(server.metadata)


def test_a_token_is_not_shown() -> None:
    assert "secret" not in repr(Connection(token="secret", metadata={"x": "secret"}))
    assert "secret" not in repr(Settings(token="secret"))  # type: ignore[arg-type]


def test_a_certificate_may_have_another_name() -> None:
    """The test's certificate is for localhost and 127.0.0.1."""
    pair = [((TLS / "key.pem").read_bytes(), (TLS / "certificate.pem").read_bytes())]
    with serving(lambda _: Answer(), grpc.ssl_server_credentials(pair)) as server:
        for name, right in (("localhost", True), ("elsewhere", False)):
            where = Connection(server.address, Tls(TLS / "certificate.pem"), server_name=name)
            with CascadeClient(where) as client:
                if right:
                    assert client.complete("x =").tier == "small"
                else:
                    with pytest.raises(RequestFailed, match="no connection to"):
                        client.complete("x =")


def test_channel_options_win_over_ours() -> None:
    options = dict(Connection(channel_options={"grpc.lb_policy_name": "pick_first"}).options)
    assert options["grpc.lb_policy_name"] == "pick_first"
    assert options["grpc.initial_reconnect_backoff_ms"] == 100
