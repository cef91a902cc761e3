"""What a client of the public port can reach, on a real server as `make serve` starts it."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from codecascade.triton.calls.remote import infer_inputs
from codecascade_build.server.install import TritonInstall
from codecascade_build.server.process import RunningServer, running
from codecascade_client.client import AsyncCascadeClient
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from tests.server.scripted.repository import ScriptedTier, render

pytestmark = pytest.mark.triton

PROMPT = 'def add(a, b):\n    """The sum of a and b."""\n'
PLANS = {"one": [{"tier": "small", "k": 1, "lines_per_sample": 1, "threshold": 1.0}]}
SECRET = "a secret of the test"
INPUTS = {"small": {"text_input": ["def f():"]}, "sandbox": {"candidates": ["x = 1"], "test_lines": ["assert x"]}}


@pytest.fixture(scope="module")
def server(triton_install: TritonInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("exposure")
    scripted = render(folder, [ScriptedTier("small")], PLANS, default="one", real_sandbox=True)
    with running(
        triton_install, scripted.repositories, log=folder / "log", deployment=scripted.deployment, inner_token=SECRET
    ) as server:
        yield server


@pytest.fixture
def client(server: RunningServer) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(server.grpc) as client:
        yield client


def ask(client: InferenceServerClient, model: str, **parameters: str) -> object:
    tensors = {name: np.array([text.encode() for text in texts], np.object_) for name, texts in INPUTS[model].items()}
    return client.infer(model, infer_inputs(tensors), parameters=parameters)


async def test_the_cascade_answers_clients_and_its_models_answer_the_cascade(server: RunningServer) -> None:
    async with AsyncCascadeClient(server.grpc) as client:
        answer = await client.complete(PROMPT)
    assert (answer.tier, answer.score) == ("small", 1.0)


@pytest.mark.parametrize("model", INPUTS)
@pytest.mark.parametrize("parameters", [{}, {"token": ""}, {"token": "guessed"}, {"give_up": "a name"}], ids=str)
def test_a_tier_and_the_sandbox_answer_no_client(client: InferenceServerClient, model: str, parameters: dict[str, str]) -> None:
    with pytest.raises(InferenceServerException) as refused:
        ask(client, model, **parameters)
    assert refused.value.status() == "StatusCode.UNIMPLEMENTED"
    assert refused.value.message() == (
        "this model answers only the cascade: the request parameter token must be the server's CODECASCADE_INNER_TOKEN"
    )


@pytest.mark.parametrize("model", INPUTS)
def test_they_answer_who_knows_the_token(client: InferenceServerClient, model: str) -> None:
    assert ask(client, model, token=SECRET)


RECORD = """
import asyncio, sys
from codecascade.tiers.contract import GenerateRequest
from codecascade_client.live.endpoints import TierEndpoints

async def main():
    async with TierEndpoints([sys.argv[1]]) as tiers:
        print(await tiers.generate(GenerateRequest("small", "def add(a, b):", (), 8, 0.0, 1.0, 0, 1)))

asyncio.run(main())
"""


def test_tools_that_ask_tiers_send_the_token_of_their_environment(server: RunningServer) -> None:
    def tool(token: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "CODECASCADE_INNER_TOKEN": token}
        return subprocess.run(
            [sys.executable, "-c", RECORD, server.grpc], env=environ, capture_output=True, text=True, check=False
        )

    assert tool(SECRET).stdout.startswith("Generation(")
    assert "this model answers only the cascade" in tool("").stderr


@pytest.mark.parametrize("path", ["systemsharedmemory/status", "cudasharedmemory/status", "trace/setting", "logging"])
def test_what_maps_memory_or_changes_the_log_is_closed_over_http(server: RunningServer, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://{server.http}/v2/{path}", timeout=5)
    assert refused.value.code == 403
    assert b"This API is restricted" in refused.value.read()


@pytest.mark.parametrize("call", ["get_system_shared_memory_status", "get_trace_settings", "get_log_settings"])
def test_and_over_grpc(client: InferenceServerClient, call: str) -> None:
    with pytest.raises(InferenceServerException, match="This protocol is restricted"):
        getattr(client, call)()


def test_nobody_can_load_code(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="explicit model load / unload is not allowed"):
        client.load_model("small")


def test_the_token_is_in_no_argument_of_a_process(server: RunningServer) -> None:
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes()
        except OSError:  # it ended meanwhile
            continue
        assert SECRET.encode() not in command
