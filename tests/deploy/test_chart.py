"""The chart, rendered by Helm's own engine: what Kubernetes would be given."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml
from codecascade.deployment import load_deployment
from codecascade.plans import load_plans
from codecascade.triton.settings import PREFIX, ServerSettings
from codecascade_build.gpu_plan.plan import Fleet, Wishes, plan_gpus
from codecascade_build.gpus import GPUS
from codecascade_build.paths import RENDERED_MODELS, ROOT, VAR, cache_dir
from codecascade_build.recipes import families, load_recipe
from codecascade_client.gateway.metrics import Metrics
from codecascade_client.gateway.settings import GATEWAY_PREFIX, GatewaySettings
from codecascade_client.settings import Settings

from tests.deploy import chart, dockerfile
from tests.deploy.chart import (
    FULLNAME,
    NAMESPACE,
    Object,
    container,
    containers,
    environment,
    named,
    of_kind,
    rendered,
    values,
    with_triton,
)

CHART_YAML = yaml.safe_load((chart.CHART / "Chart.yaml").read_text())
OLDEST, NEWEST = re.search(r">=(\d+\.\d+)", CHART_YAML["kubeVersion"])[1], "1.37"  # type: ignore[index]
FAMILIES = families()
CUSTOM = (
    "ScaledObject",
    "ServiceMonitor",
    "PrometheusRule",
)  # of KEDA and the Prometheus Operator: Kubernetes itself has no schema for them

GATEWAY = {"gateway.enabled": True, "gateway.apiKeys.secret": "clients"}
TLS = {"tls.public.secret": "public", "tls.internal.secret": "internal"}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "gateway": GATEWAY,
    "tls": {
        **GATEWAY,
        **TLS,
        "tls.public.clientCertificates": True,
        "tls.gateway": {"secret": "web", "cascadeSecret": "own", "cascadeName": "code.example"},
    },
    "hpa": {**GATEWAY, **{f"{place}.autoscaling.mode": "hpa" for place in ("tierDefaults", "cascade", "sandbox", "gateway")}},
    "keda": {
        **GATEWAY,
        "gateway.autoscaling.mode": "keda",
        "tierDefaults.autoscaling.mode": "keda",
        "prometheusUrl": "http://prometheus:9090",
        "serviceMonitor.enabled": True,
    },
    "watched": {f"{what}.enabled": True for what in ("serviceMonitor", "prometheusRule", "grafanaDashboard")},
    "together": {"sandbox.separate": False, **TLS},
    "placed": {
        "tierDefaults.nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
        "tierDefaults.runtimeClassName": "nvidia",
        "tierDefaults.affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}},
        **GATEWAY,
        "gateway.priorityClassName": "high",
        "cascade.priorityClassName": "high",
        "cascade.extraArgs": ["--log-verbose=1"],
        "images.pullSecrets": [{"name": "registry"}],
        "images.cpu.digest": "sha256:" + "0" * 64,
        "networkPolicy.monitoring": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
    },
}
EVERY = [(family, variant) for family in FAMILIES for variant in VARIANTS]


def release(family: str = "qwen2.5-coder", variant: str = "plain", /, **more: Any) -> list[Object]:
    return rendered(values(family, **{**VARIANTS[variant], **more}))


def groups(family: str) -> dict[str, list[str]]:
    return {group["name"]: group["tiers"] for group in values(family)["tierGroups"]}


def complete_groups(family: str) -> list[dict[str, Any]]:
    """The tier groups with their defaults filled in."""
    defaults = yaml.safe_load((chart.CHART / "values.yaml").read_text())["tierDefaults"]
    return [{**defaults, **group} for group in values(family)["tierGroups"]]


def test_there_is_a_values_file_for_every_family() -> None:
    assert {f"values-{family}.yaml" for family in FAMILIES} == {path.name for path in chart.CHART.glob("values-*.yaml")}


def test_helm_finds_nothing_to_complain_about() -> None:
    report = helm_python.lint(chart.CHART, values("qwen2.5-coder"), strict=True)
    assert not report["errors"]
    assert [message["error"] for message in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize(("family", "variant"), EVERY)
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_object_is_valid(family: str, variant: str, version: str) -> None:
    objects = release(family, variant)
    assert {item["metadata"]["namespace"] for item in objects if "namespace" in item["metadata"]} <= {NAMESPACE}
    for item in objects:
        if item["kind"] not in CUSTOM:
            kubernetes_validate.validate(item, version, strict=True)


def test_the_schemas_see_a_mistake() -> None:
    """Else the test above could check nothing."""
    cascade = named(release(), "Deployment", "cascade")
    container(cascade)["readinessProbe"]["httpGet"]["prot"] = 8000
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(cascade, NEWEST, strict=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tier_is_in_one_group_which_fits_its_gpus_as_one_server_of_as_many_ranks(family: str) -> None:
    placed = [tier for tiers in groups(family).values() for tier in tiers]
    assert placed == [tier.name for tier in load_recipe(family).tiers]
    for group in complete_groups(family):
        wishes = Wishes(tiers=tuple(group["tiers"]))
        (server,) = plan_gpus(load_recipe(family), Fleet(GPUS[group["gpu"]], group["gpus"]), wishes).servers
        assert {copy.tier for copy in server.copies} == set(group["tiers"])
        assert max(server.ranks, 1) == group["ranks"]


def test_the_kinds_of_gpu_are_those_that_engines_are_built_for() -> None:
    schema = json.loads((chart.CHART / "values.schema.json").read_text())
    assert schema["definitions"]["group"]["properties"]["gpu"]["enum"] == list(GPUS)


@pytest.mark.parametrize(("family", "variant"), EVERY)
def test_selectors_find_the_pods_of_their_server_and_no_others(family: str, variant: str) -> None:
    objects = release(family, variant)
    deployments = of_kind(objects, "Deployment")
    pods = {item["metadata"]["name"]: item["spec"]["template"]["metadata"]["labels"] for item in deployments}
    assert set(pods) == {f"{FULLNAME}-{name}" for name in servers(family, variant)}
    for item in objects:
        if item["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
            selected = [item["spec"]["scaleTargetRef"]["name"]]
        elif item["kind"] in ("Deployment", "PodDisruptionBudget", "Service", "NetworkPolicy"):
            selector = item["spec"].get("selector") or item["spec"]["podSelector"]
            wanted = selector.get("matchLabels", selector).items()
            selected = [name for name, labels in pods.items() if wanted <= labels.items()]
        else:
            continue
        assert selected == [item["metadata"]["name"].removesuffix("-http")], f"{item['kind']} {item['metadata']['name']}"


@pytest.mark.parametrize(("family", "variant"), EVERY)
def test_ports_are_those_that_the_server_listens_on(family: str, variant: str) -> None:
    triton = {"http": 8000, "grpc": 8001, "metrics": 8002, "health": 8003}  # defaults, which no flag changes
    objects = release(family, variant)
    for deployment in with_triton(objects):
        assert {port["name"]: port["containerPort"] for port in container(deployment)["ports"]} == triton
        assert not [flag for flag in container(deployment)["args"] if re.match(r"--\w+-(port|address)", flag)]
    for service in of_kind(objects, "Service"):
        listens = triton | {"http": 8080} if service["metadata"]["name"].endswith("-gateway") else triton
        assert all(listens[port["targetPort"]] == port["port"] for port in service["spec"]["ports"])
    exposed = sorted(int(port) for port in dockerfile.texts(dockerfile.last_stage("cpu"), "EXPOSE")[0].split())
    assert exposed == sorted(triton.values())


def test_grpc_names_every_pod_and_http_is_one_address() -> None:
    objects = release()
    for name in servers("qwen2.5-coder", "plain"):
        grpc, http = named(objects, "Service", name)["spec"], named(objects, "Service", f"{name}-http")["spec"]
        assert (grpc["clusterIP"], http["type"]) == ("None", "ClusterIP")
        assert [port["name"] for port in grpc["ports"]] == ["grpc"]
        assert [port["name"] for port in http["ports"]] == ["http", "metrics", "health"]


@pytest.mark.parametrize(("family", "variant"), EVERY)
def test_probes_ask_the_supervisor_and_wait_for_engines(family: str, variant: str) -> None:
    for deployment in with_triton(release(family, variant)):
        server = container(deployment)
        assert server["startupProbe"]["httpGet"] == {"path": "/health/ready", "port": "health"}
        assert server["readinessProbe"]["httpGet"] == {"path": "/health/ready", "port": "health"}
        assert server["livenessProbe"]["httpGet"] == {"path": "/health/live", "port": "health"}
        waits = server["startupProbe"]["periodSeconds"] * server["startupProbe"]["failureThreshold"]
        engines = "initContainers" in deployment["spec"]["template"]["spec"]
        assert waits == (1800 if engines else 120) == int(environment(deployment)["CODECASCADE_START_S"])


@pytest.mark.parametrize(("family", "variant"), EVERY)
def test_a_pod_outlives_the_requests_that_it_drains(family: str, variant: str) -> None:
    for deployment in of_kind(release(family, variant), "Deployment"):
        sleep = int(container(deployment)["lifecycle"]["preStop"]["exec"]["command"][1])
        (drain,) = (int(value) for name, value in environment(deployment).items() if name.endswith("_DRAIN_S"))
        assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= sleep + drain + 10


@pytest.mark.parametrize(
    ("change", "violation"),
    [
        (lambda pod: pod["securityContext"].update(runAsNonRoot=False), "runAsNonRoot"),
        (lambda pod: pod["securityContext"].update(runAsUser=0), "runAsUser"),
        (lambda pod: pod["securityContext"].pop("seccompProfile"), "seccompProfile"),
        (lambda pod: pod["containers"][0]["securityContext"].pop("capabilities"), "capabilities"),
        (lambda pod: pod["containers"][0]["securityContext"].update(allowPrivilegeEscalation=True), "allowPrivilegeEscalation"),
        (lambda pod: pod["volumes"].append({"name": "host", "hostPath": {"path": "/"}}), "volumes"),
        (lambda pod: pod.update(hostNetwork=True), "host"),
    ],
)
def test_what_the_standard_forbids_would_be_seen(change: Any, violation: str) -> None:
    pod = named(release(), "Deployment", "cascade")["spec"]["template"]["spec"]
    change(pod)
    assert violations(pod) == [violation]


@pytest.mark.parametrize(("family", "variant"), EVERY)
def test_nothing_is_written_outside_tmp_and_shared_memory(family: str, variant: str) -> None:
    for deployment in of_kind(release(family, variant), "Deployment"):
        server, pod = container(deployment), deployment["spec"]["template"]["spec"]
        assert all(every["securityContext"]["readOnlyRootFilesystem"] is True for every in containers(deployment))
        written = ["/tmp", "/dev/shm"] if server["name"] == "triton" else ["/tmp"]
        assert [mount["mountPath"] for mount in server["volumeMounts"] if not mount.get("readOnly")] == written
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert {mount["name"] for mount in server["volumeMounts"]} == set(volumes)
    for deployment in with_triton(release(family, variant)):
        server, pod = container(deployment), deployment["spec"]["template"]["spec"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes["shm"]["emptyDir"]["medium"] == "Memory"
        assert mebibytes(volumes["shm"]["emptyDir"]["sizeLimit"]) < mebibytes(server["resources"]["limits"]["memory"]) / 2


@pytest.mark.parametrize(("family", "variant"), EVERY)
def test_every_pod_is_restricted_has_the_images_user_and_no_token(family: str, variant: str) -> None:
    for deployment in of_kind(release(family, variant), "Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        assert violations(pod) == []
        context = pod["securityContext"]
        image = "tensorrt_llm" if "tensorrt_llm" in container(deployment)["image"] else "cpu"
        assert dockerfile.texts(dockerfile.last_stage(image), "USER") == [f"{context['runAsUser']}:{context['runAsGroup']}"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False


@pytest.mark.parametrize(("family", "variant"), EVERY)
def test_the_server_reads_the_deployment_and_the_plans_that_are_mounted(family: str, variant: str, tmp_path: Path) -> None:
    objects = release(family, variant)
    cascade = named(objects, "Deployment", "cascade")
    for path, text in mounted_config(objects, cascade).items():
        (tmp_path / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path.lstrip("/")).write_text(text)
    loaded = load_deployment(tmp_path / environment(cascade)["CODECASCADE_DEPLOYMENT"].lstrip("/"))
    assert loaded.family == family
    for plan in load_plans(tmp_path / str(loaded.plans).lstrip("/")).plans.values():
        loaded.check(plan)
    urls = {tier: f"{FULLNAME}-{group}.{NAMESPACE}.svc:8001" for group, tiers in groups(family).items() for tier in tiers}
    assert {name: tier.url for name, tier in loaded.tiers.items()} == urls
    given = [(tier["name"], tier["price_per_mtok"]) for tier in chart.deployment(family)["tiers"]]
    assert [(name, tier.price_per_mtok) for name, tier in loaded.tiers.items()] == given


def test_plans_arrive_byte_for_byte_and_change_without_a_restart() -> None:
    text = chart.plans("qwen2.5-coder")
    objects = release()
    assert named(objects, "ConfigMap", "plans")["data"]["qwen2.5-coder.json"].strip() == text.strip()
    mounts = container(named(objects, "Deployment", "cascade"))["volumeMounts"]
    assert all("subPath" not in mount for mount in mounts)  # Kubernetes never updates such a mount
    other = text.replace('"default": "balanced"', '"default": "cheap"')
    assert other != text
    assert named(release(plans=other), "Deployment", "cascade") == named(objects, "Deployment", "cascade")


def test_a_changed_deployment_restarts_the_cascade_alone() -> None:
    before, after = release(), release(deployment=deployment_with(tiers=[TIERS[0] | {"price_per_mtok": 9.0}, *TIERS[1:]]))
    differ = [old["metadata"]["name"] for old, new in zip(before, after, strict=True) if old != new]
    assert differ == [f"{FULLNAME}-cascade", f"{FULLNAME}-deployment"]


@pytest.mark.parametrize(("family", "variant"), EVERY)
def test_variables_are_those_that_the_code_and_the_image_read(family: str, variant: str) -> None:
    script = (dockerfile.IMAGES / "codecascade-triton").read_text()
    settings = {f"{PREFIX}{field.upper()}" for field in ServerSettings.model_fields}
    for deployment in with_triton(release(family, variant)):
        for name in environment(deployment):
            assert f"${{{name}:" in script or name in settings, name


# The gateway


def gateway(variant: str = "gateway", /, **more: Any) -> Object:
    return named(release("qwen2.5-coder", variant, **more), "Deployment", "gateway")


@pytest.mark.parametrize("variant", ["gateway", "tls"])
def test_the_gateway_starts_with_the_variables_that_it_is_given(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both kinds of settings know every variable, and let it listen to others."""
    given = environment(gateway(variant))
    known = {f"{PREFIX}{field.upper()}" for field in Settings.model_fields}
    assert set(given) <= known | {f"{GATEWAY_PREFIX}{field.upper()}" for field in GatewaySettings.model_fields}
    for name, value in given.items():
        file = tmp_path / value.lstrip("/")
        if value.startswith("/"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        monkeypatch.setenv(name, str(file) if value.startswith("/") else value)
    GatewaySettings(host="0.0.0.0").check()
    assert Settings().url == f"{FULLNAME}-cascade.{NAMESPACE}.svc:8001"


def test_the_gateway_is_asked_for_itself_and_for_the_cascade() -> None:
    for variant, scheme in (("gateway", "HTTP"), ("tls", "HTTPS")):
        server = container(gateway(variant))
        assert server["args"] == ["codecascade", "gateway", "--host=0.0.0.0", "--port=8080"]
        assert {port["name"]: port["containerPort"] for port in server["ports"]} == {"http": 8080, "metrics": 8002}
        asked = {name: server[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
        paths = {"startup": "/livez", "readiness": "/healthz", "liveness": "/livez"}  # a cascade that is down restarts no gateway
        assert asked == {name: {"path": path, "port": "http", "scheme": scheme} for name, path in paths.items()}
    variables = environment(gateway())
    assert variables["CODECASCADE_GATEWAY_HEALTH_URL"] == f"http://{FULLNAME}-cascade-http.{NAMESPACE}.svc:8003/health/ready"
    (port,) = (port for port in named(release(), "Service", "cascade-http")["spec"]["ports"] if port["name"] == "health")
    assert port["port"] == 8003


def test_the_gateways_keys_come_from_a_secret_or_it_is_open_on_purpose() -> None:
    keyed, opened = environment(gateway()), environment(gateway(**{"gateway.apiKeys": {}, "gateway.open": True}))
    assert keyed["CODECASCADE_GATEWAY_API_KEYS"] == "clients/keys"
    assert "CODECASCADE_GATEWAY_OPEN" not in keyed
    assert "CODECASCADE_GATEWAY_API_KEYS" not in opened
    assert opened["CODECASCADE_GATEWAY_OPEN"] == "true"


def test_the_gateway_shows_one_certificate_to_clients_and_another_to_the_cascade() -> None:
    secure = gateway("tls")
    volumes = {volume["name"]: volume.get("secret", {}) for volume in secure["spec"]["template"]["spec"]["volumes"]}
    secrets = {mount["mountPath"]: volumes[mount["name"]].get("secretName") for mount in container(secure)["volumeMounts"]}
    assert secrets == {"/tmp": None, "/etc/codecascade/tls/gateway": "web", "/etc/codecascade/tls/cascade": "own"}
    assert {name.removeprefix(PREFIX): value for name, value in environment(secure).items() if "/etc/" in value} == {
        "GATEWAY_TLS_CERTIFICATE": "/etc/codecascade/tls/gateway/tls.crt",
        "GATEWAY_TLS_KEY": "/etc/codecascade/tls/gateway/tls.key",
        "ROOT_CERTIFICATES": "/etc/codecascade/tls/cascade/ca.crt",
        "CERTIFICATE_CHAIN": "/etc/codecascade/tls/cascade/tls.crt",
        "PRIVATE_KEY": "/etc/codecascade/tls/cascade/tls.key",
    }
    assert environment(secure)["CODECASCADE_SERVER_NAME"] == "code.example"
    assert not [value for value in environment(gateway()).values() if "/etc/" in value]


def test_the_gateway_reaches_the_cascade_alone_and_nobody_but_clients_reaches_it() -> None:
    objects = release("qwen2.5-coder", "gateway")
    policy = named(objects, "NetworkPolicy", "gateway")["spec"]
    assert policy["ingress"] == [{"from": [{"podSelector": {}}], "ports": [{"port": "http"}]}]
    dns, cascade = policy["egress"]
    assert {port["port"] for port in dns["ports"]} == {53}
    assert cascade["ports"] == [{"port": "grpc"}, {"port": "health"}]
    assert [peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in cascade["to"]] == ["cascade"]
    _, allowed = named(objects, "NetworkPolicy", "cascade")["spec"]["ingress"]
    labels = gateway()["spec"]["template"]["metadata"]["labels"]
    assert [peer["podSelector"]["matchLabels"].items() <= labels.items() for peer in allowed["from"]] == [True]
    assert allowed["ports"] == cascade["ports"]
    ingress = [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}]
    other = release("qwen2.5-coder", "gateway", **{"networkPolicy.gatewayClients": ingress})
    assert named(other, "NetworkPolicy", "gateway")["spec"]["ingress"][0]["from"] == ingress


def test_the_gateway_scales_on_the_completions_under_way() -> None:
    (metric,) = named(release("qwen2.5-coder", "hpa"), "HorizontalPodAutoscaler", "gateway")["spec"]["metrics"]
    assert metric["pods"]["metric"] == {"name": "codecascade_gateway_in_flight"}
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "64"}
    (trigger,) = named(release("qwen2.5-coder", "keda"), "ScaledObject", "gateway")["spec"]["triggers"]
    pods = f'namespace="{NAMESPACE}",pod=~"{FULLNAME}-gateway-.*"'
    assert trigger["metadata"]["query"] == f"sum(codecascade_gateway_in_flight{{{pods}}})"
    assert (trigger["metricType"], trigger["metadata"]["threshold"]) == ("AverageValue", "64")
    assert b"\ncodecascade_gateway_in_flight 0.0\n" in Metrics().page()


def test_a_release_without_a_gateway_has_nothing_of_it() -> None:
    assert "gateway" not in json.dumps(release())


def test_the_cascade_is_told_where_the_sandbox_is_and_shows_its_certificate() -> None:
    variables = environment(named(release("qwen2.5-coder", "tls"), "Deployment", "cascade"))
    assert variables["CODECASCADE_SANDBOX_URL"] == f"{FULLNAME}-sandbox.{NAMESPACE}.svc:8001"
    folder = "/etc/codecascade/tls/internal"
    for server in ("SANDBOX", "TIERS"):
        assert [variables[f"CODECASCADE_{server}_{file}"] for file in ("CA", "CERTIFICATE", "KEY")] == [
            f"{folder}/{file}" for file in ("ca.crt", "tls.crt", "tls.key")
        ]
    plain = environment(named(release(), "Deployment", "cascade"))
    assert not [name for name in plain if name.endswith(("_CA", "_CERTIFICATE", "_KEY"))]


def test_a_sandbox_in_the_cascades_pod_has_no_address_and_no_deployment() -> None:
    objects = release("qwen2.5-coder", "together")
    cascade = named(objects, "Deployment", "cascade")
    assert "CODECASCADE_SANDBOX_URL" not in environment(cascade)
    assert environment(cascade)["CODECASCADE_SANDBOX_WORKERS"] == "2"
    assert "--model-repository=/opt/codecascade/repositories/sandbox" in container(cascade)["args"]
    assert not [item for item in objects if "sandbox" in item["metadata"]["name"]]


def test_as_many_candidates_run_as_the_sandbox_has_cores() -> None:
    sandbox = named(release(**{"sandbox.resources": {"limits": {"cpu": "7"}}}), "Deployment", "sandbox")
    assert environment(sandbox)["CODECASCADE_SANDBOX_WORKERS"] == "7"


@pytest.mark.parametrize("server", ["sandbox", "cascade"])
def test_the_sandbox_offers_the_packages_of_the_deployment(server: str) -> None:
    together = server == "cascade"
    listed = json.dumps({**chart.deployment("qwen2.5-coder"), "sandbox_modules": ["numpy", "pandas"]})
    objects = release(deployment=listed, **{"sandbox.separate": not together})
    assert environment(named(objects, "Deployment", server))["CODECASCADE_SANDBOX_MODULES"] == "numpy,pandas"
    plain = release(**{"sandbox.separate": not together})
    assert "CODECASCADE_SANDBOX_MODULES" not in environment(named(plain, "Deployment", server))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_group_gets_gpus_and_renders_its_tiers_for_them(family: str) -> None:
    objects = release(family)
    for group in complete_groups(family):
        server = named(objects, "Deployment", group["name"])
        resources = container(server)["resources"]
        assert resources["limits"]["nvidia.com/gpu"] == resources["requests"]["nvidia.com/gpu"] == group["gpus"]
        pod = server["spec"]["template"]["spec"]
        assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]
        (render,) = pod["initContainers"]
        script, options = render["args"][:6], render["args"][6:]
        assert script == ["env", "PYTHONPATH=/opt/codecascade/build", "python3", "-m", "codecascade_build.engines", "render"]
        wanted = [f"--family={family}", f"--gpu={group['gpu']}", f"--gpus={group['gpus']}", "--runtime=tensorrt_llm"]
        assert options == [*wanted, *(f"--tier={tier}" for tier in group["tiers"])]
        assert render["image"] == container(server)["image"]
    for name in ("cascade", "sandbox"):
        other = named(objects, "Deployment", name)
        assert "nvidia.com/gpu" not in container(other)["resources"]["limits"]
        assert "initContainers" not in other["spec"]["template"]["spec"]


