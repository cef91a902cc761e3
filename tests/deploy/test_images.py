"""The Dockerfiles, the program that starts Triton in them, and the compose file: read, and run where this machine can."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from codecascade.sandbox.probes import LEVELS
from codecascade.triton.settings import PREFIX
from codecascade_build.paths import PLANS, ROOT
from codecascade_build.server.install import TritonInstall
from codecascade_build.server.process import LOOPBACK, Ports, server_argv
from codecascade_client.gateway.settings import GATEWAY_PREFIX, GatewaySettings
from codecascade_client.settings import Settings

from tests.deploy import dockerfile
from tests.deploy.dockerfile import IMAGES, last_stage, read, texts

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KINDS = ("cpu", "tensorrt_llm")
START = IMAGES / "codecascade-triton"
COMPOSE: dict[str, Any] = yaml.safe_load((IMAGES / "compose.yaml").read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_hadolint_finds_nothing(kind: str) -> None:
    done = subprocess.run(
        [Path(sys.prefix, "bin", "hadolint"), str(IMAGES / f"Dockerfile.{kind}")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("kind", KINDS)
def test_every_stage_is_the_pinned_base(kind: str) -> None:
    arguments = dict(text.partition("=")[::2] for text in texts(read(kind), "ARG"))
    assert re.fullmatch(r"nvcr\.io/nvidia/tritonserver:26\.07-(trtllm-python-)?py3", arguments["BASE"])
    assert arguments["BASE_DIGEST"] == ""  # a placeholder, as the file says
    assert "Placeholder" in (IMAGES / f"Dockerfile.{kind}").read_text()
    assert {text.split()[0] for text in texts(read(kind), "FROM")} == {"${BASE}${BASE_DIGEST}"}


@pytest.mark.parametrize("kind", KINDS)
def test_packages_have_the_hashes_of_a_lock_and_the_last_stage_asks_no_index(kind: str) -> None:
    build, final = read(kind)[: -len(last_stage(kind))], last_stage(kind)
    (download,) = [text for text in texts(build, "RUN") if "pip download" in text]
    assert "--require-hashes --requirement requirements-images.lock" in download
    installs = [text for text in texts(final, "RUN") if "pip install" in text]
    assert installs
    assert all("--no-index" in text for text in installs)


def test_the_images_have_what_the_tests_run_with() -> None:
    """The versions of both locks are the same, and the images' lock has everything that the package needs."""
    images, tests = (pins(ROOT / name) for name in ("requirements-images.lock", "requirements.lock"))
    assert images.items() <= tests.items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [
        re.split(r"[^\w-]", requirement)[0]
        for part in (project["dependencies"], *(project["optional-dependencies"][extra] for extra in ("cpu", "gateway")))
        for requirement in part
    ]
    assert set(needed) <= set(images)


@pytest.mark.parametrize("kind", KINDS)
def test_the_image_runs_as_nobody_in_particular_and_says_what_the_sandbox_reaches(kind: str) -> None:
    final = last_stage(kind)
    (user,) = texts(final, "USER")
    assert re.fullmatch(r"[1-9]\d{4}:[1-9]\d{4}", user)  # a number: Kubernetes cannot tell whether a name is root
    level = dockerfile.environment(kind)["CODECASCADE_SANDBOX_LEVEL"]
    assert level in LEVELS
    assert f'codecascade.sandbox.level="{level}"' in " ".join(texts(final, "LABEL"))
    assert "http://127.0.0.1:8003/health/ready" in texts(final, "HEALTHCHECK")[0]
    assert not [instruction for instruction in final if instruction.name == "ENTRYPOINT"]  # the base's sets up CUDA


@pytest.mark.parametrize("kind", KINDS)
def test_every_folder_of_models_holds_those_of_one_server(kind: str, tmp_path: Path) -> None:
    """A server takes all models of a folder: the sandbox's server must not start a cascade."""
    dockerfile.copy_into(kind, tmp_path)
    repositories = tmp_path / "opt/codecascade/repositories"
    models = {"cascade": ["cascade", "cascade_stream", "plans"], "sandbox": ["sandbox"]}
    assert {folder.name: sorted(model.name for model in folder.iterdir()) for folder in repositories.iterdir()} == models
    for folder, names in models.items():
        for name in names:
            assert f'name: "{name}"' in (repositories / folder / name / "config.pbtxt").read_text()
    assert os.access(tmp_path / "usr/local/bin/codecascade-triton", os.X_OK)


