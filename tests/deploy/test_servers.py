"""Starts the chart's containers on real Tritons: their arguments, variables, files and TLS. A folder stands for the image."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from codecascade.supervision.processes import stubs
from codecascade.triton.calls.tls import Tls
from codecascade_build.paths import ROOT
from codecascade_build.server.install import TritonInstall, python_library_dir
from codecascade_build.server.process import Ports, failure, free_ports, server_environ
from codecascade_client.client import AsyncCascadeClient
from codecascade_client.errors import RequestFailed

from tests.deploy import dockerfile
from tests.deploy.chart import FULLNAME, NAMESPACE, Object, container, environment, named, rendered, values
from tests.server.gateway import Gateway, wait_until_it_listens
from tests.server.metrics import eventually
from tests.server.real_server import unpacked_server
from tests.server.scripted.repository import ScriptedTier, render

pytestmark = pytest.mark.triton

PEM = ROOT / "tests" / "unit" / "client" / "tls"
SECRET = {"tls.crt": PEM / "certificate.pem", "tls.key": PEM / "key.pem", "ca.crt": PEM / "certificate.pem"}
SMALL, LARGE = "codegen-350m-mono", "codegen-16b-mono"  # in different groups; scripted tiers know their prompt style
PROMPT = 'def add(a, b):\n    """The sum of a and b."""\n'
# A user without capabilities, as in a restricted pod.
UNSHARE = ["unshare", "--user", "--map-user=10001", "--map-group=10001"]
NAMESPACES = subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0
RESTRICTED = UNSHARE if NAMESPACES else []


@dataclass(frozen=True, slots=True)
class Pod:
    """A container of the chart as a process of this machine."""

    root: Path
    """The container's files."""
    ports: Ports
    process: subprocess.Popen[bytes]

    def status(self, probe: dict[str, Any]) -> int:
        path = probe["httpGet"]["path"]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports.health}{path}", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def metrics(self) -> str:
        return _page(self.ports.metrics)


@pytest.fixture(scope="module")
def triton() -> TritonInstall:
    return unpacked_server()


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    plan = {"steps": [{"tier": SMALL, "k": 3, "lines_per_sample": 2, "threshold": 1.0}, {"tier": LARGE, "k": 0}]}
    document = {"format": 1, "family": "codegen-mono", "provenance": {"method": "by hand"}, "default": "p", "plans": {"p": plan}}
    more: dict[str, Any] = {"tls.public.secret": "public", "tls.internal.secret": "internal", "plans": json.dumps(document)}
    more |= {"gateway.enabled": True, "gateway.apiKeys.secret": "clients", "tls.gateway.cascadeSecret": "ca"}
    return rendered(values("codegen-mono", **more, **{"sandbox.resources": {"limits": {"cpu": "2"}}}))


@pytest.fixture(scope="module")
def pods(triton: TritonInstall, objects: list[Object], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Pod]]:
    """Every server of the release, by name."""
    addresses: dict[str, Ports] = {name: free_ports() for name in ("sandbox", "small", "large", "cascade")}
    with contextlib.ExitStack() as stack:
        running = {}
        for name, ports in addresses.items():
            root = tmp_path_factory.mktemp(name)
            running[name] = stack.enter_context(_pod(triton, objects, name, root, ports, addresses))
        yield running
        for pod in running.values():
            pod.process.terminate()


