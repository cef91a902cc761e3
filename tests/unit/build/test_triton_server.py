"""What a Triton server is started with, and what is said when it does not start."""

from __future__ import annotations

import io
import os
import socket
import sys
import sysconfig
import zipfile
from dataclasses import astuple, replace
from pathlib import Path

import pytest
from codecascade_build.errors import BuildError
from codecascade_build.fetch.sources import Sources
from codecascade_build.progress import Progress
from codecascade_build.server.install import TritonInstall, check_machine, check_openmp, install, installed, python_library_dir
from codecascade_build.server.process import (
    LOOPBACK,
    Ports,
    failure,
    free_ports,
    running,
    server_argv,
    server_environ,
    supervisor_argv,
)
from codecascade_build.server.release import TritonRelease, wheel
from rich.console import Console

from tests.unit.build.file_server import file_server
from tests.unit.build.wheel_index import pip_settings, publish

SERVER = "pytriton/tritonserver"
INSTALL = TritonInstall(Path("/triton"))


def triton_wheel(folder: Path, *stubs: str) -> Path:
    """A wheel of the real one's layout."""
    path = folder / "triton.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in (
            f"{SERVER}/bin/tritonserver",
            f"{SERVER}/backends/python/libtriton_python.so",
            f"{SERVER}/caches/local/libtritoncache_local.so",
            "nvidia_pytriton.libs/libtritonserver.so",
            "nvidia_pytriton-0.7.0.dist-info/licenses/LICENSE",
            "pytriton/__init__.py",
            *(f"{SERVER}/python_backend_stubs/{python}/triton_python_backend_stub" for python in stubs),
        ):
            archive.writestr(name, name)
    return path


def test_every_repository_port_and_address_is_named() -> None:
    argv = server_argv(INSTALL, [Path("/written"), Path("/rendered")], "127.0.0.1", Ports(http=1, grpc=2, metrics=3, health=4))
    assert argv[0] == "/triton/pytriton/tritonserver/bin/tritonserver"
    assert [option for option in argv if "repository" in option] == [
        "--model-repository=/written",
        "--model-repository=/rendered",
    ]
    assert "--backend-directory=/triton/pytriton/tritonserver/backends" in argv
    assert {"--http-port=1", "--grpc-port=2", "--metrics-port=3"} < set(argv)
    assert {"--http-address=127.0.0.1", "--grpc-address=127.0.0.1", "--metrics-address=127.0.0.1"} < set(argv)
    assert any(option.startswith("--exit-timeout-secs=") for option in argv)


def test_the_models_run_in_this_environment() -> None:
    environ = server_environ({"PATH": "/bin", "PYTHONPATH": "/elsewhere", "HOME": "/home"}, Path("/python/lib"), Path("/d.json"))
    assert environ == {
        "PATH": f"{sys.prefix}/bin{os.pathsep}/bin",
        "HOME": "/home",
        "LD_LIBRARY_PATH": "/python/lib",
        "CODECASCADE_DEPLOYMENT": "/d.json",
    }


def test_a_library_path_of_the_user_is_kept() -> None:
    environ = server_environ({"LD_LIBRARY_PATH": "/mine"}, Path("/python/lib"), None)
    assert environ["LD_LIBRARY_PATH"] == "/python/lib:/mine"
    assert server_environ({"LD_LIBRARY_PATH": "/mine"}, None, None)["LD_LIBRARY_PATH"] == "/mine"


def test_the_supervisor_has_a_port_of_its_own_and_options_before_the_command() -> None:
    argv = supervisor_argv("127.0.0.1", Ports(http=1, grpc=2, metrics=3, health=4), ["--restarts=2"])
    assert argv[-4:] == ["--address=127.0.0.1", "--port=4", "--restarts=2", "--"]


def test_free_ports_are_four_and_free() -> None:
    ports = astuple(free_ports())
    assert len(set(ports)) == 4
    for port in ports:
        with socket.socket() as listener:
            listener.bind((LOOPBACK, port))


