"""Judges the paper's published samples again and compares n_s and n_t of the best pair with the authors' own, row by row.

python -m tests.bench.check_published_verdicts FOLDER [EVERY]   k = 10, l = 4, all tiers and runs; EVERY: each n-th row only
exit 0: at least 99 % of the rows agree and every other one is explained; 1: not

The texts are used as the authors used them. A solution's text is the program and runs as the main module. The test lines are
those of a sample's first l lines that start with `assert`, whether they parse or not: this gives the published number of pairs in
every row.
"""

from __future__ import annotations

import ast
import asyncio
import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from codecascade.errors import CascadeError
from codecascade.sandbox import Limits, SandboxPool
from codecascade.scoring import score_candidates
from codecascade.texts.prompts import tests_prompt
from codecascade.texts.test_lines import published_test_lines
from codecascade.types import Candidate, Task, Verdict, VerdictMatrix
from codecascade_client.datasets.load import HUMANEVAL, load_dataset
from codecascade_client.recording.published import read_draws, read_stages
from codecascade_client.recording.recording import GREEDY, Draw, PublishedStep, StepOption, Unit
from rich.progress import Progress

K, LINES = 10, 4
WANTED = 0.99
BATCH = 64
AS_MAIN = '__name__ = "__main__"\n'
NOT_DETERMINED = {"random", "secrets", "time", "datetime", "uuid"}


@dataclass(frozen=True)
class Pair:
    n_s: int
    n_t: int
    pairs: int


@dataclass(frozen=True)
class Pools:
    usual: SandboxPool
    """As in a cascade."""
    tick: SandboxPool
    """Runs every line whole."""
    patient: SandboxPool
    """Limits each line but not the candidate, as in the paper."""


async def check(folder: Path, every: int) -> int:
    stages, draws, dataset = (
        read_stages(folder / "stages.csv.gz"),
        read_draws(folder / "samples.jsonl.gz"),
        load_dataset(HUMANEVAL),
    )
    rows = [(unit, stages[unit, option]) for unit in draws if unit.run != GREEDY for option in (StepOption(unit.tier, K, LINES),)]
    rows = rows[::every]
    explained: dict[str, list[str]] = {}
    workers = len(os.sched_getaffinity(0))
    async with (
        SandboxPool(workers) as usual,
        SandboxPool(workers, blind=False) as tick,
        SandboxPool(workers, limits=Limits(cpu_s=60)) as patient,
    ):
        pools = Pools(usual, tick, patient)
        with Progress(transient=True) as progress:
            for batch in progress.track([rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]):
                reasons = await asyncio.gather(
                    *(compare(unit, stage, draws[unit], dataset.tasks[unit.task].entry_point, pools) for unit, stage in batch)
                )
                for (unit, _), reason in zip(batch, reasons, strict=True):
                    if reason:
                        explained.setdefault(reason, []).append(f"{unit.tier} run {unit.run} {unit.task}")
    return report(len(rows), explained)


def report(rows: int, explained: dict[str, list[str]]) -> int:
    disagreeing = sum(map(len, explained.values()))
    share = 1 - disagreeing / rows
    print(f"{rows - disagreeing} of {rows} rows agree in n_s and n_t ({share:.2%})")
    for reason, places in sorted(explained.items(), key=lambda item: -len(item[1])):
        tasks = Counter(place.split()[-1] for place in places).most_common(4)
        print(f"{len(places):5}  {reason}: {', '.join(f'{task} × {count}' for task, count in tasks)}")
    return 0 if share >= WANTED and UNEXPLAINED not in explained else 1


UNEXPLAINED = "unexplained"


async def compare(unit: Unit, stage: PublishedStep, draw: Draw, entry_point: str, pools: Pools) -> str:
    """Why this row disagrees; empty if it does not."""
    published = Pair(stage.n_s, stage.n_t, stage.pairs)
    programs = [Candidate(AS_MAIN + sample.text) for sample in draw.solutions]
    prompt = tests_prompt("alpaca", Task("", entry_point), LINES)
    lines = [line for sample in draw.tests[LINES] for line in published_test_lines(prompt, sample.text, LINES).values()]
    matrix = await pools.usual.run(programs, lines)
    if best_pair(matrix) == published:
        return ""
    if published.pairs != matrix.verdicts.size:
        return "other number of pairs"
    if (matrix.verdicts == Verdict.TIMEOUT).any():
        return "" if best_pair(await pools.patient.run(programs, lines)) == published else "time limit"
    if best_pair(await pools.tick.run(programs, lines)) == published:
        return "value that cannot be shown to the parent"
    if not (matrix.verdicts == (await pools.usual.run(programs, lines)).verdicts).all():
        return "solution that is not deterministic"
    modules = set().union(*(imported(sample.text) for sample in draw.solutions))
    if modules & NOT_DETERMINED:
        return "solution that depends on time or chance"
    if foreign := modules - set(sys.stdlib_module_names):
        return f"module that is not in the standard library ({', '.join(sorted(foreign))})"
    here = best_pair(matrix)
    if published.n_s <= here.n_s and published.n_t <= here.n_t:
        return "fewer passes published than every run here gives (the authors' limit was wall time)"
    return UNEXPLAINED


def best_pair(matrix: VerdictMatrix) -> Pair:
    """n_s and n_t where the score is best (codecascade.scoring); 0 and 0 if nothing passes."""
    score, passed = score_candidates(matrix), matrix.passed
    if not score.agreement:
        return Pair(0, 0, passed.size)
    per_line = passed * np.outer(passed.sum(axis=1), passed.sum(axis=0))
    line = int(per_line[score.best].argmax())
    return Pair(int(passed[score.best].sum()), int(passed[:, line].sum()), passed.size)


def imported(text: str) -> set[str]:
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except SyntaxError:
        return set()
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {name.split(".")[0] for name in names}


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        return asyncio.run(check(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1))
    except CascadeError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