def test_a_group_serves_what_its_own_init_container_rendered() -> None:
    server = named(release(), "Deployment", "small")
    (render,) = server["spec"]["template"]["spec"]["initContainers"]
    places = {mount["name"]: mount["mountPath"] for mount in render["volumeMounts"]}
    (served,) = [flag for flag in container(server)["args"] if flag.startswith("--model-repository=")]
    assert served == f"--model-repository={places['rendered']}/qwen2.5-coder-tensorrt_llm"
    assert {"name": "rendered", "mountPath": places["rendered"], "readOnly": True} in container(server)["volumeMounts"]
    assert places["rendered"] == f"/opt/codecascade/{RENDERED_MODELS.relative_to(ROOT)}"
    engines = {mount["mountPath"]: mount["subPath"] for mount in container(server)["volumeMounts"] if mount["name"] == "models"}
    assert engines == {f"/opt/codecascade/{place.relative_to(ROOT)}": place.name for place in (VAR / "engines", cache_dir({}))}


def test_a_group_may_run_on_the_llm_api() -> None:
    given = values("qwen2.5-coder")
    given["tierGroups"][2] |= {"runtime": "llm_api"}
    server = named(rendered(given), "Deployment", "large")
    (render,) = server["spec"]["template"]["spec"]["initContainers"]
    assert "--runtime=llm_api" in render["args"]
    assert "--model-repository=/opt/codecascade/var/model_repository/qwen2.5-coder-llm_api" in container(server)["args"]


