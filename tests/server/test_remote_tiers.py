"""Tiers of other Tritons, over gRPC: asked directly, and by a cascade that serves its other tiers itself."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from codecascade.deployment import Deployment, load_deployment
from codecascade.errors import DeploymentError, TierUnavailable
from codecascade.tiers.contract import GenerateRequest, Generation
from codecascade.triton.calls.gate import Gate
from codecascade.triton.calls.remote import AllTiers, RemoteTiers
from codecascade_build.server.process import RunningServer
from codecascade_client.client import AsyncCascadeClient
from codecascade_client.errors import RequestFailed

from tests.server.metrics import eventually, metric
from tests.server.real_server import StartServer
from tests.server.scripted.repository import ScriptedTier, render

pytestmark = pytest.mark.triton

PROMPT = 'def add(a, b):\n    """The sum of a and b."""\n'
REQUEST = GenerateRequest(
    "far", PROMPT, ("\ndef ",), max_tokens=64, temperature=0.8, top_p=0.95, seed=2**63 + 1, num_return_sequences=3
)


def step(tier: str, k: int = 3) -> dict[str, Any]:
    return {"tier": tier, "k": k, "lines_per_sample": 2 if k else 0, "threshold": 1.0}


PLANS = {"two": [step("near"), step("far")], "far": [step("far")], "back": [step("far"), step("near", k=0)]}
TIERS = [ScriptedTier("near"), ScriptedTier("far", context_tokens=200)]


def far_server(start_server: StartServer, folder: Path) -> RunningServer:
    repository = render(folder, [TIERS[1]], {"only": [step("far")]}, default="only")
    return start_server(repository.repositories, repository.deployment)


@pytest.fixture(scope="module")
def far(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    return far_server(start_server, tmp_path_factory.mktemp("far"))


@pytest.fixture(scope="module")
def deployment_file(far: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The deployment of a cascade whose own Triton has only the tier `near`."""
    folder = tmp_path_factory.mktemp("near")
    repository = render(folder, TIERS, PLANS, default="two", real_sandbox=True)
    document = json.loads(repository.deployment.read_text())
    document["tiers"][1]["url"] = far.grpc
    repository.deployment.write_text(json.dumps(document))
    (folder / "models" / "far").rename(folder / "far is not here")
    return repository.deployment


@pytest.fixture(scope="module")
def server(start_server: StartServer, deployment_file: Path) -> RunningServer:
    return start_server([deployment_file.parent / "models"], deployment_file)


@pytest_asyncio.fixture
async def client(server: RunningServer) -> AsyncIterator[AsyncCascadeClient]:
    async with AsyncCascadeClient(server.grpc) as connected:
        yield connected


@pytest_asyncio.fixture
async def tiers(deployment_file: Path) -> AsyncIterator[RemoteTiers]:
    tiers = RemoteTiers(load_deployment(deployment_file))
    yield tiers
    await tiers.close()


def at(deployment_file: Path, url: str, timeout_s: float = 20.0) -> Deployment:
    deployment = load_deployment(deployment_file)
    return replace(deployment, tiers={"far": replace(deployment.tiers["far"], url=url, timeout_s=timeout_s)})


async def test_a_far_tier_answers_as_a_near_one_does(client: AsyncCascadeClient) -> None:
    answer = await client.complete("# near: wrong_tests\n" + PROMPT, seed=7, return_trace=True)
    assert (answer.tier, answer.score) == ("far", 1.0)
    assert "return a + b" in answer.text
    assert answer.trace
    assert [(step["tier"], step["decision"]) for step in answer.trace["steps"]] == [("near", "escalate"), ("far", "accept")]
    assert all(step["completion_tokens"] > 0 for step in answer.trace["steps"])


async def test_seeds_of_64_bits_and_their_sequences_arrive(tiers: RemoteTiers) -> None:
    first, again = [await tiers.generate(REQUEST) for _ in range(2)]
    other = await tiers.generate(replace(REQUEST, seed=1))
    texts = [[sample.text for sample in generation.samples] for generation in (first, again, other)]
    assert texts[0] == texts[1] != texts[2]
    assert len(set(texts[0])) == REQUEST.num_return_sequences
    assert first.prompt_tokens == len(PROMPT.split())


