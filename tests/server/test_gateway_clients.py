"""Clients that are not ours, as their users install them, against the gateway on a real Triton with scripted tiers."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from codecascade_build.paths import ROOT
from codecascade_build.server.process import RunningServer
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from tritonclient.grpc import model_config_pb2, service_pb2

from tests.server.gateway import Gateway, running_gateway
from tests.server.node import HERE, install_packages, run
from tests.server.real_server import StartServer
from tests.server.scripted.repository import ScriptedTier, render

pytestmark = pytest.mark.triton

PREFIX = 'def add(a, b):\n    """The sum of a and b."""\n'
SUFFIX = "\n\nprint(add(1, 2))\n"
KEY = "secret"
MESSAGES: Any = [{"role": "user", "content": f"```python\n{PREFIX}```"}]
BODY = "    return a + b\n"


@pytest.fixture(scope="module")
def server(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    plans = {
        "one": [{"tier": "small", "k": 3, "lines_per_sample": 2, "threshold": 1.0}],
        "quick": [{"tier": "small", "k": 0}],
    }
    here = render(tmp_path_factory.mktemp("scripted"), [ScriptedTier("small")], plans, default="one", stream=True)
    return start_server(here.repositories, here.deployment)


@pytest.fixture(scope="module")
def gateway(server: RunningServer) -> Iterator[Gateway]:
    with running_gateway(server.grpc, api_keys=KEY) as running:
        yield running


@pytest.fixture
def sdk(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def test_openais_sdk_completes(sdk: openai.OpenAI) -> None:
    done = sdk.completions.create(model="codecascade", prompt=PREFIX, suffix=SUFFIX, max_tokens=64, temperature=0.2)
    assert done.choices[0].text.endswith(BODY)
    assert done.usage
    assert done.usage.total_tokens > 0
    assert done.model_extra
    assert done.model_extra["codecascade"]["tier"] == "small"


def test_openais_sdk_streams(sdk: openai.OpenAI) -> None:
    chunks = list(sdk.completions.create(model="codecascade", prompt=PREFIX, suffix=SUFFIX, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks).endswith(BODY)
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_openais_sdk_chats(sdk: openai.OpenAI) -> None:
    done = sdk.chat.completions.create(model="codecascade", messages=MESSAGES)
    assert (done.choices[0].message.content or "").endswith(f"{BODY}```\n")
    options: Any = {"stream_options": {"include_usage": True}}
    *chunks, last = sdk.chat.completions.create(model="codecascade", messages=MESSAGES, stream=True, **options)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == done.choices[0].message.content
    assert last.usage
    assert last.usage.total_tokens > 0


def test_openais_sdk_says_more_by_extra_body_and_headers(sdk: openai.OpenAI) -> None:
    body = {"tests": ["assert add(2, 2) == 4"], "return_trace": True}
    headers = {"X-Codecascade-Plan": "quick"}
    done = sdk.completions.create(model="codecascade", prompt=PREFIX, extra_body=body, extra_headers=headers)
    assert done.model_extra
    assert done.model_extra["codecascade"]["trace"]["plan"] == "quick"


def test_openais_sdk_lists_models(sdk: openai.OpenAI) -> None:
    assert [model.id for model in sdk.models.list()] == ["codecascade", "codecascade/one", "codecascade/quick"]
    assert sdk.models.retrieve("codecascade/quick").id == "codecascade/quick"


def test_openais_sdk_knows_the_errors(sdk: openai.OpenAI, gateway: Gateway) -> None:
    with pytest.raises(openai.NotFoundError, match="plan 'gpt-4' is unknown") as missing:
        sdk.completions.create(model="gpt-4", prompt=PREFIX)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="n: input should be 1"):
        sdk.completions.create(model="codecascade", prompt=PREFIX, n=2)
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="other").models.list()


@pytest.fixture(scope="module")
def clients_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python in an environment of these clients alone: LiteLLM holds an older version of OpenAI's SDK."""
    folder = tmp_path_factory.mktemp("clients")
    run([sys.executable, "-m", "venv", "--without-pip", folder], folder)
    python = folder / "bin" / "python"
    lock = ROOT / "requirements-clients.lock"
    run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--require-hashes", "-r", lock], folder)
    return python


