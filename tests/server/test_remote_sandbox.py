"""The sandbox of another Triton, over gRPC."""

from __future__ import annotations

import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from codecascade.errors import InvalidRequest, SandboxUnavailable
from codecascade.triton.calls.remote import RemoteSandbox
from codecascade.triton.calls.tls import Tls
from codecascade.types import Candidate, TestLine
from codecascade_build.paths import ROOT

from tests.server.real_server import StartServer

pytestmark = pytest.mark.triton

SOURCES = [Candidate("def f(x):\n    return x * 2"), Candidate("def f(x):\n    return x")]
LINES = [TestLine("assert f(2) == 4"), TestLine("assert f(0) == 0"), TestLine("nonsense")]


@pytest.fixture(scope="module")
def address(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    repository = tmp_path_factory.mktemp("repository")
    shutil.copytree(ROOT / "model_repository" / "sandbox", repository / "sandbox")
    return start_server([repository]).grpc


@pytest.fixture
async def sandbox(address: str) -> AsyncIterator[RemoteSandbox]:
    sandbox = RemoteSandbox(address)
    yield sandbox
    await sandbox.close()


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
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    sandbox = RemoteSandbox(address)
    with pytest.raises(SandboxUnavailable, match=address):
        await sandbox.run(SOURCES, LINES)
    await sandbox.close()


async def test_a_server_that_does_not_answer_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sandbox = RemoteSandbox(f"127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)
        with pytest.raises(SandboxUnavailable, match=r"no answer within 0.2 s"):
            await sandbox.run(SOURCES, LINES)
        await sandbox.close()


async def test_tls_is_not_talked_to_a_server_without_it(address: str, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")
    sandbox = RemoteSandbox(address, Tls(tmp_path / "ca.pem"), timeout_s=20)
    with pytest.raises(SandboxUnavailable, match=address):
        await sandbox.run(SOURCES, LINES)
    await sandbox.close()