@pytest.mark.parametrize("which", ["http", "grpc", "metrics", "health"])
def test_a_port_in_use_is_named_before_anything_starts(which: str, tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        taken = listener.getsockname()[1]
        ports = replace(free_ports(), **{which: taken})
        with (
            pytest.raises(BuildError, match=rf"Port {taken} on 127.0.0.1 cannot be used \(Address already in use\)"),
            running(INSTALL, [tmp_path], log=tmp_path / "log", ports=ports),
        ):
            pytest.fail("it started")
    assert not (tmp_path / "log").exists()


# Real output of Triton 2.51, cut to the lines that matter and those that could be taken for them.
NOISE = 'E1124 06:05:04.443956 24057 server.cc:241] "CudaDriverHelper has not been initialized."\n'
END = "Error: Failed to initialize NVML\nerror: creating server: Internal - failed to load all models\n"
IMPORT_ERROR = (
    'E1124 06:05:04.904445 24057 backend_model.cc:692] "ERROR: Failed to create instance: ModuleNotFoundError: No module named '
    "'nothere'\\n\\nAt:\\n  /repo/echo/1/model.py(1): <module>\\n\"\n"
    "E1124 06:05:04.904552 24057 model_lifecycle.cc:642] \"failed to load 'echo' version 1: Internal: ModuleNotFoundError: "
    "No module named 'nothere'\\n\\nAt:\\n  /repo/echo/1/model.py(1): <module>\\n\"\n"
)
DEAD_STUB = (
    "E1124 06:05:09.776633 24147 model_lifecycle.cc:642] \"failed to load 'echo' version 1: Internal: Stub process 'echo_0_0' "
    'is not healthy."\n'
)
BAD_CONFIG = (
    "[libprotobuf ERROR /build/text_format.cc:337] Error parsing text-format inference.ModelConfig: 1:37: Message type "
    '"inference.ModelConfig" has no field named "bogus".\n'
    "E1124 06:05:06.086560 24088 model_repository_manager.cc:1460] \"Poll failed for model directory 'echo': failed to read text "
    'proto from /repo/echo/config.pbtxt"\n'
)
STRAY = (
    "E1124 06:05:05.970034 24080 model_repository_manager.cc:1460] \"Poll failed for model directory 'x': failed to open text "
    'file for read /repo/x/config.pbtxt: No such file or directory"\n'
)


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        (NOISE + IMPORT_ERROR + END, "model 'echo': ModuleNotFoundError: No module named 'nothere'"),
        (NOISE + DEAD_STUB + END, "model 'echo': Stub process 'echo_0_0' is not healthy"),
        (
            NOISE + BAD_CONFIG + END,
            "the config.pbtxt of model 'echo' cannot be read, 1:37: Message type \"inference.ModelConfig\" has no field named "
            '"bogus"',
        ),
        (NOISE + STRAY + END, "model 'x': failed to open text file for read /repo/x/config.pbtxt: No such file or directory"),
        (NOISE + "error: creating server: Internal - failed to stat file /missing\n", "failed to stat file /missing"),
        (
            "tritonserver: error while loading shared libraries: libx.so\n\n",
            "tritonserver: error while loading shared libraries: libx.so",
        ),
        ("", "it wrote nothing"),
    ],
    ids=["import error", "dead stub", "bad config", "stray folder", "missing repository", "missing library", "empty"],
)
def test_the_decisive_line_of_a_log_is_quoted(log: str, sentence: str) -> None:
    assert failure(log) == sentence


def test_a_wheel_is_unpacked_for_one_python(tmp_path: Path) -> None:
    var = tmp_path / "var"
    unpacked = install(triton_wheel(tmp_path, "3.10", "3.11"), "0.7.0", var, "3.10")
    stub = unpacked.backends / "python" / "triton_python_backend_stub"
    assert stub.read_text() == f"{SERVER}/python_backend_stubs/3.10/triton_python_backend_stub"
    assert os.access(stub, os.X_OK)
    assert os.access(unpacked.program, os.X_OK)
    assert (unpacked.folder / "nvidia_pytriton.libs" / "libtritonserver.so").exists()
    assert list(unpacked.folder.rglob("LICENSE"))
    assert not list(unpacked.folder.rglob("__init__.py"))
    assert [path.name for path in var.iterdir()] == [unpacked.folder.name]


