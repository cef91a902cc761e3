"""What a real server tells about itself: metrics, shadow traffic, and whether the plan file's promise holds."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from codecascade_build.errors import BuildError
from codecascade_build.paths import ROOT
from codecascade_build.server.process import RunningServer
from codecascade_client.cli.drift import DRIFTED
from codecascade_client.cli.main import app
from codecascade_client.client import AsyncCascadeClient
from codecascade_client.errors import RequestFailed
from typer.testing import CliRunner, Result

from tests.server.collector import Collector, collecting
from tests.server.metrics import eventually, metric, scraped
from tests.server.queries import labels_of, missing, queries, read_by
from tests.server.real_server import StartServer
from tests.server.scripted.repository import ScriptedRepository, ScriptedTier, render

pytestmark = pytest.mark.triton

PROMPT = 'def add(a, b):\n    """The sum of a and b."""\n'
SMALL, LARGE = {"tier": "small", "k": 1, "lines_per_sample": 2, "threshold": 1.0}, {"tier": "large", "k": 0}


def promising(steps: list[dict[str, Any]], **reach: float) -> dict[str, Any]:
    cost = {"mean": 1.0, "low": 0.5, "high": 2.0}
    return {"steps": steps, "held_out": {"usd_per_1000": cost, "accuracy": cost, "reach": reach}}


PLANS = {
    "kept": promising([SMALL, LARGE], small=1.0, large=0.3),
    "broken": promising([SMALL, LARGE], small=1.0, large=0.02),
    "dear": promising([SMALL, {"tier": "dear", "k": 0}], small=1.0, dear=0.5),
    "slow": {"steps": [{"tier": "slow", "k": 0}]},
    "alone": {"steps": [LARGE]},
}
TIERS = [
    ScriptedTier("small", price_per_mtok=1.0),
    ScriptedTier("large", price_per_mtok=3.0),
    ScriptedTier("slow", delay_s=1.0),
    ScriptedTier("dear", price_per_mtok=10_000.0),
]


def repository_in(folder: Path) -> ScriptedRepository:
    repository = render(folder, TIERS, PLANS, default="kept", real_sandbox=True)
    document = json.loads(repository.plans.read_text())
    document["provenance"]["split"] = {"held_out_tasks": 100}
    repository.plans.write_text(json.dumps(document))
    return repository


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> ScriptedRepository:
    return repository_in(tmp_path_factory.mktemp("observed"))


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def server(start_server: StartServer, repository: ScriptedRepository, collector: Collector) -> Iterator[RunningServer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        patch.setenv("CODECASCADE_SHADOW_PLAN", "alone")
        patch.setenv("CODECASCADE_SHADOW_SHARE", "1")
        yield start_server(repository.repositories, repository.deployment)


@pytest_asyncio.fixture
async def client(server: RunningServer) -> AsyncIterator[AsyncCascadeClient]:
    async with AsyncCascadeClient(server.grpc) as connected:
        yield connected


def told(*behaviours: str) -> str:
    """A prompt that tells tiers how to behave."""
    return "".join(f"# {behaviour}\n" for behaviour in behaviours) + PROMPT


def replays(server: RunningServer, outcome: str, plan: str = "kept") -> float:
    return metric(server, f'codecascade_shadow_replays_total{{outcome="{outcome}",plan="{plan}",shadow="alone"}}')


def ended(server: RunningServer) -> float:
    """Replays by plan kept, however they ended."""
    return sum(replays(server, outcome) for outcome in ("same_text", "other_text", "shed", "failed"))


async def test_a_replay_is_compared_with_the_answer_and_both_costs_are_told(
    client: AsyncCascadeClient, server: RunningServer
) -> None:
    pair = 'plan="kept",shadow="alone"'
    before = replays(server, "same_text")
    answer = await client.complete(PROMPT)
    assert answer.tier == "small"
    await eventually(lambda: replays(server, "same_text") == before + 1, within_s=5.0)
    assert metric(server, f'codecascade_shadow_tiers_total{{{pair},tier="small",shadow_tier="large"}}') >= 1
    costs = {
        run: metric(server, f'codecascade_shadow_compared_cost_usd_total{{{pair},run="{run}"}}') for run in ("answer", "shadow")
    }
    assert costs["answer"] >= answer.cost_usd > 0
    assert 0 < costs["shadow"] <= metric(server, 'codecascade_shadow_cost_usd_total{tier="large"}')


async def test_a_replay_that_says_something_else_is_counted_so(client: AsyncCascadeClient, server: RunningServer) -> None:
    before = replays(server, "other_text")
    answer = await client.complete(told("large: wrong"))
    assert answer.text.endswith("return a + b\n")
    await eventually(lambda: replays(server, "other_text") == before + 1, within_s=5.0)


async def test_nobody_waits_for_a_replay(client: AsyncCascadeClient, server: RunningServer) -> None:
    """The shadow's tier stalls for seconds: the answer is there while its replay is not."""
    before = ended(server)
    assert (await client.complete(told("large: stall"))).tier == "small"
    assert ended(server) == before
    await eventually(lambda: ended(server) == before + 1, within_s=15.0)


