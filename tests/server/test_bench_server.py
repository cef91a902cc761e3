"""`bench` and `record` against a real Triton with scripted tiers and the real sandbox."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from codecascade.deployment import load_deployment
from codecascade.plans import load_plans
from codecascade.sandbox import SandboxPool
from codecascade_build.server.process import RunningServer
from codecascade_client.client import AsyncCascadeClient
from codecascade_client.datasets.humaneval import BenchmarkTask
from codecascade_client.datasets.load import Dataset
from codecascade_client.errors import RequestFailed
from codecascade_client.live.bench import PlanBench, bench_plans
from codecascade_client.live.endpoints import TierEndpoints
from codecascade_client.recording.judge import judge, unjudged
from codecascade_client.recording.record import RecordSettings, manifest_for, plan_units, record
from codecascade_client.recording.store import resume_recording
from codecascade_client.search.frontier import Grid
from codecascade_client.search.search import Rules, plan_file, search
from codecascade_client.settings import Settings

from tests.server.real_server import StartServer
from tests.server.scripted.repository import ScriptedRepository, ScriptedTier, render

pytestmark = pytest.mark.triton

PLANS: dict[str, list[dict[str, Any]]] = {
    "two": [
        {"tier": "small", "k": 3, "lines_per_sample": 2, "threshold": 1.0},
        {"tier": "large", "k": 0, "lines_per_sample": 0, "threshold": 0.0},
    ],
    "small-alone": [{"tier": "small", "k": 0, "lines_per_sample": 0, "threshold": 0.0}],
}
TASKS = 12
ESCALATED = 3  # tasks in which the small tier is wrong and knows it
FOOLED = 2  # tasks in which it is wrong, and so are its tests


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> ScriptedRepository:
    tiers = [ScriptedTier("small", price_per_mtok=1.0), ScriptedTier("large", price_per_mtok=4.0)]
    return render(tmp_path_factory.mktemp("scripted"), tiers, PLANS, default="two", real_sandbox=True)


@pytest.fixture(scope="module")
def server(start_server: StartServer, repository: ScriptedRepository) -> RunningServer:
    return start_server(repository.repositories, repository.deployment)


def dataset() -> Dataset:
    """Sums, and some tasks that want differences: there the small tier's solutions and tests agree and are wrong."""
    tasks = {}
    for n in range(TASKS):
        told = "# small: wrong\n" if n < ESCALATED else ""
        wanted = "-" if ESCALATED <= n < ESCALATED + FOOLED else "+"
        cases = "\n".join(f"    assert candidate({a}, {b}) == {a} {wanted} {b}" for a in range(3) for b in range(1, 3))
        test = f"def check(candidate):\n{cases}\n"
        tasks[f"t/{n}"] = BenchmarkTask(f"t/{n}", f"{told}def f_{n}(a, b):\n", f"f_{n}", "", test)
    return Dataset("sums", tasks)


async def bench(server: RunningServer, plans: Path, out: Path, names: list[str] | None = None) -> dict[str, PlanBench]:
    results = await bench_plans(
        Settings(url=server.grpc), load_plans(plans), names, dataset(), limit=None, concurrency=4, seed=0, out=out
    )
    return {result.plan: result for result in results}


async def test_plans_are_measured_live(server: RunningServer, repository: ScriptedRepository, tmp_path: Path) -> None:
    benches = await bench(server, repository.plans, tmp_path)
    two = benches["two"]
    assert (two.tasks, round(two.accuracy.mean * TASKS)) == (TASKS, TASKS - FOOLED)
    assert two.accuracy.low < two.accuracy.mean < two.accuracy.high
    assert two.tiers["small"].asked == TASKS
    assert two.tiers["small"].accepted == TASKS - ESCALATED
    assert two.tiers["small"].accepted_wrong == FOOLED
    assert (two.tiers["large"].asked, two.tiers["large"].accepted) == (ESCALATED, 0)
    assert two.latency_s[50] <= two.latency_s[95] <= two.latency_s[99]
    assert two.kept is None
    assert benches["small-alone"].usd_per_1000 < two.usd_per_1000


async def test_samples_are_what_human_evals_evaluator_reads(
    server: RunningServer, repository: ScriptedRepository, tmp_path: Path
) -> None:
    await bench(server, repository.plans, tmp_path, ["two"])
    rows = [json.loads(line) for line in (tmp_path / "two.samples.jsonl").read_text().splitlines()]
    assert [row["task_id"] for row in rows] == list(dataset().tasks)
    for row in rows[ESCALATED + FOOLED :]:
        task = dataset().tasks[row["task_id"]]
        program = f"{task.prompt}{row['completion']}\n{task.test}\ncheck({task.entry_point})"  # as the evaluator builds it
        exec(program, {})


async def in_force(server: RunningServer, plan: str) -> None:
    """Ask until the server knows the plan: it looks at its file once a second."""
    end = time.monotonic() + 20
    async with AsyncCascadeClient(server.grpc) as client:
        while True:
            try:
                await client.complete("def add(a, b):\n", plan=plan)
                return
            except RequestFailed as refusal:
                if "is unknown" not in str(refusal) or time.monotonic() > end:
                    raise
                await asyncio.sleep(0.05)


async def test_what_was_recorded_and_searched_is_what_the_server_does(
    server: RunningServer, repository: ScriptedRepository, tmp_path: Path
) -> None:
    tasks, deployment = dataset(), load_deployment(repository.deployment)
    settings = RecordSettings(k=3, lines_asked=2, seed=0)
    folder = resume_recording(tmp_path / "recording", manifest_for(repository.deployment, tasks, settings))
    async with TierEndpoints([server.grpc]) as endpoints, SandboxPool(workers=1) as pool:
        with folder.writing():
            units = plan_units(tasks, ["small", "large"], runs=1, split_seed=0, limit=None)
            await record(folder, deployment, tasks, units, settings, endpoints.generate, concurrency=4, on_unit=lambda unit: None)
            await judge(folder, tasks, unjudged(folder, tasks), pool, lambda units: None)
    text = await asyncio.to_thread(
        lambda: plan_file(search([folder.load()], Rules(Grid((0.5, 1.0)), 0.9, split_seed=0, splits=2)))
    )
    plans = json.loads(text)["plans"]
    (tmp_path / "plans.json").write_text(text)
    original = repository.plans.read_text()
    try:
        repository.plans.write_text(text)  # the server takes it without a restart
        await in_force(server, "cheap")
        benches = await bench(server, tmp_path / "plans.json", tmp_path)
    finally:
        repository.plans.write_text(original)
    for name in ("cheap", "balanced", "accurate", "small-alone", "large-alone"):
        promised = plans[name]["held_out"]
        assert benches[name].kept is True
        assert benches[name].accuracy.mean == pytest.approx(promised["accuracy"]["mean"], abs=1e-6)
        assert benches[name].usd_per_1000 == pytest.approx(promised["usd_per_1000"]["mean"], rel=1e-4)


async def test_a_server_that_is_not_there_is_said(repository: ScriptedRepository, tmp_path: Path) -> None:
    with pytest.raises(RequestFailed, match=r"no server answers at 127\.0\.0\.1:1"):
        await bench_plans(
            Settings(url="127.0.0.1:1"),
            load_plans(repository.plans),
            None,
            dataset(),
            limit=1,
            concurrency=1,
            seed=0,
            out=tmp_path,
        )
