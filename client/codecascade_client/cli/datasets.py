"""The commands `codecascade datasets …`. They need no server, and for JSON files no extra."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated

import typer
from codecascade.sandbox import SandboxPool
from codecascade.types import Verdict

from codecascade_client.datasets.check import judge_own, own_programs
from codecascade_client.datasets.load import Dataset, load_dataset
from codecascade_client.terminal import RunProgress

datasets = typer.Typer(help="Look at benchmark tasks.", no_args_is_help=True, rich_markup_mode=None)


@datasets.callback()
def _datasets() -> None:
    """Look at benchmark tasks."""


@datasets.command()
def check(
    dataset: Annotated[
        str,
        typer.Argument(
            help="humaneval, mbpp:PATH, apps:PATH, a JSON Lines file (task_id, prompt, entry_point, test), or infill:ANY.",
            show_default=False,
        ),
    ],
) -> None:
    """Run a dataset's own solutions against its own tests. Exit code 1 if one does not pass.

    Names the tasks that are left out, and those whose own solution does not pass: no answer to them can be judged.
    """
    loaded = load_dataset(dataset)
    programs = own_programs(loaded)

    async def run() -> dict[str, Verdict]:
        async with SandboxPool(workers=os.cpu_count() or 1) as pool:
            with RunProgress("checking", len(programs)) as progress:
                return await judge_own(programs, pool, progress.advance)

    verdicts = asyncio.run(run())
    wrong = {task_id: verdict for task_id, verdict in verdicts.items() if verdict is not Verdict.PASS}
    print(f"{loaded.name}: {len(loaded.tasks):,} tasks read, {len(loaded.left_out):,} left out")
    for name, why in loaded.left_out.items():
        print(f"  {name}: {why}")
    if cut := [task.tests_left_out for task in loaded.tasks.values() if task.tests_left_out]:
        print(f"tests left out, too large for a program in the sandbox: {sum(cut):,} (of {len(cut):,} tasks)")
    without = len(loaded.tasks) - len(verdicts)
    print(f"own solutions: {len(verdicts) - len(wrong):,} of {len(verdicts):,} pass; tasks without one: {without:,}")
    for task_id, verdict in wrong.items():
        print(f"  {task_id}: {verdict.name.lower()}")
    raise typer.Exit(1 if wrong else 0)


def print_left_out(dataset: Dataset) -> None:
    """Print one line on stderr if tasks are left out."""
    if sentence := dataset.left_out_sentence:
        print(sentence, file=sys.stderr)