def test_the_server_s_wheel_comes_from_the_package_index_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = Sources(tmp_path / "cache", None, "", Progress(Console(file=io.StringIO())), tmp_path / "pip.log")
    with file_server() as server:
        for name, value in pip_settings(server.url).items():
            monkeypatch.setenv(name, value)
        published = publish(server, "tiny-triton", "1.0", {"tiny/server": b"program"})
        release = TritonRelease("tiny-triton", "1.0", "tiny_triton-1.0-py3-none-any.whl", 7, published.sha256)
        path = wheel(places, release)
    assert path == tmp_path / "cache" / "wheels" / "tiny_triton-1.0-py3-none-any.whl"
    assert wheel(places, release) == path  # the index is gone


def test_a_server_that_the_package_index_lacks_is_named_with_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Sources(tmp_path / "cache", None, "", Progress(Console(file=io.StringIO())), tmp_path / "pip.log")
    release = TritonRelease("tiny-triton", "1.0", "tiny_triton-1.0-py3-none-any.whl", 7, "0" * 64)
    with file_server() as server:
        for name, value in pip_settings(server.url).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(
            BuildError, match=rf"No matching distribution .*; put {release.file} \(SHA-256 0{{64}}\) into {tmp_path}"
        ):
            wheel(places, release)


def test_a_server_is_installed_once_it_is_unpacked(tmp_path: Path) -> None:
    assert installed("0.7.0", tmp_path / "var", "3.11") is None
    unpacked = install(triton_wheel(tmp_path, "3.11"), "0.7.0", tmp_path / "var", "3.11")
    assert installed("0.7.0", tmp_path / "var", "3.11") == unpacked
    assert installed("0.7.0", tmp_path / "var", "3.12") is None


def test_a_wheel_that_breaks_off_is_not_taken_for_an_installed_server(tmp_path: Path) -> None:
    broken = triton_wheel(tmp_path, "3.11")
    content = bytearray(broken.read_bytes())
    content[content.index(b"libtritonserver.so") + 40] ^= 1  # inside a file's data: its checksum is wrong now
    broken.write_bytes(content)
    with pytest.raises(zipfile.BadZipFile):
        install(broken, "0.7.0", tmp_path / "var", "3.11")
    assert installed("0.7.0", tmp_path / "var", "3.11") is None


def test_a_python_that_triton_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"The Triton server has no Python backend for Python 3.9; use Python 3.10 to"):
        install(triton_wheel(tmp_path, "3.11"), "0.7.0", tmp_path / "var", "3.9")


@pytest.mark.parametrize("libc", [("glibc", "2.35"), ("glibc", "2.41"), ("glibc", "3.0")])
def test_a_machine_that_can_run_it_is_accepted(libc: tuple[str, str]) -> None:
    check_machine("x86_64", libc)


@pytest.mark.parametrize(
    ("machine", "libc", "what"),
    [
        ("aarch64", ("glibc", "2.41"), "this is aarch64 with glibc 2.41"),
        ("x86_64", ("glibc", "2.31"), "this is x86_64 with glibc 2.31"),
        ("x86_64", ("", ""), "this is x86_64 with no glibc"),
    ],
)
def test_a_machine_that_cannot_run_it_is_told_so(machine: str, libc: tuple[str, str], what: str) -> None:
    with pytest.raises(BuildError, match=f"The Triton server needs Linux on x86-64 with glibc 2.35 or newer .*; {what}"):
        check_machine(machine, libc)


def test_a_machine_without_openmp_is_told_so() -> None:
    check_openmp()
    with pytest.raises(BuildError, match=r"llama.cpp needs libgomp.so.99, .*: run `apt-get install libgomp1` as root"):
        check_openmp("libgomp.so.99")


def test_the_library_of_this_python_is_found() -> None:
    python = sysconfig.get_python_version()
    folder = python_library_dir()
    assert folder is None if python == "3.13" else (folder is not None and (folder / f"libpython{python}.so.1.0").exists())


def test_a_python_without_its_library_is_told_what_to_install() -> None:
    with pytest.raises(BuildError, match=r"Triton needs libpython3.99.so.1.0, .*: run `apt-get install libpython3.99` as root"):
        python_library_dir("3.99")