async def test_a_far_tier_that_fails_is_skipped_and_the_trace_says_where(client: AsyncCascadeClient, far: RunningServer) -> None:
    answer = await client.complete("# far: fail\n" + PROMPT, plan="back", return_trace=True)
    assert answer.tier == "near"
    assert answer.trace
    assert f"tier far at {far.grpc}: told to fail" in json.dumps(answer.trace["steps"][0])


async def test_what_a_far_tier_refuses_is_the_callers_to_mend(client: AsyncCascadeClient) -> None:
    with pytest.raises(RequestFailed, match=r"^tier far: the prompt has \d+ tokens, the context has 200$") as failed:
        await client.complete('def add(a, b):\n    """' + "word " * 300 + '"""\n', plan="far")
    assert failed.value.code.name == "INVALID_ARGUMENT"


async def test_a_cancelled_request_ends_on_the_far_server_too(client: AsyncCascadeClient, far: RunningServer) -> None:
    before = stopped_calls(far)
    request = asyncio.ensure_future(client.complete("# far: stall\n" + PROMPT, plan="far"))
    await asyncio.wait({request}, timeout=0.5)
    request.cancel()
    await eventually(lambda: stopped_calls(far) >= before + 2, within_s=4.0)  # it was writing solutions and tests


async def test_a_name_of_several_servers_is_all_of_them_in_turn(
    far: RunningServer, start_server: StartServer, tmp_path_factory: pytest.TempPathFactory, deployment_file: Path
) -> None:
    servers = (far, far_server(start_server, tmp_path_factory.mktemp("second")))
    before = [served(server) for server in servers]
    tiers = RemoteTiers(at(deployment_file, "ipv4:" + ",".join(server.grpc for server in servers)))
    deadline = time.monotonic() + 20
    while any(served(server) - count < 3 for server, count in zip(servers, before, strict=True)):
        assert time.monotonic() < deadline
        await tiers.generate(REQUEST)
    await tiers.close()


async def test_a_server_that_is_not_there_or_silent_is_unavailable(deployment_file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        tiers = RemoteTiers(at(deployment_file, address, timeout_s=0.2))
        with pytest.raises(TierUnavailable, match=f"tier far at {address}: no answer within 0.2 s"):
            await tiers.generate(REQUEST)
        await tiers.close()
    tiers = RemoteTiers(at(deployment_file, "127.0.0.1:1"))
    with pytest.raises(TierUnavailable, match=r"tier far at 127\.0\.0\.1:1: "):
        await tiers.generate(REQUEST)
    await tiers.close()


class Near:
    """Tiers of this server, with one answer."""

    answer = Generation((), prompt_tokens=0)

    def __init__(self) -> None:
        self.gates = {"near": Gate("tier near", 1, 0)}

    async def generate(self, request: GenerateRequest) -> Generation:
        return self.answer


async def test_tiers_without_a_url_stay_where_they_are(deployment_file: Path) -> None:
    tiers = AllTiers(Near(), load_deployment(deployment_file), None, None)
    assert await tiers.generate(replace(REQUEST, tier="near")) is Near.answer
    assert (await tiers.generate(REQUEST)).samples
    assert set(tiers.gates) == {"near", "far"}


async def test_one_server_can_be_named_for_all_tiers(deployment_file: Path, far: RunningServer) -> None:
    deployment = load_deployment(deployment_file)
    without = replace(deployment, tiers={name: replace(tier, url=None) for name, tier in deployment.tiers.items()})
    tiers = AllTiers(Near(), without, far.grpc, None)
    assert (await tiers.generate(REQUEST)).samples
    with pytest.raises(TierUnavailable, match="unknown model: 'near'"):
        await tiers.generate(replace(REQUEST, tier="near"))
    with pytest.raises(ValueError, match="must be host:port"):
        AllTiers(Near(), without, "http://host", None)


@pytest.mark.parametrize("url", ["host", "host:", "http://host", "host:port", "host: 1", ""])
def test_a_url_that_is_none_is_named(deployment_file: Path, tmp_path: Path, url: str) -> None:
    document = json.loads(deployment_file.read_text())
    document["tiers"][1]["url"] = url
    (tmp_path / "bad.json").write_text(json.dumps(document))
    with pytest.raises(DeploymentError, match=re.escape(f"tier 'far' has url {url!r}, must be host:port")):
        load_deployment(tmp_path / "bad.json")


def stopped_calls(server: RunningServer) -> float:
    return metric(server, 'scripted_stopped_calls{tier="far"}')


def served(server: RunningServer) -> float:
    return metric(server, 'nv_inference_request_success{model="far",version="1"}')