def test_an_engine_that_is_split_has_a_group_a_rank_for_each_gpu() -> None:
    given = values("wizardcoder-python")
    given["tierGroups"][1] |= {"gpu": "rtx3090", "gpus": 4, "ranks": 4}
    server = named(rendered(given), "Deployment", "large")
    assert environment(server)["CODECASCADE_RANKS"] == "4"
    assert environment(server)["CODECASCADE_RANK_MODEL"] == "wizardcoder-python-34b-tensorrt_llm"
    assert container(server)["resources"]["limits"]["nvidia.com/gpu"] == 4
    assert "CODECASCADE_RANKS" not in environment(named(rendered(given), "Deployment", "small"))


def test_engines_come_from_a_claim_or_from_an_image() -> None:
    claim = named(release(), "Deployment", "small")["spec"]["template"]["spec"]["volumes"]
    assert {"name": "models", "persistentVolumeClaim": {"claimName": "engines", "readOnly": True}} in claim
    objects = release(models={"image": "registry/engines@sha256:1"})
    image = named(objects, "Deployment", "small")
    volume = {"name": "models", "image": {"reference": "registry/engines@sha256:1", "pullPolicy": "IfNotPresent"}}
    assert volume in image["spec"]["template"]["spec"]["volumes"]
    kubernetes_validate.validate(image, NEWEST, strict=True)