@pytest.mark.slow
def test_litellm_completes_streams_and_chats(gateway: Gateway, clients_python: Path, tmp_path: Path) -> None:
    said = json.loads(run([clients_python, HERE / "ask_litellm.py", f"{gateway.url}/v1", KEY, PREFIX, SUFFIX], tmp_path))
    assert said["completed"].endswith(BODY)
    assert said["streamed"].endswith(BODY)
    assert said["chatted"].endswith(f"{BODY}```\n")


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages that the programs for Node.js need, and Triton's protocol as proto-loader reads it."""
    folder = tmp_path_factory.mktemp("node")
    install_packages(folder, "ask_openai.mjs")
    protocol = FileDescriptorSet()
    for module in (model_config_pb2, service_pb2):
        module.DESCRIPTOR.CopyToProto(protocol.file.add())
    (folder / "grpc_service.bin").write_bytes(protocol.SerializeToString())
    return folder


def test_openai_for_node_completes_and_streams(gateway: Gateway, node_folder: Path) -> None:
    said = json.loads(run(["node", "ask_openai.mjs", f"{gateway.url}/v1", KEY, PREFIX, SUFFIX], node_folder))
    assert said["completed"].endswith(BODY)
    assert said["streamed"].endswith(BODY)
    assert said["chatted"].endswith(f"{BODY}```\n")
    assert said["refused"] == 404


@pytest.fixture(scope="module")
def open_gateway(server: RunningServer) -> Iterator[Gateway]:
    """As `make serve` starts it: without keys."""
    with running_gateway(server.grpc) as running:
        yield running


def examples(language: str) -> list[Any]:
    """The blocks of docs/clients.md in a language, by their number."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / "docs/clients.md").read_text(), re.DOTALL | re.MULTILINE)
    return [pytest.param(block, id=f"{language}-{number}") for number, block in enumerate(blocks)]


@pytest.mark.parametrize("example", examples("sh"))
def test_an_example_for_the_shell_prints_the_code(
    example: str, open_gateway: Gateway, server: RunningServer, tmp_path: Path
) -> None:
    assert "return a + b" in run(["sh", "-c", here(example, open_gateway, server)], tmp_path)


@pytest.mark.parametrize("example", examples("python"))
def test_an_example_in_python_prints_the_code(
    example: str, open_gateway: Gateway, server: RunningServer, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    python = request.getfixturevalue("clients_python") if "tritonclient.http" in example else sys.executable
    assert "return a + b" in run([python, "-c", here(example, open_gateway, server)], tmp_path)


@pytest.mark.parametrize("example", examples("js"))
def test_an_example_for_node_prints_the_code(
    example: str, open_gateway: Gateway, server: RunningServer, node_folder: Path
) -> None:
    """tritonclient has Triton's protocol compiled, not its .proto."""
    compiled = example.replace(
        'loadSync("grpc_service.proto",', 'loadFileDescriptorSetFromBuffer(fs.readFileSync("grpc_service.bin"),'
    )
    (node_folder / "example.mjs").write_text('import fs from "node:fs";\n' + here(compiled, open_gateway, server))
    assert "return a + b" in run(["node", "example.mjs"], node_folder)


def here(example: str, gateway: Gateway, server: RunningServer) -> str:
    """The example with the addresses of this test's servers."""
    addresses = {"localhost:8080": f"127.0.0.1:{gateway.port}", "localhost:8001": server.grpc, "localhost:8000": server.http}
    for written, real in addresses.items():
        example = example.replace(written, real)
    return example