def test_the_ignore_file_lets_through_what_is_copied_and_nothing_generated() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {source for kind in KINDS for text in texts(read(kind), "COPY") for source in text.split()[:-1]}
    assert {source.removeprefix("./").split("/")[0] for source in copied} == allowed
    assert all((ROOT / source).exists() for source in copied)


def pins(lock: Path) -> dict[str, list[str]]:
    """Package → its versions; more than one where they differ by Python."""
    versions: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==(\S+)", lock.read_text(), re.MULTILINE):
        versions.setdefault(name, []).append(version)
    return versions


# The program that starts Triton


def started(tmp_path: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run it with a tritonserver that prints its rank and arguments and an mpirun that starts two ranks."""
    programs = tmp_path / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "tritonserver").write_text('#!/bin/sh\necho "rank=${OMPI_COMM_WORLD_RANK:-none} $*"\n')
    (programs / "mpirun").write_text('#!/bin/sh\nshift 2\nfor rank in 0 1; do OMPI_COMM_WORLD_RANK=$rank "$@" || exit; done\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    environ = {"PATH": f"{programs}:{sys.prefix}/bin:{os.environ['PATH']}", "TMPDIR": str(tmp_path), **variables}
    return subprocess.run([str(START), *arguments], env=environ, capture_output=True, text=True, check=False)


def flags(line: str) -> list[str]:
    return line.split()[1:]


def test_the_flags_are_those_of_the_server_that_the_tests_start(tmp_path: Path) -> None:
    """Except for files and ports, which the caller chooses."""
    line = started(tmp_path, "--model-repository=/models").stdout
    install = TritonInstall(Path("/triton"))
    ours = server_argv(install, [Path("/models")], LOOPBACK, Ports(1, 2, 3, 4))
    served = ours[ours.index(str(install.program)) + 1 :]
    elsewhere = re.compile(r"--(backend-directory|\w+-(address|port))=")
    assert masked(flags(line)) == masked([flag for flag in served if not elsewhere.match(flag)])


def masked(given: list[str]) -> list[str]:
    """Without the words that are drawn at every start."""
    return sorted(re.sub(r"(?<=:closed=)[0-9a-f]{32}$", "…", flag) for flag in given)


def test_the_time_to_drain_is_a_variable(tmp_path: Path) -> None:
    assert "--exit-timeout-secs=120" in flags(started(tmp_path, CODECASCADE_DRAIN_S="120").stdout)


def test_a_split_engine_is_one_process_for_each_gpu(tmp_path: Path) -> None:
    done = started(tmp_path, "--x=1", CODECASCADE_RANKS="2", CODECASCADE_RANK_MODEL="a-tensorrt_llm")
    first, second = done.stdout.splitlines()
    assert (first.split()[0], second.split()[0]) == ("rank=0", "rank=1")
    assert "--model-control-mode=explicit" not in flags(first)
    assert {"--model-control-mode=explicit", "--load-model=a-tensorrt_llm", "--x=1"} <= set(flags(second))
    regions = [re.findall(r"shm-region-prefix-name=(\S+)", line) for line in (first, second)]
    assert regions == [["rank0_"], ["rank1_"]]


def test_a_split_engine_without_a_name_stops_it_with_one_sentence(tmp_path: Path) -> None:
    done = started(tmp_path, CODECASCADE_RANKS="2")
    assert done.returncode != 0
    assert done.stderr.endswith("CODECASCADE_RANK_MODEL: must name the model that 2 processes share\n")
    assert done.stdout == ""


# The compose file


reads_compose = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="the package index has Docker Compose for Python 3.11 and later"
)


def compose(**variables: str) -> subprocess.CompletedProcess[str]:
    argv = [Path(sys.prefix, "bin", "docker-compose"), "--file", IMAGES / "compose.yaml", "config", "--format", "json"]
    return subprocess.run(
        list(map(str, argv)), env={"PATH": os.environ["PATH"], **variables}, capture_output=True, text=True, check=False
    )


@reads_compose
def test_docker_compose_reads_it(tmp_path: Path) -> None:
    done = compose(MODELS=str(tmp_path), TLS=str(tmp_path), API_KEYS="one,two", FAMILY="wizardcoder")
    assert (done.returncode, done.stderr) == (0, "")
    services = json.loads(done.stdout)["services"]
    assert services["tiers"]["command"][1].endswith("/wizardcoder-tensorrt_llm")
    assert services["cascade"]["environment"]["CODECASCADE_DEPLOYMENT"].endswith("/wizardcoder-tensorrt_llm.json")
    assert {services[name]["user"] for name in services} == {"10001:10001"}
    assert services["cascade"]["depends_on"]["tiers"]["condition"] == "service_healthy"
    assert services["gateway"]["depends_on"]["cascade"]["condition"] == "service_healthy"
    assert services["gateway"]["environment"]["CODECASCADE_GATEWAY_API_KEYS"] == "one,two"
    assert services["gateway"]["environment"]["CODECASCADE_SERVER_NAME"] == "cascade"


@reads_compose
@pytest.mark.parametrize("variable", ["MODELS", "TLS", "API_KEYS"])
def test_it_says_which_variable_it_was_not_given(tmp_path: Path, variable: str) -> None:
    given = {name: str(tmp_path) for name in ("MODELS", "TLS", "API_KEYS") if name != variable}
    done = compose(**given)
    assert done.returncode != 0
    assert f"required variable {variable} is missing a value: " in done.stderr


def test_every_service_is_restricted() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["user"] == "10001:10001"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "cap_add" not in service
        assert service["security_opt"] == ["no-new-privileges:true"]  # and no seccomp=unconfined, which a sandbox does not need
        assert "privileged" not in service
        assert all(":ro" in volume for volume in service.get("volumes", []))
        asked = "https://127.0.0.1:8080/healthz" if name == "gateway" else "http://127.0.0.1:8003/health/ready"
        assert asked in service["healthcheck"]["test"][-1]


def test_other_machines_reach_the_cascades_grpc_and_the_gateway_and_nothing_else() -> None:
    tiers, cascade, gateway = (COMPOSE["services"][name] for name in ("tiers", "cascade", "gateway"))
    assert "ports" not in tiers
    assert tiers["networks"] == ["inside"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert [port for port in cascade["ports"] if not port.startswith("127.0.0.1:")] == ["8001:8001"]
    assert [port for port in gateway["ports"] if not port.startswith("127.0.0.1:")] == ["8080:8080"]
    assert gateway["networks"] == ["outside"]  # it reaches the cascade, and no tier


def test_the_gateways_variables_are_those_that_it_reads() -> None:
    known = {f"{PREFIX}{field.upper()}" for field in Settings.model_fields}
    known |= {f"{GATEWAY_PREFIX}{field.upper()}" for field in GatewaySettings.model_fields}
    variables = COMPOSE["services"]["gateway"]["environment"]
    assert set(variables) <= known
    assert variables["CODECASCADE_URL"] == "cascade:8001"
    assert variables["CODECASCADE_GATEWAY_HEALTH_URL"] == "http://cascade:8003/health/ready"


def test_the_cascade_asks_the_tiers_server_with_the_certificate_that_it_wants() -> None:
    variables = COMPOSE["services"]["cascade"]["environment"]
    assert variables["CODECASCADE_TIERS_URL"] == "tiers:8001"
    assert "tiers" in COMPOSE["services"]
    assert "--grpc-use-ssl-mutual=true" in COMPOSE["services"]["tiers"]["command"]
    for file in ("CA", "CERTIFICATE", "KEY"):
        assert Path(variables[f"CODECASCADE_TIERS_{file}"]).name in COMPOSE["services"]["cascade"]["secrets"]


def test_every_secret_is_a_file_and_every_file_in_a_command_is_a_secret() -> None:
    for service in COMPOSE["services"].values():
        named = re.findall(r"/run/secrets/(\S+)", " ".join([*service["command"], *service["environment"].values()]))
        assert named
        assert set(named) == set(service["secrets"]) <= set(COMPOSE["secrets"])


def test_paths_of_the_compose_file_are_where_the_files_are() -> None:
    services = COMPOSE["services"]
    for kind, service in (("tensorrt_llm", services["tiers"]), ("cpu", services["cascade"]), ("cpu", services["gateway"])):
        assert (IMAGES / service["build"]["context"]).resolve() == ROOT
        assert service["build"]["dockerfile"] == f"build/images/Dockerfile.{kind}"
        assert (ROOT / service["build"]["dockerfile"]).is_file()
    (plans,) = [volume for volume in services["cascade"]["volumes"] if "plans" in volume]
    source, target, _ = plans.split(":")
    assert (IMAGES / source).resolve() == PLANS
    # The deployment file names the plans of the checkout that rendered it: the one in the tiers' image.
    assert target == f"/opt/codecascade/{PLANS.relative_to(ROOT)}"
    assert "/opt/codecascade/build" in [text.split()[1] for text in texts(last_stage("tensorrt_llm"), "COPY")]