def test_only_the_cascade_reaches_tiers_and_sandbox_and_these_reach_nothing() -> None:
    objects = release()
    cascade = named(objects, "Deployment", "cascade")["spec"]["template"]["metadata"]["labels"]
    for name in ("sandbox", *groups("qwen2.5-coder")):
        spec = named(objects, "NetworkPolicy", name)["spec"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        assert spec["egress"] == []
        (rule,) = spec["ingress"]
        (peer,) = rule["from"]
        assert peer["podSelector"]["matchLabels"].items() <= cascade.items()
        assert rule["ports"] == [{"port": "grpc"}]
    dns, behind = named(objects, "NetworkPolicy", "cascade")["spec"]["egress"]
    assert {port["port"] for port in dns["ports"]} == {53}
    assert behind["ports"] == [{"port": "grpc"}]
    reached = {peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in behind["to"]}
    assert reached == {"sandbox", *groups("qwen2.5-coder")}


def test_metrics_are_closed_unless_somebody_is_named() -> None:
    def metrics_rules(objects: list[Object]) -> int:
        rules = [rule for policy in of_kind(objects, "NetworkPolicy") for rule in policy["spec"]["ingress"]]
        return sum({"port": "metrics"} in rule["ports"] for rule in rules)

    assert metrics_rules(release()) == 0
    assert metrics_rules(release("qwen2.5-coder", "placed")) == len(servers("qwen2.5-coder", "placed"))


def test_replicas_are_the_autoscalers_to_set() -> None:
    for variant, kind in (("hpa", "HorizontalPodAutoscaler"), ("keda", "ScaledObject")):
        objects = release("qwen2.5-coder", variant)
        scaled = {item["spec"]["scaleTargetRef"]["name"] for item in of_kind(objects, kind)}
        assert scaled
        for deployment in of_kind(objects, "Deployment"):
            assert ("replicas" in deployment["spec"]) == (deployment["metadata"]["name"] not in scaled)


def test_groups_scale_on_waiting_requests_and_the_kv_cache() -> None:
    metrics = named(release("qwen2.5-coder", "hpa"), "HorizontalPodAutoscaler", "small")["spec"]["metrics"]
    waiting, blocks = (metric["pods"] for metric in metrics)
    assert waiting["metric"] == {"name": "nv_trt_llm_request_metrics", "selector": {"matchLabels": {"request_type": "waiting"}}}
    assert waiting["target"] == {"type": "AverageValue", "averageValue": "8"}
    assert blocks["metric"]["selector"] == {"matchLabels": {"kv_cache_block_type": "fraction"}}
    assert blocks["target"]["averageValue"] == "800m"

    spec = named(release("qwen2.5-coder", "keda"), "ScaledObject", "small")["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, 4)
    waiting, blocks = spec["triggers"]
    pods = f'namespace="{NAMESPACE}",pod=~"{FULLNAME}-small-.*"'
    assert waiting["metadata"]["query"] == f'sum(nv_trt_llm_request_metrics{{request_type="waiting",{pods}}})'
    assert blocks["metadata"]["query"] == f'avg(nv_trt_llm_kv_cache_block_metrics{{kv_cache_block_type="fraction",{pods}}})'
    assert [trigger["metadata"]["threshold"] for trigger in (waiting, blocks)] == ["8", "0.80"]
    assert [trigger["metricType"] for trigger in (waiting, blocks)] == ["AverageValue", "Value"]


def test_the_service_monitor_finds_the_services_with_metrics() -> None:
    objects = release("qwen2.5-coder", "keda")
    (monitor,) = of_kind(objects, "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    services = [service for service in of_kind(objects, "Service") if wanted <= service["metadata"]["labels"].items()]
    assert len(services) == len(servers("qwen2.5-coder", "keda"))
    for service in services:
        assert monitor["spec"]["endpoints"][0]["port"] in [port["name"] for port in service["spec"]["ports"]]


def test_names_stay_short_enough_for_services() -> None:
    given = values("qwen2.5-coder")
    given["tierGroups"][0]["name"] = "a-group-of-20-letter"
    assert max(len(item["metadata"]["name"]) for item in rendered(given, name="r" * 53)) == 63


TYPOS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"cascade.replica": 3}, "replica"),
    "unknown key of a group": ({"tierDefaults.gpu": 1}, "gpu"),
    "no replicas": ({"cascade.replicas": 0}, "replicas"),
    "digest": ({"images.cpu.digest": "latest"}, "digest"),
    "scaling of the sandbox": ({"sandbox.autoscaling.mode": "keda"}, "mode"),
    "scaling of the gateway": ({"gateway.autoscaling.cpuPercent": 70}, "cpuPercent"),
    "sandbox without cores": ({"sandbox.resources": {"limits": {"cpu": None}}}, "cpu"),
    "quantity": ({"cascade.sharedMemory": "much"}, "sharedMemory"),
}


