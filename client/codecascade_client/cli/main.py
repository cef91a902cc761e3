"""The command line. Results go to stdout, everything about them to stderr.

Exit codes: 0, 1 when the server refused or could not be reached (one sentence says why), 2 when the command itself is wrong.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from codecascade.errors import CascadeError, InvalidSetting
from codecascade.plans import load_plans
from codecascade.types import Plan

from codecascade_client.cli.doctor import examine
from codecascade_client.cli.plan_gpus import run_planner
from codecascade_client.cli.tables import comparison, print_plans, print_results, print_trace
from codecascade_client.client import CascadeClient, Completion
from codecascade_client.datasets.humaneval import humaneval, humaneval_task
from codecascade_client.errors import DatasetError, RequestFailed
from codecascade_client.estimate import wilson
from codecascade_client.live.evaluate import Result, as_recorded, evaluate, promise_of
from codecascade_client.settings import read_settings

app = typer.Typer(
    help="Code completion that asks the smallest model first.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Url = Annotated[
    str | None, typer.Option(help="host:port of the server's gRPC service [env CODECASCADE_URL, default 127.0.0.1:8001].")
]
PlanName = Annotated[str | None, typer.Option(help="A plan's name; the server's default if not given.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same answer.", min=0, max=2**64 - 1)]


@app.command()
def complete(
    prompt_file: Annotated[Path | None, typer.Option(help="A UTF-8 file that ends where the code is to go on.")] = None,
    task: Annotated[str | None, typer.Option(help="A benchmark task instead: HumanEval/0 to HumanEval/163.")] = None,
    entry_point: Annotated[
        str | None, typer.Option(help="The function under test; default: the last that the prompt defines.")
    ] = None,
    plan: PlanName = None,
    seed: Seed = 0,
    max_tokens: Annotated[int | None, typer.Option(help="For one solution; the tier's own limit if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, with the trace.")] = False,
    url: Url = None,
) -> None:
    """Finish a prompt: the code on stdout, what each tier did on stderr."""
    if (prompt_file is None) == (task is None):
        raise typer.BadParameter("exactly one of --prompt-file and --task is needed")
    if prompt_file is not None:
        prompt = _prompt(prompt_file)
    else:
        benchmark = humaneval_task(str(task))
        prompt, entry_point = benchmark.prompt, entry_point or benchmark.entry_point
    settings = read_settings(url)

    async def ask() -> Completion:
        async with CascadeClient.from_settings(settings) as client:
            return await client.complete(
                prompt, entry_point, plan, max_tokens, seed, return_trace=True, timeout_s=settings.timeout_s
            )

    answer = asyncio.run(ask())
    if as_json:
        print(json.dumps(dataclasses.asdict(answer), ensure_ascii=False))
        return
    print(answer.text, end="" if answer.text.endswith("\n") else "\n")
    sys.stdout.flush()
    print_trace(answer.trace or {})


@app.command()
def plans(
    files: Annotated[list[Path] | None, typer.Argument(help="Plan files; default: plans/*.json.", show_default=False)] = None,
) -> None:
    """The plans there are in plan files."""
    chosen = files or sorted(Path("plans").glob("*.json"))
    if not chosen:
        raise typer.BadParameter("there is no plan file in plans/ here; name one")
    print_plans([(file, load_plans(file)) for file in chosen])


@app.command()
def doctor(url: Url = None) -> None:
    """What this machine can run and what is missing; run it in a checkout. Exit code 0 if the CPU deployment can run."""
    raise typer.Exit(0 if asyncio.run(examine(read_settings(url), Path.cwd())) else 1)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    options_metavar="[OPTIONS: plan-gpus --help]",
)
def plan_gpus(context: typer.Context) -> None:
    """Which tiers fit on which GPUs, before anything is built; run it in a checkout."""
    raise typer.Exit(run_planner(context.args, Path.cwd()))


@app.command("eval")
def eval_(
    tasks: Annotated[str, typer.Option(help="HumanEval's tasks from A to B, as A-B.", metavar="A-B")] = "0-163",
    plan: PlanName = None,
    seed: Seed = 0,
    at_least: Annotated[int, typer.Option(help="Exit code 1 if fewer tasks pass.", min=0)] = 0,
    promised: Annotated[
        Path | None, typer.Option(help="A searched plan file: exit code 1 if its 95 % interval and the one seen are apart.")
    ] = None,
    recording: Annotated[
        Path | None,
        typer.Option(help="With --promised: how many answers are those of a recording that the file was searched on."),
    ] = None,
    url: Url = None,
) -> None:
    """HumanEval through a running server, checked with HumanEval's own tests."""
    everything = list(humaneval().values())
    first, last = _range(tasks, len(everything))
    settings = read_settings(url)
    file = load_plans(promised) if promised else None
    promise = promise_of(file, plan) if file else None

    async def ask() -> int:
        async with CascadeClient.from_settings(settings) as client:
            results = await evaluate(client, everything[first : last + 1], plan, seed, settings.timeout_s)
        print_results(results)
        if file and recording:
            await _print_recorded(results, file.choose(plan), recording, seed)
        return sum(result.passed for result in results)

    passed = asyncio.run(ask())
    if passed < at_least:
        _fail(f"{passed} tasks passed, at least {at_least} were demanded")
    if promise:
        seen = wilson(passed, last + 1 - first)
        print(comparison(promise, seen))
        if not seen.overlaps(promise):
            _fail("the plan file promises something else")


async def _print_recorded(results: Sequence[Result], plan: Plan, path: Path, seed: int) -> None:
    from codecascade_client.recording.store import open_recording  # needs the extra `offline`

    folder = open_recording(path)
    same = await as_recorded(results, plan, folder.load(), run=seed - folder.manifest.settings["seed"])
    print(f"as recorded (tier, tokens, tests): {same} of {len(results)}")


if find_spec("pyarrow"):  # the extra `offline`
    from codecascade_client.cli import offline as commands

    app.command()(commands.record)
    app.command()(commands.verdicts)
    app.command()(commands.import_published)
    app.command()(commands.replay)
    app.command()(commands.search)
    app.command()(commands.report)
    app.command()(commands.bench)
    app.command()(commands.price)


def main() -> None:
    try:
        app()
    except RequestFailed as error:
        _fail(f"{error.sentence} ({error.code.name})")
    except (CascadeError, OSError) as error:
        _fail(str(error), code=2 if isinstance(error, (InvalidSetting, DatasetError)) else 1)


def _prompt(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        _fail(f"the prompt file {path} cannot be read: {error.strerror}", code=2)
    except UnicodeDecodeError as error:
        _fail(f"the prompt file {path} is not UTF-8 (at byte {error.start})", code=2)
    if not text.strip():
        _fail(f"the prompt file {path} is empty", code=2)
    return text


def _range(tasks: str, count: int) -> tuple[int, int]:
    first, dash, last = tasks.partition("-")
    try:
        low, high = int(first), int(last if dash else first)
    except ValueError:
        raise typer.BadParameter(f"--tasks is {tasks!r}, it must be A-B") from None
    if not 0 <= low <= high < count:
        raise typer.BadParameter(f"--tasks is {tasks!r}, the tasks are 0-{count - 1}")
    return low, high


def _fail(sentence: str, code: int = 1) -> NoReturn:
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(code)
