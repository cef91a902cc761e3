"""Judges many candidates, some of them hostile, and measures what they leave behind."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from codecascade.sandbox import Limits, SandboxPool
from codecascade.types import Candidate, TestLine, Verdict

from tests.sandbox import forgery_cases, hostile_cases
from tests.sandbox.test_supervision import descendants

HOSTILE_SHARE = 0.05
MATRIX = 8  # candidates
PARALLEL = 4  # matrices
LINES = {"assert f(2) == 4": Verdict.PASS, "assert f(2) == 5": Verdict.FAIL, "assert f(1) + f(1) == f(2)": Verdict.PASS}
HOSTILE = [
    case
    for case in (*hostile_cases.PROCESSES, *hostile_cases.RESOURCES, *hostile_cases.CRASHES, *forgery_cases.FORGERIES)
    if "blind" in case.modes and case.name not in ("flood all descriptors", "close and go on", "exception that cannot be dropped")
]
ENDLESS = hostile_cases.TIME[1]


@dataclass(frozen=True)
class Usage:
    """What this process and its zygotes hold."""

    rss_kb: int
    zygotes_rss_kb: int
    processes: int
    descriptors: int
    files: int  # in the folder for temporary files

    @classmethod
    def now(cls) -> Usage:
        zygotes = descendants(os.getpid())
        return cls(
            rss_kb=_rss_kb(os.getpid()),
            zygotes_rss_kb=sum(_rss_kb(pid) for pid in zygotes),
            processes=len(zygotes),
            descriptors=sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in (*zygotes, os.getpid())),
            files=sum("codecascade" in name for name in os.listdir(tempfile.gettempdir())),
        )


@dataclass(frozen=True)
class Soaked:
    """What a soak found."""

    candidates: int
    wrong: tuple[str, ...]
    """Wrong verdicts, in words."""
    before: Usage
    """After the first twentieth of the candidates."""
    after: Usage
    zygotes: int
    """Started in all."""
    wall_s: float


async def soak(candidates: int, workers: int = 2, progress: Callable[[int], None] = lambda done: None) -> Soaked:
    wrong: list[str] = []
    before = None
    started = time.monotonic()
    async with SandboxPool(workers, limits=Limits(line_s=0.25, cpu_s=0.5)) as pool:
        chance = random.Random(7)
        for done in range(0, candidates, MATRIX * PARALLEL):
            if before is None and done >= candidates / 20:
                before = Usage.now()
            for wrong_verdicts in await asyncio.gather(*(_matrix(pool, chance, done + n) for n in range(PARALLEL))):
                wrong += wrong_verdicts
            progress(done)
        after = Usage.now()
        return Soaked(candidates, tuple(wrong), before or after, after, pool.stats.zygotes_started, time.monotonic() - started)


async def _matrix(pool: SandboxPool, chance: random.Random, number: int) -> list[str]:
    hostile = [_attack(chance) for _ in range(MATRIX) if chance.random() < HOSTILE_SHARE]
    good = [Candidate(f"def f(x):\n    return x * 2  # {number} {n}") for n in range(MATRIX - len(hostile))]
    runs = [pool.run(good, [TestLine(line) for line in LINES])]
    runs += [pool.run([Candidate(case.aimed({"nothing": 0}))], [TestLine(case.line)]) for case in hostile]
    judged, *attacks = await asyncio.gather(*runs)
    wrong = [f"a good candidate got {row}" for row in judged.verdicts.tolist() if row != list(LINES.values())]
    return wrong + [f"{case.name} passed" for case, matrix in zip(hostile, attacks, strict=True) if matrix.passed.any()]


def _attack(chance: random.Random) -> hostile_cases.Case:
    return ENDLESS if chance.random() < 0.02 else chance.choice(HOSTILE)


def _rss_kb(pid: int) -> int:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0])
