"""Starts one Triton server under its supervisor, waits until it is ready, and stops it.

This stays our own code because it turns Triton's log into one sentence: which model failed, and why.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import IO

from codecascade.triton.calls.names import TOKEN_VARIABLE
from codecascade.triton.calls.threads import FEW, VARIABLE, pool_size

from codecascade_build.errors import BuildError
from codecascade_build.server.install import TritonInstall, python_library_dir

LOOPBACK = "127.0.0.1"
_EXIT_TIMEOUT_S = 10
_KILL_AFTER_S = _EXIT_TIMEOUT_S + 3
_POLL_S = 0.1
# Triton's interfaces that no client of ours uses: they map this machine's shared memory and change the log.
_CLOSED = "shared-memory,trace,logging"


@dataclass(frozen=True, slots=True)
class Ports:
    http: int
    grpc: int
    metrics: int
    health: int
    """The supervisor's: /health/live, /health/ready and its own /metrics."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that answers. Addresses are host:port."""

    host: str
    ports: Ports
    log: Path
    process: subprocess.Popen[bytes]
    """The supervisor, which starts Triton again when one of its processes is gone."""
    inner_token: str = ""

    @property
    def http(self) -> str:
        return f"{self.host}:{self.ports.http}"

    @property
    def grpc(self) -> str:
        return f"{self.host}:{self.ports.grpc}"

    @property
    def metrics(self) -> str:
        return f"{self.host}:{self.ports.metrics}"

    @property
    def health(self) -> str:
        return f"{self.host}:{self.ports.health}"

    def wait(self) -> None:
        """Returns when the server has ended by itself."""
        self.process.wait()

    def log_text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def running(
    install: TritonInstall,
    repositories: Sequence[Path],
    *,
    log: Path,
    deployment: Path | None = None,
    host: str = LOOPBACK,
    ports: Ports | None = None,
    ready_timeout_s: float = 300.0,
    inner_token: str = "",
    supervision: Sequence[str] = (),
    report: IO[str] | None = None,
) -> Iterator[RunningServer]:
    """Starts a server, yields it when it is ready, and stops it at the end.

    repositories: folders of models.
    log: the file for the server's output. An older one is overwritten.
    deployment: the rendered deployment file, for the cascade.
    ports: free ones unless given.
    inner_token: what tiers and sandbox want of a caller; empty: nothing.
    supervision: further options of the supervisor.
    report: where the supervisor tells what it does; None: in the log.
    Raises BuildError if the server cannot start. The message names the model and the reason.
    """
    chosen = ports or free_ports(host)
    for port in astuple(chosen):
        _check_free(host, port)
    log.parent.mkdir(parents=True, exist_ok=True)
    threads = pool_size(os.environ, deployment)
    argv = [*supervisor_argv(host, chosen, supervision), *server_argv(install, repositories, host, chosen, threads)]
    environ = server_environ(os.environ, python_library_dir(), deployment)
    environ |= {VARIABLE: str(threads), TOKEN_VARIABLE: inner_token}
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=report or subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then stops the server
        )
    try:
        server = RunningServer(host, chosen, log, process, inner_token)
        _wait_until_ready(server, ready_timeout_s)
        yield server
    finally:
        _stop(process)


def supervisor_argv(host: str, ports: Ports, more: Sequence[str] = ()) -> list[str]:
    """What stands before the command that it supervises."""
    return [
        *("setpriv", "--pdeathsig", "TERM"),  # it ends with the process that started it, however that ends
        *(sys.executable, "-m", "codecascade.supervision"),
        *(f"--address={host}", f"--port={ports.health}", *more, "--"),
    ]


def server_argv(
    install: TritonInstall, repositories: Sequence[Path], host: str, ports: Ports, nested_calls: int = FEW
) -> list[str]:
    return [
        str(install.program),
        *(f"--model-repository={repository}" for repository in repositories),
        f"--backend-directory={install.backends}",
        "--disable-auto-complete-config",
        f"--backend-config=python,thread-pool-size={nested_calls}",
        f"--exit-timeout-secs={_EXIT_TIMEOUT_S}",
        f"--http-restricted-api={_CLOSED}:closed={(closed := secrets.token_hex(16))}",
        f"--grpc-restricted-protocol={_CLOSED}:closed={closed}",
        f"--http-address={host}",
        f"--http-port={ports.http}",
        f"--grpc-address={host}",
        f"--grpc-port={ports.grpc}",
        f"--metrics-address={host}",
        f"--metrics-port={ports.metrics}",
    ]


def server_environ(base: Mapping[str, str], library_dir: Path | None, deployment: Path | None) -> dict[str, str]:
    """The server's environment variables. PATH leads its Python models to the environment of this interpreter."""
    environ = {key: value for key, value in base.items() if not key.startswith("PYTHON")}
    environ["PATH"] = os.pathsep.join([str(Path(sys.prefix) / "bin"), base.get("PATH", os.defpath)])
    if library_dir is not None:
        environ["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, [str(library_dir), base.get("LD_LIBRARY_PATH")]))
    if deployment is not None:
        environ["CODECASCADE_DEPLOYMENT"] = str(deployment)
    return environ


def free_ports(host: str = LOOPBACK) -> Ports:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in fields(Ports)]
        for listener in sockets:
            listener.bind((host, 0))
        return Ports(*(listener.getsockname()[1] for listener in sockets))


def failure(log: str) -> str:
    """Which model stopped a server, and why, without a full stop. log: the server's output."""
    for pattern, sentence in _DECISIVE:
        if match := pattern.search(log):
            return sentence.format(*match.groups()).rstrip(".")
    lines = [line for line in log.splitlines() if line.strip()]
    return lines[-1] if lines else "it wrote nothing"


# Triton logs one failure in several forms. The most telling one comes first.
_DECISIVE = (
    (
        re.compile(r"text-format inference\.ModelConfig: (.+)\n.*Poll failed for model directory '([^']+)'"),
        "the config.pbtxt of model '{1}' cannot be read, {0}",
    ),
    (re.compile(r"Poll failed for model directory '([^']+)': (.+)\""), "model '{0}': {1}"),
    (re.compile(r"failed to load '([^']+)' version \d+: \w+: (.+?)(?:\\n\\nAt:|\"?\n)"), "model '{0}': {1}"),
    (re.compile(r"^E\d+ (?!.*CudaDriverHelper).*?\] \"?(.+?)\"?$", re.MULTILINE), "{0}"),
    (re.compile(r"^error: creating server: \w+ - (.+)$", re.MULTILINE), "{0}"),
)


def _check_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise BuildError(
                f"Port {port} on {host} cannot be used ({error.strerror}): stop what listens there or choose another port."
            ) from error


def _wait_until_ready(server: RunningServer, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not _is_ready(server):
        if server.process.poll() is not None:
            raise BuildError(f"Triton did not start: {failure(server.log_text())} (log: {server.log}).")
        if time.monotonic() > deadline:
            raise BuildError(f"Triton was not ready within {timeout_s:.0f} s (log: {server.log}).")
        time.sleep(_POLL_S)


def _is_ready(server: RunningServer) -> bool:
    """Triton opens the port of its metrics last, a moment after it says that it is ready."""
    return answers(f"http://{server.health}/health/ready") and answers(f"http://{server.metrics}/metrics")


def answers(url: str) -> bool:
    """Whether an HTTP address answers with 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_KILL_AFTER_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the server's own session: its stubs too
        process.wait()