@pytest.mark.parametrize("typo", TYPOS)
def test_the_schema_names_what_is_wrong(typo: str) -> None:
    change, key = TYPOS[typo]
    with pytest.raises(helm_python.HelmValuesError, match=key):
        release(**change)


def deployment_with(**change: Any) -> str:
    return json.dumps({**chart.deployment("qwen2.5-coder"), **change})


def group(**more: Any) -> dict[str, Any]:
    return {"name": "a", "tiers": ["x"], **more}


TIERS = chart.deployment("qwen2.5-coder")["tiers"]
REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "no family": ({"family": ""}, "family is not set: the model family, as in build/families"),
    "no deployment": ({"deployment": ""}, "deployment is not set: --set-file deployment="),
    "no JSON": ({"deployment": "{"}, "deployment is not a JSON object: "),
    "another family": (
        {"deployment": deployment_with(family="x")},
        "deployment has the family x, must be the release's",
    ),
    "a tier in no group": (
        {"deployment": deployment_with(tiers=[*TIERS, {"name": "more"}])},
        "tier more of the deployment is in no group",
    ),
    "not deployed": ({"deployment": deployment_with(tiers=TIERS[:-1])}, "tierGroups: not in the deployment: qwen2.5-coder-32b"),
    "no plans": ({"plans": ""}, "plans is not set: --set-file plans="),
    "plans that are no JSON": ({"plans": "{"}, "plans is not a JSON object: "),
    "plans of another family": ({"plans": '{"family": "x"}'}, "plans has the family x, must be the release's"),
    "a plan of another tier": (
        {"plans": '{"family": "qwen2.5-coder", "plans": {"p": {"steps": [{"tier": "huge"}]}}}'},
        "plan p names tier huge, which is not deployed",
    ),
    "no engines": ({"models": {}}, "neither claim nor image is set"),
    "engines twice": ({"models": {"claim": "a", "image": "b"}}, "claim and image are both set"),
    "keda without prometheus": ({"tierDefaults.autoscaling.mode": "keda"}, "prometheusUrl is not set"),
    "two tiers split": ({"tierDefaults.gpus": 2, "tierDefaults.ranks": 2}, "small has ranks 2 and 4 tiers, must have 1 tier"),
    "more ranks than GPUs": ({"tierGroups": [group(ranks=2)]}, "a has ranks 2, must be 1 or less, its gpus"),
    "ranks of the LLM API": (
        {"tierGroups": [group(ranks=2, gpus=2, runtime="llm_api")]},
        "a has ranks 2, must be 1 with the runtime llm_api, which starts its own ranks",
    ),
    "a tier twice": ({"tierGroups": [group(), group(name="b")]}, "tier x is in two groups, a and b"),
    "a group named as a server": (
        {"tierGroups": [group(name="sandbox")]},
        "a group is named sandbox, must not be cascade, gateway or sandbox",
    ),
    "a gateway for everybody": (
        {"gateway.enabled": True},
        "gateway.apiKeys.secret is not set: it must name a Secret with keys, or gateway.open must be true",
    ),
    "a gateway that trusts nobody": (
        {**GATEWAY, "tls.public.secret": "public"},
        "tls.gateway.cascadeSecret is not set: the gateway needs the ca.crt of the cascade's certificate",
    ),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_release_that_cannot_work_is_refused_in_one_sentence(refusal: str) -> None:
    change, sentence = REFUSALS[refusal]
    with pytest.raises(helm_python.HelmRenderError, match=re.escape(sentence)):
        release(**change)


