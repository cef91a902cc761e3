"""What the gateway asks about its cascade, and what whoever watches the gateway is told."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest
from codecascade.supervision.probes import answer_probes
from codecascade.supervision.state import State, Trouble
from codecascade_build.server.process import free_ports
from codecascade_client.gateway.health import is_ready
from codecascade_client.gateway.metrics import Metrics


async def test_the_cascade_is_ready_when_its_supervisor_says_so() -> None:
    state, port = State(), free_ports().health
    url = f"http://127.0.0.1:{port}/health/ready"
    assert not await is_ready(url)  # nobody listens
    answer_probes(state, "127.0.0.1", port)
    assert not await is_ready(url)  # it starts
    state.serving(["cascade"])
    assert await is_ready(url)
    state.restarting(Trouble("cascade", "ended"))
    assert not await is_ready(url)


def test_metrics_have_a_port_of_their_own_as_long_as_the_gateway_runs() -> None:
    metrics, port = Metrics(), free_ports().metrics
    with metrics.served("127.0.0.1", port), metrics.in_flight.track_inprogress():
        assert "\ncodecascade_gateway_in_flight 1.0\n" in page(port)
    with pytest.raises(urllib.error.URLError):
        page(port)


def page(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())
