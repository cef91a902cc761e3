"""The command line. Results go to stdout, everything about them to stderr.

Exit codes: 0; 1 when the server refused or could not be reached (one sentence says why); 2 when the command itself is wrong,
or asks for answers that are not judged; 3 when `drift` sees drift.
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

from codecascade_client.answers import Completion
from codecascade_client.channel import DEFAULT_URL
from codecascade_client.cli.datasets import datasets
from codecascade_client.cli.doctor import examine
from codecascade_client.cli.drift import drift
from codecascade_client.cli.plan_gpus import run_planner
from codecascade_client.cli.tables import comparison, print_plans, print_results, print_trace
from codecascade_client.client import AsyncCascadeClient
from codecascade_client.datasets.humaneval import humaneval, humaneval_task
from codecascade_client.datasets.records import json_lines
from codecascade_client.errors import DatasetError, NotJudged, RequestFailed
from codecascade_client.estimate import wilson
from codecascade_client.live.evaluate import Result, evaluate, promise_of
from codecascade_client.settings import read_settings

STANDARD_INPUT = Path("-")

app = typer.Typer(
    help="Code completion that asks the smallest model first.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # the markup takes words in square brackets for styles and drops them
)

Url = Annotated[
    str | None, typer.Option(help=f"host:port of the server's gRPC service [env CODECASCADE_URL, default {DEFAULT_URL}].")
]
PlanName = Annotated[str | None, typer.Option(help="A plan's name; default: the server's default plan.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same answer.", min=0, max=2**64 - 1)]


@app.command()
def complete(
    prompt_file: Annotated[
        Path | None, typer.Option(help="A UTF-8 file with the code to complete; - reads standard input.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="A benchmark task instead: HumanEval/0 to HumanEval/163.")] = None,
    entry_point: Annotated[
        str | None, typer.Option(help="The function under test, a method as Stack.push; default: the one being written.")
    ] = None,
    cursor: Annotated[
        int | None, typer.Option(help="The byte of the prompt where the code is to go on; default: where it is incomplete.")
    ] = None,
    tests: Annotated[
        list[Path] | None, typer.Option(help="A file of asserts or a test program that the answer has to pass; more than once.")
    ] = None,
    cases: Annotated[
        Path | None,
        typer.Option(help='A JSON Lines file of what the program reads and has to print: {"input": "3 4\\n", "output": "7"}.'),
    ] = None,
    plan: PlanName = None,
    seed: Seed = 0,
    max_tokens: Annotated[int | None, typer.Option(help="Limit of one solution; default: the tier's own limit.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, with the trace.")] = False,
    url: Url = None,
) -> None:
    """Finish a prompt: code on stdout, a trace on stderr."""
    if (prompt_file is None) == (task is None):
        raise typer.BadParameter("exactly one of --prompt-file and --task is needed")
    if prompt_file is not None:
        prompt = _text_of(prompt_file, "prompt")
    else:
        benchmark = humaneval_task(str(task))
        prompt, entry_point = benchmark.prompt, entry_point or benchmark.entry_point
    settings = read_settings(url)

    async def ask() -> Completion:
        async with AsyncCascadeClient.from_settings(settings) as client:
            return await client.complete(
                prompt,
                timeout_s=settings.timeout_s,
                entry_point=entry_point,
                plan=plan,
                max_tokens=max_tokens,
                seed=seed,
                return_trace=True,
                cursor=cursor,
                tests=[_text_of(file, "test") for file in tests or ()],
                cases=_cases_of(cases) if cases else (),
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
    """List the plans of plan files."""
    chosen = files or sorted(Path("plans").glob("*.json"))
    if not chosen:
        raise typer.BadParameter("there is no plan file in plans/ here; name one")
    print_plans([(file, load_plans(file)) for file in chosen])


@app.command()
def doctor(url: Url = None) -> None:
    """Say what this machine can run and what is missing. Run it in a checkout. Exit code 0 if the CPU deployment can run."""
    raise typer.Exit(0 if asyncio.run(examine(read_settings(url), Path.cwd())) else 1)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    options_metavar="[OPTIONS: plan-gpus --help]",
)
def plan_gpus(context: typer.Context) -> None:
    """Tell which tiers fit on which GPUs. Run it in a checkout, before anything is built."""
    raise typer.Exit(run_planner(context.args, Path.cwd()))


@app.command("eval")
def eval_(
    tasks: Annotated[str, typer.Option(help="HumanEval's tasks from A to B, as A-B.", metavar="A-B")] = "0-163",
    plan: PlanName = None,
    seed: Seed = 0,
    at_least: Annotated[int, typer.Option(help="Exit with 1 if fewer tasks pass.", min=0)] = 0,
    promised: Annotated[
        Path | None,
        typer.Option(help="A searched plan file. Exit with 1 if its 95 % interval and the one measured do not overlap."),
    ] = None,
    recording: Annotated[
        Path | None,
        typer.Option(
            help="With --promised: the recording that the file was searched on. Count the answers that are as recorded."
        ),
    ] = None,
    url: Url = None,
) -> None:
    """Run HumanEval through a running server. Answers are checked with HumanEval's own tests."""
    everything = list(humaneval().values())
    first, last = _range(tasks, len(everything))
    settings = read_settings(url)
    file = load_plans(promised) if promised else None
    promise = promise_of(file, plan) if file else None

    async def ask() -> int:
        async with AsyncCascadeClient.from_settings(settings) as client:
            results = await evaluate(
                client, everything[first : last + 1], plan, seed, settings.timeout_s, on_result=_print_result
            )
        print_results(results)
        if file and recording:
            await _print_recorded(results, file.choose(plan), recording, seed)
        return sum(result.passed for result in results)

    passed = asyncio.run(ask())
    if passed < at_least:
        _fail(f"{passed} tasks passed, at least {at_least} were demanded")
    if promise:
        measured = wilson(passed, last + 1 - first)
        print(comparison(promise, measured))
        if not measured.overlaps(promise):
            _fail("the plan file promises something else")


