"""A process of a real server dies or hangs: what its callers, its probes and its supervisor do."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest
import pytest_asyncio
from codecascade.supervision.processes import descendants, stubs
from codecascade_build.server.install import TritonInstall
from codecascade_build.server.process import RunningServer, running
from codecascade_client.client import AsyncCascadeClient
from codecascade_client.errors import RequestFailed

from tests.server.metrics import eventually, metric
from tests.server.real_server import StartServer
from tests.server.scripted.repository import ScriptedRepository, ScriptedTier, render
from tests.server.stubs import kill_stub, probe, stub_pid, supervisor_metric

pytestmark = pytest.mark.triton

PROMPT = 'def add(a, b):\n    """The sum of a and b."""\n'
PLANS = {"two": [{"tier": "small", "k": 1, "lines_per_sample": 1, "threshold": 1.0}, {"tier": "large", "k": 0}]}
MODELS = ["cascade", "cascade_stream", "small", "sandbox"]
NEVER = ["--restarts=0"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> ScriptedRepository:
    tiers = [ScriptedTier("small"), ScriptedTier("large")]
    return render(tmp_path_factory.mktemp("repository"), tiers, PLANS, default="two", real_sandbox=True, stream=True)


@pytest.fixture(scope="module")
def server(start_server: StartServer, repository: ScriptedRepository) -> RunningServer:
    return start_server(repository.repositories, repository.deployment, ["--window-s=1"])  # nearly unbounded


@pytest.fixture
def mortal(start_server: StartServer, repository: ScriptedRepository) -> RunningServer:
    """A server that is not started again."""
    return start_server(repository.repositories, repository.deployment, NEVER)


@pytest_asyncio.fixture
async def client(server: RunningServer) -> AsyncIterator[AsyncCascadeClient]:
    async with AsyncCascadeClient(server.grpc) as connected:
        yield connected


async def until(holds: Callable[[], bool]) -> None:
    await eventually(holds, within_s=60)


def is_ready(server: RunningServer) -> bool:
    return probe(server, "ready")[0] == 200


async def test_probes_name_every_python_model(server: RunningServer) -> None:
    status, document = probe(server, "ready")
    assert (status, document["ready"], document["phase"]) == (200, True, "serving")
    assert document["models"] == {
        name: {"ready": True, "reason": None} for name in ("cascade", "cascade_stream", "large", "plans", "sandbox", "small")
    }
    assert probe(server, "live") == (200, {"live": True, "phase": "serving"})


@pytest.mark.parametrize("model", MODELS)
async def test_a_dead_process_is_replaced_and_its_callers_are_told(
    server: RunningServer, client: AsyncCascadeClient, model: str
) -> None:
    restarts = f'codecascade_server_restarts_total{{model="{model}",reason="ended"}}'
    before, dead = supervisor_metric(server, restarts), stub_pid(server, model)
    under_way = [asyncio.create_task(client.complete(f"# small: stall\n{PROMPT}", timeout_s=60)) for _ in range(8)]
    await until(lambda: metric(server, 'scripted_stalled_calls{tier="small"}') >= 8)  # counted anew by every server
    os.kill(dead, signal.SIGKILL)
    for failed in await asyncio.gather(*under_way, return_exceptions=True):
        assert isinstance(failed, RequestFailed)
        assert failed.code is grpc.StatusCode.UNAVAILABLE
    await until(lambda: is_ready(server) and stub_pid(server, model) != dead)
    assert (await client.complete(PROMPT)).text.endswith("return a + b\n")
    assert supervisor_metric(server, restarts) == before + 1
    assert supervisor_metric(server, f'codecascade_model_up{{model="{model}"}}') == 1
    assert f"Model {model}: its process ended. Starting the server again" in server.log_text()
    assert probe(server, "ready")[1]["latest_trouble"] == f"Model {model}: its process ended"


@pytest.mark.parametrize("model", MODELS)
async def test_probes_tell_of_a_dead_process_that_triton_does_not_notice(mortal: RunningServer, model: str) -> None:
    kill_stub(mortal, model)
    await until(lambda: probe(mortal, "ready")[0] == 503)
    async with AsyncCascadeClient(mortal.grpc) as client:
        assert all((await client.health()).models.values())  # what Triton says
    assert probe(mortal, "ready")[1]["models"][model] == {"ready": False, "reason": "its process ended"}
    assert probe(mortal, "live") == (503, {"live": False, "phase": "failed"})
    assert supervisor_metric(mortal, f'codecascade_model_up{{model="{model}"}}') == 0


async def test_a_process_that_hangs_is_not_ready_and_is_ready_when_it_goes_on(
    start_server: StartServer, repository: ScriptedRepository
) -> None:
    server = start_server(repository.repositories, repository.deployment, ["--answer-s=1"])
    kill_stub(server, "small", signal.SIGSTOP)
    await until(lambda: not is_ready(server))
    small = probe(server, "ready")[1]["models"]["small"]
    assert small["reason"] in ("no answer within 1 s", "Stub process 'small_0_0' is not healthy.")  # Triton says so now and then
    assert not small["ready"]
    assert probe(server, "live")[0] == 200
    kill_stub(server, "small", signal.SIGCONT)
    await until(lambda: is_ready(server))


async def test_a_process_that_hangs_for_long_is_replaced(start_server: StartServer, repository: ScriptedRepository) -> None:
    server = start_server(repository.repositories, repository.deployment, ["--answer-s=1", "--hung-s=2"])
    kill_stub(server, "cascade", signal.SIGSTOP)
    await until(lambda: supervisor_metric(server, 'codecascade_server_restarts_total{model="cascade",reason="hung"}') == 1)
    await until(lambda: is_ready(server))
    async with AsyncCascadeClient(server.grpc) as client:
        assert (await client.complete(PROMPT)).text.endswith("return a + b\n")


async def test_a_server_that_ends_by_itself_is_started_again(server: RunningServer, client: AsyncCascadeClient) -> None:
    os.kill(descendants(server.process.pid)[0], signal.SIGKILL)  # Triton itself
    await until(lambda: supervisor_metric(server, 'codecascade_server_restarts_total{model="(server)",reason="ended"}') == 1)
    await until(lambda: is_ready(server))
    assert (await client.complete(PROMPT)).text.endswith("return a + b\n")


async def test_one_restart_too_many_ends_the_supervisor_and_every_process(
    triton_install: TritonInstall, repository: ScriptedRepository, tmp_path: Path
) -> None:
    with running(
        triton_install,
        repository.repositories,
        log=tmp_path / "log",
        deployment=repository.deployment,
        supervision=["--restarts=1"],
    ) as server:
        kill_stub(server, "cascade")
        await until(lambda: supervisor_metric(server, 'codecascade_server_restarts_total{model="cascade",reason="ended"}') == 1)
        await until(lambda: is_ready(server))
        every = [os.pidfd_open(pid) for pid in descendants(server.process.pid)]
        kill_stub(server, "cascade")
        assert await asyncio.to_thread(server.process.wait) == 1
        for process in every:
            assert select.select([process], [], [], 30)[0]
            os.close(process)
    assert "Model cascade: its process ended. The server is not started again (1 of at most 1 restarts" in server.log_text()


async def test_a_full_disk_under_its_log_does_not_end_the_supervisor(
    triton_install: TritonInstall, repository: ScriptedRepository, tmp_path: Path
) -> None:
    with (
        Path("/dev/full").open("w") as full,  # noqa: ASYNC230 - nothing is behind it
        running(
            triton_install, repository.repositories, log=tmp_path / "log", deployment=repository.deployment, report=full
        ) as server,
    ):
        kill_stub(server, "small")
        await until(lambda: supervisor_metric(server, 'codecascade_server_restarts_total{model="small",reason="ended"}') == 1)
        await until(lambda: is_ready(server))


async def test_the_server_does_not_outlive_its_supervisor(
    triton_install: TritonInstall, repository: ScriptedRepository, tmp_path: Path
) -> None:
    with running(triton_install, repository.repositories, log=tmp_path / "log", deployment=repository.deployment) as server:
        every = [os.pidfd_open(pid) for pid in descendants(server.process.pid)]
        server.process.kill()
        for process in every:
            assert select.select([process], [], [], 30)[0]
            os.close(process)


async def test_a_process_that_hangs_does_not_outlive_its_server(
    triton_install: TritonInstall, repository: ScriptedRepository, tmp_path: Path
) -> None:
    with running(triton_install, repository.repositories, log=tmp_path / "log", deployment=repository.deployment) as server:
        hanging = os.pidfd_open(stub_pid(server, "small"))
        kill_stub(server, "small", signal.SIGSTOP)
    assert select.select([hanging], [], [], 30)[0]
    os.close(hanging)


async def test_zygotes_that_are_killed_are_replaced_without_a_restart(server: RunningServer, client: AsyncCascadeClient) -> None:
    sandbox = stub_pid(server, "sandbox")
    for zygote in descendants(sandbox):
        os.kill(zygote, signal.SIGKILL)
    answers = await asyncio.gather(*(client.complete(PROMPT, return_trace=True) for _ in range(8)))
    assert [(answer.tier, answer.score) for answer in answers] == [("small", 1.0)] * 8
    assert stub_pid(server, "sandbox") == sandbox


async def test_no_shared_memory_is_left_behind(server: RunningServer) -> None:
    before = {stub.region for stub in stubs(server.process.pid)}
    kill_stub(server, "cascade")
    await until(lambda: is_ready(server) and not before & {stub.region for stub in stubs(server.process.pid)})
    assert not before & set(os.listdir("/dev/shm"))
