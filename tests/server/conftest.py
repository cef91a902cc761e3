"""Real Triton servers for the tests, on free ports."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from codecascade_build.fetch.sources import sources
from codecascade_build.fetch.weights import obtain
from codecascade_build.paths import cache_dir
from codecascade_build.progress import Progress
from codecascade_build.recipes import load_recipe
from codecascade_build.render.llama_cpp import settings
from codecascade_build.server.install import TritonInstall
from codecascade_build.server.process import RunningServer, running
from codecascade_build.stack import prepare

from tests.conversion import need_conversion
from tests.fake_tensorrt_llm.counting import counting_checkpoint
from tests.server import llm_api
from tests.server.engine.checkpoint import checkpoint
from tests.server.engine.deployed import TIER, path_with_one_h100, render_with_stand_in, repositories
from tests.server.real_server import UNASKED, StartServer, unpacked_server
from tests.server.scripted.repository import ScriptedTier, render


@pytest.fixture(scope="session")
def triton_install() -> TritonInstall:
    """The server that `make setup` unpacked."""
    return unpacked_server()


@contextlib.contextmanager
def starting(install: TritonInstall, logs: Path) -> Iterator[StartServer]:
    """Starts servers that are stopped at the end. A server has a thousand threads, so few should run at a time."""
    numbers = itertools.count(1)
    with contextlib.ExitStack() as servers:
        started: list[RunningServer] = []

        def start(
            repositories: Sequence[Path], deployment: Path | None = None, supervision: Sequence[str] = UNASKED
        ) -> RunningServer:
            log = logs / f"triton-{next(numbers)}.log"
            one = running(install, repositories, log=log, deployment=deployment, supervision=supervision)
            started.append(servers.enter_context(one))
            return started[-1]

        yield start
        for server in started:  # all at once; each is then waited for
            server.process.terminate()


@pytest.fixture(scope="module")
def start_server(triton_install: TritonInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Starts a server that is stopped at the end of the module."""
    with starting(triton_install, tmp_path_factory.mktemp("triton-logs")) as start:
        yield start


@pytest.fixture(scope="session")
def start_shared_server(triton_install: TritonInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Starts a server that is stopped at the end of the session. Call it from a session fixture."""
    with starting(triton_install, tmp_path_factory.mktemp("triton-logs")) as start:
        yield start


@pytest.fixture(scope="session")
def qwen_server(start_shared_server: StartServer) -> RunningServer:
    """The deployment that `make run` starts: real weights, the real sandbox, the shipped plans."""
    stack = prepare("qwen2.5-coder", Progress())
    return start_shared_server(stack.repositories, stack.rendered.deployment)


@pytest.fixture(scope="session")
def scripted_server(start_shared_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    """The cascade over one scripted tier, `small`, with a plan that tests it; its sandbox passes everything."""
    plans = {"one": [{"tier": "small", "k": 3, "lines_per_sample": 2, "threshold": 1.0}]}
    repository = render(tmp_path_factory.mktemp("scripted"), [ScriptedTier("small")], plans, default="one")
    return start_shared_server(repository.repositories, repository.deployment)


@pytest.fixture(scope="session")
def llm_api_server(start_shared_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    """A tier of the LLM API, with a fake of TensorRT-LLM's package."""
    need_conversion()
    here = tmp_path_factory.mktemp("llm_api")
    return start_shared_server([llm_api.repository(counting_checkpoint(here / "checkpoint"), here)])


@pytest.fixture(scope="session")
def engine_checkpoint() -> Path:
    """The smallest model's weights as a checkpoint that transformers reads."""
    need_conversion()
    weights = settings(load_recipe("qwen2.5-coder"), "llama_cpp")[TIER].weights
    return checkpoint(obtain(weights, sources(os.environ, Progress())), weights.sha256, cache_dir() / "checkpoints")


@pytest.fixture(scope="session")
def engine_server(
    start_shared_server: StartServer, engine_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> RunningServer:
    """An engine tier with all of its models, with a stand-in in the place of TensorRT-LLM's own."""
    here = tmp_path_factory.mktemp("engine")
    rendered = render_with_stand_in(engine_checkpoint, here)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", path_with_one_h100(here))
        return start_shared_server(repositories(rendered), rendered.deployment)