async def test_a_replay_that_fails_is_counted_and_nothing_else(client: AsyncCascadeClient, server: RunningServer) -> None:
    before = replays(server, "failed"), metric(server, 'codecascade_requests_total{outcome="unavailable",plan="alone"}')
    assert (await client.complete(told("large: fail"))).tier == "small"
    await eventually(lambda: replays(server, "failed") == before[0] + 1, within_s=5.0)
    assert metric(server, 'codecascade_requests_total{outcome="unavailable",plan="alone"}') == before[1]


async def test_under_load_replays_are_dropped_and_requests_are_not(client: AsyncCascadeClient, server: RunningServer) -> None:
    before = replays(server, "shed", "slow")
    answers = await asyncio.gather(*(client.complete(PROMPT, plan="slow", seed=seed) for seed in range(12)))
    assert {answer.tier for answer in answers} == {"slow"}
    await eventually(lambda: replays(server, "shed", "slow") >= before + 1, within_s=5.0)


def test_a_server_does_not_start_with_a_shadow_plan_that_is_not_in_the_file(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODECASCADE_SHADOW_PLAN", "nobody")
    here = repository_in(tmp_path)
    with pytest.raises(BuildError, match="CODECASCADE_SHADOW_PLAN is 'nobody', must be one of the plans alone, broken"):
        start_server(here.repositories, here.deployment)


async def test_a_failure_is_counted_with_its_plan_and_no_name_of_a_caller_becomes_a_label(
    client: AsyncCascadeClient, server: RunningServer
) -> None:
    failed = 'codecascade_requests_total{outcome="unavailable",plan="kept"}'
    invalid = 'codecascade_requests_total{outcome="invalid",plan=""}'
    before = metric(server, failed), metric(server, invalid)
    with pytest.raises(RequestFailed):
        await client.complete(told("small: fail", "large: fail"))
    with pytest.raises(RequestFailed):
        await client.complete(PROMPT, plan="a-name-of-a-caller")
    await eventually(lambda: metric(server, failed) > before[0] and metric(server, invalid) > before[1], within_s=5.0)
    assert "a-name-of-a-caller" not in scraped(server)


async def test_requests_in_flight_are_told_and_fall_back_to_zero(client: AsyncCascadeClient, server: RunningServer) -> None:
    in_flight = 'codecascade_requests_in_flight{model="cascade"}'
    requests = asyncio.gather(*(client.complete(PROMPT, plan="slow") for _ in range(3)))
    await eventually(lambda: metric(server, in_flight) == 3, within_s=5.0)
    await requests
    await eventually(lambda: metric(server, in_flight) == 0, within_s=5.0)


async def test_the_build_and_the_promise_are_told(client: AsyncCascadeClient, server: RunningServer) -> None:
    await client.complete(PROMPT)
    await eventually(lambda: metric(server, 'codecascade_promised_reach_ratio{plan="kept",tier="large"}') == 0.3, within_s=5.0)
    assert metric(server, 'codecascade_promised_request_cost_usd{plan="kept"}') == pytest.approx(1e-3)
    assert re.search(r'^codecascade_build_info\{[^}]*family="scripted"[^}]*\} 1$', scraped(server), re.MULTILINE)


async def test_spans_of_a_request_reach_the_collector(client: AsyncCascadeClient, collector: Collector) -> None:
    await client.complete(told("small: wrong"), plan="kept")
    wanted = {"cascade", "tier small", "tier large", "generation", "sandbox"}
    await eventually(lambda: wanted <= {span.name for span in collector.spans}, within_s=10.0)
    assert collector.services == {"codecascade"}


def drift(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["drift", *map(str, arguments)])


async def answer_all(client: AsyncCascadeClient, server: RunningServer, plan: str, right: int, wrong: int) -> None:
    """So many requests, one after another, and until they are counted."""
    counted = f'codecascade_requests_total{{outcome="answered",plan="{plan}"}}'
    before = metric(server, counted)
    for number in range(right + wrong):
        await client.complete(PROMPT if number < right else told("small: wrong"), plan=plan)
    await eventually(lambda: metric(server, counted) >= before + right + wrong, within_s=5.0)


async def test_traffic_as_promised_holds(
    client: AsyncCascadeClient, server: RunningServer, repository: ScriptedRepository
) -> None:
    await answer_all(client, server, "kept", right=14, wrong=6)
    result = drift(repository.plans, "--metrics", f"http://{server.metrics}/metrics", "--plan", "kept")
    assert (result.exit_code, "drifted" in result.stdout) == (0, False)


async def test_tiers_that_are_left_more_often_than_promised_are_drift(
    client: AsyncCascadeClient, server: RunningServer, repository: ScriptedRepository, tmp_path: Path
) -> None:
    await answer_all(client, server, "broken", right=1, wrong=20)
    url = f"http://{server.metrics}/metrics"
    result = drift(repository.plans, "--metrics", url)
    assert result.exit_code == DRIFTED
    assert [line.split()[0] for line in result.stdout.splitlines() if "drifted" in line] == ["broken"]
    evidence = 'codecascade_drift_log10_e_value{model="cascade",plan="broken",tier="large",what="reach"}'
    await eventually(lambda: metric(server, evidence) > 3, within_s=5.0)

    saved = tmp_path / "metrics.txt"
    saved.write_text(scraped(server))
    assert drift(repository.plans, "--metrics", saved).exit_code == DRIFTED
    since = drift(repository.plans, "--metrics", url, "--since", saved)
    assert (since.exit_code, "has answered a request yet" in since.stdout) == (0, True)


async def test_requests_that_cost_more_than_promised_are_drift(
    client: AsyncCascadeClient, server: RunningServer, repository: ScriptedRepository
) -> None:
    await answer_all(client, server, "dear", right=6, wrong=6)  # half of them reach the dear tier, as promised
    result = drift(repository.plans, "--metrics", f"http://{server.metrics}/metrics", "--plan", "dear")
    assert result.exit_code == DRIFTED
    (drifted,) = (line for line in result.stdout.splitlines() if "drifted" in line)
    assert "cost of a request" in drifted


async def test_the_server_tells_whatever_dashboard_and_alert_rules_ask_for(
    client: AsyncCascadeClient, server: RunningServer
) -> None:
    await client.complete(PROMPT)
    await client.complete(told("small: fail"))
    await client.complete(PROMPT, tests=["assert add(1, 2) == 3"])
    with pytest.raises(RequestFailed):
        await client.complete(told("large: fail"), plan="alone")
    reads = {read: place for place, query in queries().items() for read in read_by(query)}
    assert len(reads) >= 40

    def unanswered() -> set[str]:
        known = labels_of(scraped(server))
        return {f"{place}: {problem}" for read, place in reads.items() if (problem := missing(read, known))}

    await eventually(lambda: not unanswered(), within_s=10.0, otherwise=unanswered)


async def test_the_documentation_has_the_series_and_labels_of_the_server(
    client: AsyncCascadeClient, server: RunningServer
) -> None:
    await client.complete(PROMPT)
    await client.complete(PROMPT, tests=["assert add(1, 2) == 3"])
    table = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8").partition("<!-- metrics:")[2].partition("<!-- end -->")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|([^|]*)\|", table, re.MULTILINE)
    written = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    await eventually(
        lambda: told_by(scraped(server)) == written, within_s=5.0, otherwise=lambda: (told_by(scraped(server)), written)
    )


def told_by(metrics: str) -> dict[str, tuple[str, set[str]]]:
    """Our series of a /metrics: name → kind and labels."""
    kinds = re.findall(r"^# TYPE (codecascade_\w+) (\w+)$", metrics, re.MULTILINE)
    labels = labels_of(metrics)
    return {name: (kind, set(labels.get(f"{name}_count" if kind == "histogram" else name, ()))) for name, kind in kinds}


async def test_a_query_for_what_the_server_does_not_tell_would_be_seen(client: AsyncCascadeClient, server: RunningServer) -> None:
    await client.complete(PROMPT)
    await eventually(lambda: "codecascade_requests_total{" in scraped(server), within_s=5.0)
    known = labels_of(scraped(server))
    asked = {
        'sum by (colour) (rate(codecascade_requests_total{outcome="answered"}[5m]))': "has no label colour",
        "max(codecascade_requests)": "no series codecascade_requests",
        'codecascade_requests_total{outcome="answred"} > 1': 'codecascade_requests_total has never outcome="answred"',
    }
    for query, problem in asked.items():
        (read,) = read_by(query)
        assert problem in str(missing(read, known))
