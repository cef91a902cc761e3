"""Reads answers of every kind and runs their programs: shows which kinds are read right, and that no published one is lost.

python -m tests.bench.check_reading [FOLDER]   FOLDER: the paper's published runs; left out if it is not there
exit 0: every answer of the corpus gives its value, and as many published programs pass HumanEval's tests as ever; 1: not

A published solution is a whole program, which an alpaca-style tier would have written. As a peer it runs in the same run as its
authors ran it, unread.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from codecascade.errors import CascadeError
from codecascade.sandbox import SandboxPool
from codecascade.texts.blocks import changed_names
from codecascade.texts.programs import candidate
from codecascade.texts.prompts import STYLES, solution_prompt
from codecascade.texts.syntax import tree
from codecascade.types import TestLine, Verdict
from codecascade_client.datasets.humaneval import TESTS_CPU_S, BenchmarkTask
from codecascade_client.datasets.load import HUMANEVAL, load_dataset
from codecascade_client.recording.published import read_draws, read_stages
from codecascade_client.recording.recording import GREEDY, StepOption, Unit
from codecascade_client.terminal import console, new_table
from rich.console import Console

from tests.bench.reading_corpus import Answer, answers

SAMPLED_RUN, SAMPLES = 0, 2  # besides the greedy run
# How many of these passed as read by commit 7a700b5, before answers were read by kinds (this program, that commit's texts/).
BEFORE_GREEDY, BEFORE = 319, 900
UNREAD = '__name__ = "__main__"\n'
AT_ONCE = 64


@dataclass(frozen=True)
class Read:
    """What became of an answer."""

    answer: Answer
    program: bool
    """Whether it parses and defines the function."""
    right: bool
    seconds: float


@dataclass(frozen=True)
class Published:
    """A published solution, unread and read."""

    unit: Unit
    sample: int
    unread: bool
    read: bool
    seconds: float

    def __str__(self) -> str:
        run = "greedy" if self.unit.run == GREEDY else f"run {self.unit.run}, sample {self.sample}"
        return f"{self.unit.tier} {self.unit.task}, {run}"


async def check(folder: Path | None) -> int:
    out = console(sys.stdout)
    async with SandboxPool(len(os.sched_getaffinity(0))) as pool:
        wrong = _show_corpus(await asyncio.gather(*(_read(answer, pool) for answer in answers())), out)
        if folder is None:
            out.print("The published runs are not here (TRACES=folder): their programs were not checked.")
            return 1 if wrong else 0
        lost = _show_published(await _published(folder, pool), folder, out)
    return 1 if wrong or lost else 0


async def _read(answer: Answer, pool: SandboxPool) -> Read:
    start = time.process_time()
    program = answer.read()
    seconds = time.process_time() - start
    module = tree(program.source)
    names = {name for node in (module.body if module else []) for name in changed_names(node)}
    matrix = await pool.run([program], [TestLine(f"assert {answer.call} == {answer.value}")])
    return Read(answer, module is not None and answer.task.entry_point in names, bool(matrix.passed.all()), seconds)


def _show_corpus(read: Sequence[Read], out: Console) -> int:
    """Print the table and every answer that is read wrong. Returns how many."""
    table = new_table("kind", right=("answers", "program", "right value", *STYLES))
    for kind in dict.fromkeys(result.answer.kind for result in read):
        own = [result for result in read if result.answer.kind == kind]
        by_style = [[result.right for result in own if result.answer.style == style] for style in STYLES]
        table.add_row(
            kind,
            str(len(own)),
            _share([result.program for result in own]),
            _share([result.right for result in own]),
            *(f"{sum(right)}/{len(right)}" for right in by_style),
        )
    out.print(table)
    wrong = [result for result in read if not result.right]
    for result in wrong:
        out.print(f"wrong: {result.answer}")
    out.print(f"{len(read) - len(wrong)} of {len(read)} answers give the right value; {_times([r.seconds for r in read])}.")
    return len(wrong)


async def _published(folder: Path, pool: SandboxPool) -> list[Published]:
    """Every greedy solution and the first ones of a sampled run."""
    dataset = load_dataset(HUMANEVAL)
    at_once = asyncio.Semaphore(AT_ONCE)

    judged_before: dict[str, bool] = {}

    async def passes(task: BenchmarkTask, program: str) -> bool:
        key = task.check_program(program)
        if key not in judged_before:
            judged_before[key] = await pool.run_program(key, timeout_s=TESTS_CPU_S) == Verdict.PASS
        return judged_before[key]

    async def judged(unit: Unit, index: int, text: str) -> Published:
        task = dataset.task(unit.task)
        start = time.process_time()
        program = candidate(task, solution_prompt("alpaca", task), text).source
        seconds = time.process_time() - start
        async with at_once:
            unread = await passes(dataset.tasks[unit.task], UNREAD + text)
            read = await passes(dataset.tasks[unit.task], program)
        return Published(unit, index, unread, read, seconds)

    draws = read_draws(folder / "samples.jsonl.gz").items()
    wanted = [(unit, draw) for unit, draw in draws if unit.run in (GREEDY, SAMPLED_RUN)]
    return await asyncio.gather(
        *(judged(unit, index, sample.text) for unit, draw in wanted for index, sample in enumerate(draw.solutions[:SAMPLES]))
    )


def _show_published(published: Sequence[Published], folder: Path, out: Console) -> int:
    """Print how many programs pass, and which pass unread alone. Returns how many are lost."""
    stages = read_stages(folder / "stages.csv.gz")
    greedy = [result for result in published if result.unit.run == GREEDY]
    authors = sum(stages[result.unit, StepOption(result.unit.tier, 0, 0)].correct for result in greedy)
    passed = sum(result.read for result in published)
    table = new_table("published solutions that pass HumanEval's tests", right=("greedy", "greedy and two samples"))
    table.add_row("of", str(len(greedy)), str(len(published)))
    table.add_row("as published by the authors", str(authors), "")
    table.add_row("as the authors ran them, here", *_both(greedy, published, lambda result: result.unread))
    table.add_row("as read before (commit 7a700b5)", str(BEFORE_GREEDY), str(BEFORE))
    table.add_row("as read now", *_both(greedy, published, lambda result: result.read))
    out.print(table)
    for result in published:
        if result.unread != result.read:
            out.print(f"{'lost' if result.unread else 'won'} by reading: {result}")
    out.print(f"Reading a published solution: {_times([result.seconds for result in published])}.")
    return max(0, BEFORE - passed, BEFORE_GREEDY - sum(result.read for result in greedy))


def _both(greedy: Sequence[Published], published: Sequence[Published], passed: Callable[[Published], bool]) -> tuple[str, str]:
    return str(sum(map(passed, greedy))), str(sum(map(passed, published)))


def _share(flags: Sequence[bool]) -> str:
    return f"{sum(flags) / len(flags):.0%}"


def _times(seconds: Sequence[float]) -> str:
    return f"{1e3 * np.mean(seconds):.2f} ms of CPU time an answer, 99 % below {1e3 * np.percentile(seconds, 99):.1f} ms"


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 and Path(sys.argv[1]).is_dir() else None
    try:
        return asyncio.run(check(folder))
    except CascadeError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
