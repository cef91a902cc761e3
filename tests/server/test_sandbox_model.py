"""The `sandbox` model on a real Triton, asked by a client and by the cascade of another server."""

from __future__ import annotations

import json
import re
import shutil
import socket
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from codecascade.errors import InvalidRequest, SandboxUnavailable
from codecascade.triton.calls.remote import RemoteSandbox
from codecascade.triton.calls.tls import Tls
from codecascade.types import Candidate, TestLine
from codecascade_build.paths import ROOT
from codecascade_build.server.process import RunningServer
from tritonclient.grpc import InferenceServerClient, InferInput, InferResult
from tritonclient.utils import InferenceServerException

from tests.server.real_server import StartServer

pytestmark = pytest.mark.triton

FUNCTION = "def f(x):\n    return x * 2\n"
SOURCES = [Candidate("def f(x):\n    return x * 2"), Candidate("def f(x):\n    return x")]
LINES = [TestLine("assert f(2) == 4"), TestLine("assert f(0) == 0"), TestLine("nonsense")]


@pytest.fixture(scope="module")
def server(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    repository = tmp_path_factory.mktemp("repository")
    shutil.copytree(ROOT / "model_repository" / "sandbox", repository / "sandbox")
    return start_server([repository])


@pytest.fixture
def client(server: RunningServer) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(server.grpc) as client:
        yield client


@pytest.fixture
async def sandbox(server: RunningServer) -> AsyncIterator[RemoteSandbox]:
    sandbox = RemoteSandbox(server.grpc)
    yield sandbox
    await sandbox.close()


def judge(client: InferenceServerClient, candidates: Sequence[str | bytes], lines: Sequence[str]) -> InferResult:
    inputs = []
    for name, values in (("candidates", candidates), ("test_lines", lines)):
        data = np.array([value.encode() if isinstance(value, str) else value for value in values], np.object_)
        inputs.append(InferInput(name, data.shape, "BYTES").set_data_from_numpy(data))
    return client.infer("sandbox", inputs)


def test_answers_a_verdict_for_every_candidate_and_line(client: InferenceServerClient) -> None:
    hostile = "import os\nos.system('touch /tmp/escaped')\n"
    result = judge(client, [FUNCTION, "def f(x):\n    return x\n", hostile], ["assert f(2) == 4", "assert f(0) == 0"])
    assert result.as_numpy("verdicts").tolist() == [[0, 0], [1, 0], [2, 2]]
    assert (result.as_numpy("cpu_s") > 0).all()
    assert not Path("/tmp/escaped").exists()


def test_answers_many_requests_at_once(client: InferenceServerClient) -> None:
    def one(n: int) -> bool:
        return bool((judge(client, [FUNCTION], [f"assert f({n}) == {2 * n}"]).as_numpy("verdicts") == 0).all())

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(one, range(64)))


def test_names_the_candidate_that_is_not_text(client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match=r"candidates\[1\] is not UTF-8"):
        judge(client, [FUNCTION, b"\xff"], ["assert f(2) == 4"])


def test_an_endless_candidate_does_not_stop_the_others(client: InferenceServerClient) -> None:
    with ThreadPoolExecutor(2) as threads:
        endless = threads.submit(judge, client, ["while True: pass"], ["assert True"])
        quick = threads.submit(judge, client, [FUNCTION], ["assert f(2) == 4"])
        assert quick.result().as_numpy("verdicts").tolist() == [[0]]
        assert endless.result().as_numpy("verdicts").tolist() == [[3]]


def test_metrics_count_runs_and_verdicts(client: InferenceServerClient, server: RunningServer) -> None:
    def counted(pattern: str) -> float:
        text = urllib.request.urlopen(f"http://{server.metrics}/metrics").read().decode()
        return sum(float(value) for value in re.findall(rf"^codecascade_sandbox_{pattern} (\S+)$", text, re.MULTILINE))

    before = counted("runs_total.*"), counted("verdicts_total.*fail.*")
    judge(client, [FUNCTION, "def f(x):\n    return 0\n"], ["assert f(2) == 4"])
    while counted("runs_total.*") < before[0] + 2:
        pass
    assert counted("verdicts_total.*fail.*") == before[1] + 1
    assert counted("zygotes_started_total.*") >= 1


def test_offers_the_packages_of_the_deployment(start_server: StartServer, tmp_path: Path) -> None:
    tier = {"name": "t", "style": "chatml", "context_tokens": 1, "max_completion_tokens": 1, "price_per_mtok": 0}
    listed = {"format": 1, "family": "f", "plans": "plans.json", "tiers": [tier], "sandbox_modules": ["numpy"]}
    (tmp_path / "deployment.json").write_text(json.dumps(listed))
    shutil.copytree(ROOT / "model_repository" / "sandbox", tmp_path / "models" / "sandbox")
    with InferenceServerClient(start_server([tmp_path / "models"], tmp_path / "deployment.json").grpc) as client:
        result = judge(client, ["import numpy\ndef f(x):\n    return numpy.mean(x)\n"], ["assert f([1, 2]) == 1.5"])
    assert result.as_numpy("verdicts").tolist() == [[0]]


def test_offers_no_packages_without_one(client: InferenceServerClient) -> None:
    result = judge(client, ["import numpy\n"], ["assert True"])
    assert result.as_numpy("verdicts").tolist() == [[2]]


async def test_gives_the_verdicts_of_the_other_server(sandbox: RemoteSandbox) -> None:
    matrix = await sandbox.run(SOURCES, LINES)
    assert matrix.verdicts.tolist() == [[0, 0, 2], [1, 0, 2]]
    assert (matrix.cpu_s > 0).all()


async def test_an_empty_matrix_needs_no_server() -> None:
    assert (await RemoteSandbox("nowhere:1").run([], LINES)).verdicts.shape == (0, 3)


async def test_what_the_other_server_refuses_is_refused_here(sandbox: RemoteSandbox) -> None:
    with pytest.raises(InvalidRequest, match="10000 test lines are too many"):
        await sandbox.run(SOURCES, [TestLine(f"assert f({n}) == {n}") for n in range(10_000)])


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    sandbox = RemoteSandbox("127.0.0.1:1")
    with pytest.raises(SandboxUnavailable, match=r"127\.0\.0\.1:1\b"):
        await sandbox.run(SOURCES, LINES)
    await sandbox.close()


async def test_a_server_that_does_not_answer_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sandbox = RemoteSandbox(f"127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)
        with pytest.raises(SandboxUnavailable, match=r"no answer within 0.2 s"):
            await sandbox.run(SOURCES, LINES)
        await sandbox.close()


async def test_tls_is_not_talked_to_a_server_without_it(server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")
    sandbox = RemoteSandbox(server.grpc, Tls(tmp_path / "ca.pem"), timeout_s=20)
    with pytest.raises(SandboxUnavailable, match=server.grpc):
        await sandbox.run(SOURCES, LINES)
    await sandbox.close()