def _print_result(result: Result) -> None:
    verdict = result.verdict.name.lower()
    print(f"{result.task_id}: {result.tier}, {verdict}, {result.latency_s:.1f} s", file=sys.stderr, flush=True)


async def _print_recorded(results: Sequence[Result], plan: Plan, path: Path, seed: int) -> None:
    """Count the answers that equal the recording's in tier, tokens and verdict. Raises RecordingError."""
    from codecascade_client.recording.store import open_recording  # needs the extra `offline`
    from codecascade_client.replay.cascade import replay

    folder = open_recording(path)
    recording = folder.load()
    same = 0
    for result in results:
        recorded = await replay(plan, recording, result.task_id, run=seed - folder.manifest.settings["seed"])
        tokens = recorded.answer.trace.as_dict()["cost"]["completion_tokens"]
        live = result.tier, result.trace["cost"]["completion_tokens"], result.passed
        same += (recorded.answer.tier, tokens, recorded.correct) == live
    print(f"as recorded (tier, tokens, tests): {same} of {len(results)}")


app.command()(drift)
app.add_typer(datasets, name="datasets")

if find_spec("fastapi"):  # the extra `gateway`
    from codecascade_client.cli.gateway import gateway

    app.command()(gateway)

if find_spec("pyarrow"):  # the extra `offline`
    from codecascade_client.cli import offline

    for offline_command in (
        offline.record,
        offline.verdicts,
        offline.evidence,
        offline.import_published,
        offline.replay,
        offline.search,
        offline.report,
        offline.bench,
        offline.price,
    ):
        app.command()(offline_command)


def main() -> None:
    try:
        app()
    except RequestFailed as error:
        _fail(f"{error.sentence} ({error.code.name})")
    except (CascadeError, OSError) as error:
        _fail(str(error), code=2 if isinstance(error, (InvalidSetting, DatasetError, NotJudged)) else 1)


def _text_of(path: Path, what: str) -> str:
    source = "standard input" if path == STANDARD_INPUT else f"the {what} file {path}"
    try:
        text = (sys.stdin.buffer.read() if path == STANDARD_INPUT else path.read_bytes()).decode("utf-8")
    except OSError as error:
        _fail(f"{source} cannot be read: {error.strerror}", code=2)
    except UnicodeDecodeError as error:
        _fail(f"{source} is not UTF-8 (at byte {error.start})", code=2)
    if not text.strip():
        _fail(f"{source} is empty", code=2)
    return text


def _cases_of(path: Path) -> list[dict[str, str]]:
    """The server says what is wrong with the form of one."""
    cases = []
    for number, line in json_lines(_text_of(path, "cases")):
        try:
            cases.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            _fail(f"line {number} of the cases file {path} is not JSON: {error}", code=2)
    return cases


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