@pytest.fixture(scope="module")
def web(pods: dict[str, Pod], objects: list[Object], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The release's gateway, before its cascade."""
    workload, root, ports = named(objects, "Deployment", "gateway"), tmp_path_factory.mktemp("gateway"), free_ports()
    _mount(objects, workload, root)
    cascade = pods["cascade"].ports
    here = {
        f"{FULLNAME}-cascade.{NAMESPACE}.svc:8001": f"localhost:{cascade.grpc}",
        f"{FULLNAME}-cascade-http.{NAMESPACE}.svc:8003": f"localhost:{cascade.health}",
        "/etc/codecascade/": f"{root}/etc/codecascade/",
    }
    environ = {"PATH": f"{Path(sys.prefix)}/bin:{os.environ['PATH']}", "CODECASCADE_GATEWAY_METRICS_PORT": str(ports.metrics)}
    for name, value in environment(workload).items():
        environ.setdefault(name, functools.reduce(lambda text, place: text.replace(*place), here.items(), value))
    argv = [*container(workload)["args"], "--host=127.0.0.1", f"--port={ports.http}"]
    process, gateway = subprocess.Popen(argv, env=environ), Gateway(ports.http)
    try:
        wait_until_it_listens(gateway, process)
        assert "codecascade_gateway_in_flight 0.0" in _page(ports.metrics)
        yield gateway
    finally:
        process.terminate()
        assert process.wait(30) in (0, -signal.SIGTERM)


@pytest.fixture
def client(pods: dict[str, Pod]) -> AsyncCascadeClient:
    return AsyncCascadeClient(f"localhost:{pods['cascade'].ports.grpc}", Tls(PEM / "certificate.pem"))


async def test_a_request_goes_through_cascade_tiers_and_sandbox_of_four_servers(client: AsyncCascadeClient) -> None:
    async with client:
        near = await client.complete(PROMPT, return_trace=True)
        far = await client.complete(f"# {SMALL}: wrong_tests\n{PROMPT}", return_trace=True)
    assert (near.tier, near.score) == (SMALL, 1.0)
    assert (far.tier, "return a + b" in far.text) == (LARGE, True)
    assert near.trace
    assert near.trace["steps"][0]["sandbox_s"] > 0


def test_the_gateway_asks_the_cascade_for_whoever_has_a_key(web: Gateway) -> None:
    assert web.post("/v1/completions", {"prompt": PROMPT}).status == 401
    answer = web.post("/v1/completions", {"prompt": PROMPT}, {"Authorization": "Bearer clients/keys"})
    assert "return a + b" in answer.json["choices"][0]["text"]


async def test_the_gateway_is_not_ready_while_its_cascade_starts_again(
    pods: dict[str, Pod], objects: list[Object], web: Gateway
) -> None:
    server = container(named(objects, "Deployment", "gateway"))
    ready, live = (server[f"{probe}Probe"]["httpGet"]["path"] for probe in ("readiness", "liveness"))
    assert (web.get(ready).status, web.get(live).status) == (200, 200)
    os.kill(next(stub.pid for stub in stubs(pods["cascade"].process.pid) if stub.model == "cascade"), signal.SIGKILL)
    await eventually(lambda: web.get(ready).status == 503, 10)
    assert web.get(live).status == 200
    await eventually(lambda: web.get(ready).status == 200, 60)


async def test_the_cascade_does_not_talk_without_tls(pods: dict[str, Pod]) -> None:
    async with AsyncCascadeClient(f"localhost:{pods['cascade'].ports.grpc}") as plain:
        with pytest.raises(RequestFailed):
            await plain.complete(PROMPT, timeout_s=10)


@pytest.mark.parametrize("server", ["sandbox", "small", "large"])
async def test_the_servers_behind_it_want_a_certificate(pods: dict[str, Pod], server: str) -> None:
    address = f"localhost:{pods[server].ports.grpc}"
    async with AsyncCascadeClient(address, Tls(PEM / "certificate.pem")) as stranger:
        with pytest.raises(RequestFailed):
            await stranger.health(timeout_s=10)
    async with AsyncCascadeClient(address, Tls(PEM / "certificate.pem", PEM / "key.pem", PEM / "certificate.pem")) as known:
        assert all((await known.health()).models.values())


def test_probes_hold_on_every_server(pods: dict[str, Pod], objects: list[Object]) -> None:
    for name, pod in pods.items():
        server = container(named(objects, "Deployment", name))
        assert {pod.status(server[probe]) for probe in ("startupProbe", "readinessProbe", "livenessProbe")} == {200}


async def test_a_pod_replaces_a_dead_process_and_the_cascade_goes_on_meanwhile(
    pods: dict[str, Pod], objects: list[Object], client: AsyncCascadeClient
) -> None:
    pod, readiness = pods["small"], container(named(objects, "Deployment", "small"))["readinessProbe"]
    (dead,) = (stub.pid for stub in stubs(pod.process.pid) if stub.model == SMALL)
    async with client:
        os.kill(dead, signal.SIGKILL)
        assert "return a + b" in (await client.complete(PROMPT)).text
        await eventually(lambda: pod.status(readiness) == 200 and dead not in {s.pid for s in stubs(pod.process.pid)}, 60)
        while (answer := await client.complete(PROMPT)).tier != SMALL:  # until the cascade has connected again
            assert "return a + b" in answer.text


async def test_every_server_has_its_own_models_and_no_others(pods: dict[str, Pod]) -> None:
    models = {}
    for name, pod in pods.items():
        async with AsyncCascadeClient(
            f"localhost:{pod.ports.grpc}", Tls(PEM / "certificate.pem", PEM / "key.pem", PEM / "certificate.pem")
        ) as known:
            models[name] = set((await known.health()).models)
    parts = ("", "-ensemble", "-preprocessing", "-tensorrt_llm", "-postprocessing")
    assert models == {
        "cascade": {"cascade", "cascade_stream", "plans"},
        "sandbox": {"sandbox"},
        "small": {f"codegen-{size}-mono{part}" for size in ("350m", "2b", "6b") for part in parts},
        "large": {f"codegen-16b-mono{part}" for part in parts},
    }


def test_the_sandbox_has_the_level_of_the_image_and_a_worker_for_each_core(pods: dict[str, Pod]) -> None:
    started = re.findall(r'codecascade_sandbox_zygotes_started_total\{level="(\w+)"\} (\d+)', pods["sandbox"].metrics())
    assert started == [("landlock", "2")]


@pytest.mark.skipif(not NAMESPACES, reason="this machine gives no user namespaces: the servers run as the tests' own user")
def test_the_servers_had_no_capability_and_no_way_to_get_one(pods: dict[str, Pod]) -> None:
    for pod in pods.values():
        status = Path(f"/proc/{pod.process.pid}/status").read_text()
        assert re.findall(r"^(CapEff|NoNewPrivs):\s+(\w+)$", status, re.MULTILINE) == [("CapEff", "0" * 16), ("NoNewPrivs", "1")]


@contextlib.contextmanager
def _pod(
    triton: TritonInstall, objects: list[Object], name: str, root: Path, ports: Ports, addresses: dict[str, Ports]
) -> Iterator[Pod]:
    workload = named(objects, "Deployment", name)
    image = "tensorrt_llm" if "tensorrt_llm" in container(workload)["image"] else "cpu"
    dockerfile.copy_into(image, root)
    _mount(objects, workload, root)

    def here(text: str) -> str:
        """Replace the container's paths and the cluster's addresses with this machine's."""
        for server, ports in addresses.items():
            text = text.replace(f"{FULLNAME}-{server}.{NAMESPACE}.svc:8001", f"localhost:{ports.grpc}")
        return re.sub(r"(?<![\w/])/(?=(opt|etc)/codecascade/)", f"{root}/", text)

    for path in (root / "etc").rglob("*.json"):
        path.write_text(here(path.read_text()))
    (root / "bin").mkdir()
    (root / "bin" / "tritonserver").symlink_to(triton.program)
    environ = server_environ(os.environ, python_library_dir(), None)
    environ |= {"TMPDIR": str(root), "PATH": f"{root}/bin:{root}/usr/local/bin:{environ['PATH']}"}
    environ |= {key: value for key, value in dockerfile.environment(image).items() if key != "HOME"}
    environ |= {key: here(value) for key, value in environment(workload).items()}
    environ |= {"CODECASCADE_DRAIN_S": "2", "CODECASCADE_HEALTH_PORT": str(ports.health)}
    _render(workload, root, here, environ)
    argv = [*RESTRICTED, "setpriv", "--pdeathsig", "TERM", "--no-new-privs", *map(here, container(workload)["args"])]
    argv += [f"--backend-directory={triton.backends}"]
    argv += [
        f"--{kind}-{what}"
        for kind in ("http", "grpc", "metrics")
        for what in ("address=127.0.0.1", f"port={getattr(ports, kind)}")
    ]
    log = root / "triton.log"
    with log.open("wb") as output:
        process = subprocess.Popen(argv, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    pod = Pod(root, ports, process)
    try:
        _wait_until_ready(pod, container(workload)["startupProbe"], log)
        yield pod
    finally:
        process.terminate()
        process.wait(30)


def _mount(objects: list[Object], workload: Object, root: Path) -> None:
    """Write what the pod's volumes hold, without engines."""
    volumes = {volume["name"]: volume for volume in workload["spec"]["template"]["spec"]["volumes"]}
    for mount in container(workload)["volumeMounts"]:
        volume, place = volumes[mount["name"]], root / mount["mountPath"].lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        if "configMap" in volume:
            data = named(objects, "ConfigMap", volume["configMap"]["name"].removeprefix(f"{FULLNAME}-"))["data"]
            for name, text in data.items():
                (place / name).write_text(text)
        elif "secret" in volume:
            for name, source in SECRET.items():
                shutil.copy(source, place / name)


def _render(workload: Object, root: Path, here: Callable[[str], str], environ: dict[str, str]) -> None:
    """Do what the pod's init container does; then put scripted models of the same names in the place of those that need a GPU."""
    for init in workload["spec"]["template"]["spec"].get("initContainers", []):
        env, variable, python, *arguments = init["args"]
        name, path = variable.split("=")
        assert (env, python) == ("env", "python3")
        subprocess.run(
            [sys.executable, *map(here, arguments)], env={**environ, name: here(path)}, check=True, capture_output=True
        )
        (folder,) = (root / "opt/codecascade/var/model_repository").glob("*/")
        names = [path.name for path in folder.iterdir()]
        shutil.rmtree(folder)
        render(root / "scripted", [ScriptedTier(name) for name in names], {"p": []}, default="p")
        for extra in ("cascade", "plans", "sandbox"):
            shutil.rmtree(root / "scripted" / "models" / extra)
        (root / "scripted" / "models").rename(folder)


def _page(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def _wait_until_ready(pod: Pod, probe: dict[str, Any], log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        with contextlib.suppress(urllib.error.URLError, socket.error):
            if pod.status(probe) == 200:
                return
        assert pod.process.poll() is None, failure(log.read_text())
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
