"""The commands `fetch`, `run` and `serve`: download what a deployment needs on this machine, and start its server.

Progress goes to stderr. stdout is for the finished code.
"""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from codecascade.triton.calls.names import TOKEN_VARIABLE

from codecascade_build.errors import BuildError
from codecascade_build.fetch.sources import sources
from codecascade_build.fetch.weights import obtain
from codecascade_build.paths import VAR, WRITTEN_MODELS
from codecascade_build.progress import Progress
from codecascade_build.recipes import load_recipe
from codecascade_build.render.llama_cpp import render, settings
from codecascade_build.render.repository import Rendered
from codecascade_build.server.gateway import gateway
from codecascade_build.server.install import TritonInstall, check_machine, check_openmp, python_library_dir
from codecascade_build.server.process import LOOPBACK, Ports, RunningServer, failure, running
from codecascade_build.server.release import pinned, triton

app = typer.Typer(help=__doc__, add_completion=False, pretty_exceptions_enable=False)

Family = Annotated[str, typer.Option(help="The model family: a recipe in build/families.")]

_LOG = VAR / "log" / "triton.log"


@dataclass(frozen=True, slots=True)
class Stack:
    """A server program and a rendered deployment."""

    install: TritonInstall
    rendered: Rendered

    @property
    def repositories(self) -> tuple[Path, ...]:
        return (WRITTEN_MODELS, self.rendered.repository)


def prepare(family: str, progress: Progress) -> Stack:
    """Fetch what is missing and render the tiers. Needs no network when nothing is missing. Raises BuildError."""
    recipe = load_recipe(family)
    check_machine()
    check_openmp()
    python_library_dir()  # raises before the downloads if this machine lacks it
    places = sources(os.environ, progress)
    install = triton(places, pinned())
    weights = {name: obtain(tier.weights, places) for name, tier in settings(recipe, "llama_cpp").items()}
    return Stack(install, render(recipe, "llama_cpp", weights))


@app.command()
def fetch(family: Family = "qwen2.5-coder") -> None:
    """Download the Triton server and the weights, and render the tier models."""
    stack = prepare(family, Progress())
    Progress().say(f"Ready: {stack.rendered.deployment}")


@app.command()
def run(
    command: Annotated[list[str], typer.Argument(help="What to run beside the server; CODECASCADE_URL tells it where that is.")],
    family: Family = "qwen2.5-coder",
) -> None:
    """Start Triton, run a command, stop Triton. The exit code is the command's."""
    progress = Progress()
    stack = prepare(family, progress)
    progress.say("Starting Triton …")
    with running(
        stack.install, stack.repositories, log=_LOG, deployment=stack.rendered.deployment, inner_token=inner_token(os.environ)
    ) as server:
        progress.say(f"Running {shlex.join(command)} …")
        done = subprocess.run(command, env=client_environ(os.environ, server), check=False)
    raise typer.Exit(done.returncode)


@app.command()
def serve(
    family: Family = "qwen2.5-coder",
    host: Annotated[str, typer.Option(help="The address to listen on.")] = LOOPBACK,
    http_port: int = 8000,
    grpc_port: int = 8001,
    metrics_port: int = 8002,
    health_port: int = 8003,
    gateway_port: Annotated[int, typer.Option(help="The HTTP gateway's port, on loopback; 0: no gateway.")] = 8080,
) -> None:
    """Start Triton and the gateway and stay up until Ctrl-C. If a process of Triton is gone, Triton is started again."""
    progress = Progress()
    stack = prepare(family, progress)
    progress.say("Starting Triton …")
    ports = Ports(http_port, grpc_port, metrics_port, health_port)
    with (
        running(
            stack.install,
            stack.repositories,
            log=_LOG,
            deployment=stack.rendered.deployment,
            host=host,
            ports=ports,
            inner_token=inner_token(os.environ),
            report=sys.stderr,
        ) as server,
        gateway(gateway_port, server, client_environ(os.environ, server)) as address,
    ):
        if address:
            progress.say(f"Gateway {address}/v1 (OpenAI's API), {address}/infill (llama.cpp's), {address}/ (a page)")
        progress.say(f"gRPC {server.grpc}   HTTP {server.http}   metrics http://{server.metrics}/metrics   log {server.log}")
        progress.say(f"Health http://{server.health}/health/ready")
        progress.say(f"Try: var/venv/bin/codecascade complete --url {server.grpc} --prompt-file build/example.prompt")
        progress.say("Ctrl-C stops it.")
        try:
            server.wait()
        except KeyboardInterrupt:
            progress.say("Stopping Triton …")
        else:
            raise BuildError(f"Triton ended by itself: {failure(server.log_text())} (log: {server.log}).")


def client_environ(base: Mapping[str, str], server: RunningServer) -> dict[str, str]:
    """The variables of a program beside the server: its address and token, and this environment's programs first in PATH."""
    path = os.pathsep.join([str(Path(sys.prefix) / "bin"), base.get("PATH", os.defpath)])
    return {**base, "PATH": path, "CODECASCADE_URL": server.grpc, TOKEN_VARIABLE: server.inner_token}


def inner_token(environ: Mapping[str, str]) -> str:
    """What tiers and sandbox want of a caller: as the environment says, or drawn for this start."""
    return environ.get(TOKEN_VARIABLE) or secrets.token_hex(16)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # raises SystemExit, so that the server is stopped
    try:
        app()
    except BuildError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
