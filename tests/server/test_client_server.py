"""The clients against a real Triton with scripted tiers: streams, plans, health, and requests that end early."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import grpc  # type: ignore[import-untyped]
import pytest
from codecascade_build.server.process import RunningServer
from codecascade_client.client import AsyncCascadeClient, CascadeClient
from codecascade_client.errors import RequestFailed

from tests.server.metrics import begun_calls, eventually, metric
from tests.server.real_server import INTERRUPTIBLE, StartServer
from tests.server.scripted.repository import ScriptedTier, render

pytestmark = pytest.mark.triton

PROMPT = 'def add(a, b):\n    """The sum of a and b."""\n'
STALL = f"# small: stall\n{PROMPT}"
STOPPED = 'scripted_stopped_calls{tier="small"}'
STEPS = [{"tier": "small", "k": 3, "lines_per_sample": 2, "threshold": 1.0}]


@pytest.fixture(scope="module")
def server(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    plans = {"one": STEPS}
    here = render(tmp_path_factory.mktemp("scripted"), [ScriptedTier("small")], plans, default="one", stream=True)
    return start_server(here.repositories, here.deployment)


@pytest.fixture
def client(server: RunningServer) -> Iterator[CascadeClient]:
    with CascadeClient(server.grpc) as connected:
        yield connected


@contextlib.contextmanager
def stopped_calls(server: RunningServer) -> Iterator[None]:
    """What happens inside ends the two calls of a stalling tier, which would last longer than the wait for that."""
    before = metric(server, STOPPED)
    yield
    asyncio.run(eventually(lambda: metric(server, STOPPED) == before + 2, within_s=4.0))


def test_the_synchronous_client_completes(client: CascadeClient) -> None:
    done = client.complete(PROMPT, seed=3, return_trace=True)
    assert (done.tier, done.text) == ("small", PROMPT + done.inserted)
    assert done.trace


def test_a_stream_ends_with_what_a_call_returns(client: CascadeClient) -> None:
    with client.stream(PROMPT, seed=3) as events:
        *before, last = events
    assert {"started", "decision"} <= {event.name for event in before}
    assert [event.completion for event in before] == [None] * len(before)
    assert (last.name, last.completion) == ("final", client.complete(PROMPT, seed=3))


async def test_so_does_an_asynchronous_one(server: RunningServer) -> None:
    async with AsyncCascadeClient(server.grpc) as client, client.stream(PROMPT, return_trace=True) as events:
        told = [event async for event in events]
    assert (told[0].name, told[-1].name) == ("started", "final")
    assert told[-1].completion
    assert told[-1].completion.trace


def test_a_stream_that_fails_raises_what_a_call_does(client: CascadeClient) -> None:
    for prompt, code in (("", "INVALID_ARGUMENT"), (f"# small: fail\n{PROMPT}", "UNAVAILABLE")):
        with pytest.raises(RequestFailed) as called:
            client.complete(prompt)
        with pytest.raises(RequestFailed) as streamed, client.stream(prompt) as events:
            list(events)
        assert (streamed.value.code, streamed.value.sentence) == (called.value.code, called.value.sentence)
        assert called.value.code is grpc.StatusCode[code]


def test_a_stream_that_is_left_ends_on_the_server_too(client: CascadeClient, server: RunningServer) -> None:
    with stopped_calls(server), client.stream(STALL) as events:
        assert next(events).name == "started"


def test_so_does_an_asynchronous_stream(server: RunningServer) -> None:
    async def leave() -> None:
        async with AsyncCascadeClient(server.grpc) as client, client.stream(STALL) as events:
            assert (await anext(events)).name == "started"

    with stopped_calls(server):
        asyncio.run(leave())


def test_an_interrupt_ends_a_synchronous_call_on_the_server_too(server: RunningServer) -> None:
    program = "import sys; from codecascade_client import *\nwith CascadeClient(sys.argv[1]) as c: c.complete(sys.argv[2])"
    begun = begun_calls(server, "small")
    with stopped_calls(server):
        argv = [*INTERRUPTIBLE, sys.executable, "-c", program, server.grpc, STALL]
        asking = subprocess.Popen(argv, stderr=subprocess.PIPE)
        asyncio.run(eventually(lambda: begun_calls(server, "small") == begun + 2, within_s=20.0))
        asking.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in asking.communicate(timeout=30)[1]


def test_plans_are_told(client: CascadeClient) -> None:
    plans = client.plans()
    assert (plans.default, dict(plans.plans)) == ("one", {"one": {"tiers": ["small"], "held_out": None}})


def test_health_tells_of_every_model(client: CascadeClient) -> None:
    health = client.health()
    assert (health.live, health.ready) == (True, True)
    assert health.models == {"cascade": True, "cascade_stream": True, "plans": True, "sandbox": True, "small": True}


def test_health_of_a_server_that_is_not_there_is_told_at_once() -> None:
    with CascadeClient("127.0.0.1:1") as client, pytest.raises(RequestFailed, match="no server answers"):
        client.health()