def servers(family: str, variant: str) -> list[str]:
    separate = [] if variant == "together" else ["sandbox"]
    before = ["gateway"] if "gateway.enabled" in VARIANTS[variant] else []
    return ["cascade", *separate, *groups(family), *before]


def mounted_config(objects: list[Object], workload: Object) -> dict[str, str]:
    """Path in the container → text, of the ConfigMaps."""
    volumes = {volume["name"]: volume for volume in workload["spec"]["template"]["spec"]["volumes"]}
    files: dict[str, str] = {}
    for mount in container(workload)["volumeMounts"]:
        config_map = volumes[mount["name"]].get("configMap")
        if config_map:
            data = named(objects, "ConfigMap", config_map["name"].removeprefix(f"{FULLNAME}-"))["data"]
            files |= {f"{mount['mountPath']}/{name}": text for name, text in data.items()}
    return files


def mebibytes(quantity: str) -> float:
    parts = re.fullmatch(r"(\d+)(Mi|Gi)", quantity)
    assert parts
    return int(parts[1]) * (1024 if parts[2] == "Gi" else 1)


def violations(pod: dict[str, Any]) -> list[str]:
    """Which controls of the Pod Security Standards (baseline and restricted) the pod breaks."""
    kinds = {"configMap", "emptyDir", "image", "persistentVolumeClaim", "secret"}  # of those allowed, what the chart uses
    containers = [*pod["containers"], *pod.get("initContainers", [])]
    whole = pod.get("securityContext", {})
    contexts = [{**whole, **one.get("securityContext", {})} for one in containers]
    broken = {
        "host": any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC"))
        or any("hostPort" in port for one in containers for port in one.get("ports", [])),
        "volumes": any(not (set(volume) - {"name"} <= kinds) for volume in pod["volumes"]),
        "privileged": any(context.get("privileged") for context in contexts),
        "procMount": any(context.get("procMount", "Default") != "Default" for context in contexts),
        "sysctls": bool(whole.get("sysctls")),
        "allowPrivilegeEscalation": any(context.get("allowPrivilegeEscalation") is not False for context in contexts),
        "capabilities": any(context.get("capabilities") != {"drop": ["ALL"]} for context in contexts),
        "runAsNonRoot": any(context.get("runAsNonRoot") is not True for context in contexts),
        "runAsUser": any(context.get("runAsUser") == 0 for context in contexts),
        "seccompProfile": any(context.get("seccompProfile") != {"type": "RuntimeDefault"} for context in contexts),
    }
    return [name for name, is_broken in broken.items() if is_broken]
