"""A real Triton server: it starts, answers, says why it does not start, and leaves nothing behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from codecascade_build.errors import BuildError
from codecascade_build.server.install import TritonInstall
from codecascade_build.server.process import running
from tritonclient.grpc import InferenceServerClient, InferInput

from tests.server.real_server import StartServer

pytestmark = pytest.mark.triton

CONFIG = """
backend: "python"
input [{ name: "number" data_type: TYPE_INT32 dims: [ 1 ] }]
output [{ name: "double" data_type: TYPE_INT32 dims: [ 1 ] }, { name: "deployment" data_type: TYPE_STRING dims: [ 1 ] }]
instance_group [{ kind: KIND_CPU count: 1 }]
"""
MODEL = """
import os

import codecascade
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        number = pb_utils.get_input_tensor_by_name(request, "number").as_numpy()
        deployment = np.array([os.environ["CODECASCADE_DEPLOYMENT"].encode()], np.object_)
        return pb_utils.InferenceResponse([pb_utils.Tensor("double", 2 * number), pb_utils.Tensor("deployment", deployment)])
"""


def write_model(repository: Path, name: str, source: str = MODEL, config: str = CONFIG) -> Path:
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(f'name: "{name}"\n{config}')
    (repository / name / "1" / "model.py").write_text(source)
    return repository


def test_models_of_several_repositories_answer_in_the_project_s_environment(start_server: StartServer, tmp_path: Path) -> None:
    first, second = write_model(tmp_path / "a", "one"), write_model(tmp_path / "b", "two")
    server = start_server([first, second], deployment=tmp_path / "deployment.json")
    client = InferenceServerClient(server.grpc)
    number = InferInput("number", [1], "INT32")
    number.set_data_from_numpy(np.array([21], np.int32))
    for model in ("one", "two"):
        answer = client.infer(model, [number])
        assert answer.as_numpy("double").tolist() == [42]
        assert answer.as_numpy("deployment").tolist() == [str(tmp_path / "deployment.json").encode()]
    client.close()
    with urllib.request.urlopen(f"http://{server.metrics}/metrics") as metrics:
        assert b'nv_inference_request_success{model="one"' in metrics.read()


def test_a_stopped_server_leaves_no_process(triton_install: TritonInstall, tmp_path: Path) -> None:
    with running(triton_install, [write_model(tmp_path / "models", "one")], log=tmp_path / "log") as server:
        group = server.process.pid
        assert processes_of(group)
    assert not processes_of(group)


def test_a_server_is_stopped_when_what_runs_beside_it_fails(triton_install: TritonInstall, tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="the client broke"),
        running(triton_install, [write_model(tmp_path / "models", "one")], log=tmp_path / "log") as server,
    ):
        raise RuntimeError("the client broke")
    assert not processes_of(server.process.pid)


def test_a_server_dies_with_whoever_started_it(triton_install: TritonInstall, tmp_path: Path) -> None:
    write_model(tmp_path / "models", "one")
    script = (
        "from pathlib import Path; from codecascade_build.server.install import TritonInstall\n"
        "from codecascade_build.server.process import running\n"
        f"with running(TritonInstall(Path({str(triton_install.folder)!r})), [Path({str(tmp_path / 'models')!r})], "
        f"log=Path({str(tmp_path / 'log')!r})) as server:\n"
        "    print(server.process.pid, flush=True); server.wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout
        server = int(starter.stdout.readline())
        gone = os.pidfd_open(server)
        starter.send_signal(signal.SIGKILL)
    assert select_readable(gone, timeout_s=30), "the server outlived its starter"
    os.close(gone)


@pytest.mark.parametrize(
    ("source", "config", "reason"),
    [
        ("import nothere", CONFIG, "model 'one': ModuleNotFoundError: No module named 'nothere'"),
        (MODEL, CONFIG + 'bogus: "x"', "the config.pbtxt of model 'one' cannot be read, .*has no field named \"bogus\""),
        (
            "class TritonPythonModel:\n    def initialize(self, args):\n        raise ValueError('no weights')",
            CONFIG,
            "no weights",
        ),
    ],
    ids=["import error", "bad config", "initialize raises"],
)
def test_a_model_that_cannot_load_is_named_with_the_reason(
    source: str, config: str, reason: str, triton_install: TritonInstall, tmp_path: Path
) -> None:
    write_model(tmp_path / "models", "one", source, config)
    with (
        pytest.raises(BuildError, match=f"Triton did not start: .*{reason}.* \\(log: {tmp_path / 'log'}\\)"),
        running(triton_install, [tmp_path / "models"], log=tmp_path / "log"),
    ):
        pytest.fail("it started")


def test_a_stray_folder_in_a_repository_is_named(triton_install: TritonInstall, tmp_path: Path) -> None:
    write_model(tmp_path / "models", "one")
    (tmp_path / "models" / "notes").mkdir()
    with (
        pytest.raises(BuildError, match=r"Triton did not start: model 'notes': .*config.pbtxt: No such file or directory"),
        running(triton_install, [tmp_path / "models"], log=tmp_path / "log"),
    ):
        pytest.fail("it started")


def processes_of(group: int) -> list[int]:
    """The processes of a process group that still run."""
    running = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it ended while we looked
            continue
        if int(of_group) == group and state != "Z":
            running.append(int(stat.parent.name))
    return running


def select_readable(descriptor: int, timeout_s: float) -> bool:
    """Whether the process behind a pidfd ends within this time."""
    return bool(select.select([descriptor], [], [], timeout_s)[0])
