"""Verdicts: run a recording's solutions against its test lines, and against the benchmark's own tests."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from codecascade.sandbox import SandboxPool
from codecascade.texts.extract import candidate, extract_test_lines
from codecascade.texts.prompts import solution_prompt, tests_prompt
from codecascade.types import Candidate, Task, TestLine, Verdict

from codecascade_client.datasets.humaneval import TESTS_CPU_S
from codecascade_client.datasets.load import Dataset
from codecascade_client.errors import RecordingError
from codecascade_client.recording.recording import Draw, Judged, Unit, sources_sha256
from codecascade_client.recording.store import RecordingFolder, Truth

BATCH = 32  # units judged between two writes

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pool:
    """The test lines of one draw: which sample each comes from, and its line there, from 1."""

    lines: tuple[TestLine, ...]
    samples: tuple[int, ...]
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sources:
    """What a unit's texts come to: programs, and by the number of lines asked for, the pooled test lines."""

    programs: tuple[Candidate, ...]
    tests: Mapping[int, Pool]

    def sha256(self, asked_lines: int) -> str:
        """Of the programs and one pool."""
        return sources_sha256(
            [program.source for program in self.programs] + [line.source for line in self.tests[asked_lines].lines]
        )

    @property
    def programs_sha256(self) -> str:
        return sources_sha256(program.source for program in self.programs)


def unjudged(folder: RecordingFolder, dataset: Dataset) -> dict[Unit, Sources]:
    """The units whose verdicts or truth are missing, or are of other programs than extraction now gives.

    Raises RecordingError if the recording is of another dataset.
    """
    recorded = folder.manifest.dataset
    if recorded["sha256"] != dataset.sha256:
        raise RecordingError(f"recording {folder.path} is of dataset {recorded['name']!r}, not of this {dataset.name!r}")
    judged, truth = folder.judged(), folder.truth()
    missing = {}
    for unit, draw in folder.draws().items():
        sources = extract(draw, dataset.task(unit.task), folder.manifest.tiers[unit.tier]["style"])
        hashes = [judged[unit, lines].sources_sha256 if (unit, lines) in judged else None for lines in sources.tests]
        current = truth[unit].sources_sha256 if unit in truth else None
        if current != sources.programs_sha256 or hashes != [sources.sha256(lines) for lines in sources.tests]:
            missing[unit] = sources
    return missing


def extract(draw: Draw, task: Task, style: str) -> Sources:
    """The programs and test lines that a live cascade would take from the texts."""
    prompt = solution_prompt(style, task)
    programs = tuple(candidate(task, prompt, sample.text) for sample in draw.solutions)
    tests = {}
    for asked, samples in draw.tests.items():
        about = tests_prompt(style, task, asked)
        found = [
            (line, index, number)
            for index, sample in enumerate(samples)
            for number, line in extract_test_lines(task, about, sample.text, asked, cut=sample.finish_reason == "length").items()
        ]
        lines, origins, numbers = zip(*found, strict=True) if found else ((), (), ())
        tests[asked] = Pool(lines, origins, numbers)
    return Sources(programs, tests)


async def judge(
    folder: RecordingFolder, dataset: Dataset, units: Mapping[Unit, Sources], pool: SandboxPool, on_units: Callable[[int], None]
) -> None:
    """Run everything and store it batch by batch. Raises SandboxUnavailable or RecordingError; stored batches are kept."""
    for batch in _batches(units):
        judged = await asyncio.gather(*(_judge(units[unit], pool) for unit in batch))
        truth = await asyncio.gather(*(_truth(unit, units[unit], dataset, pool) for unit in batch))
        folder.add_judged({(unit, lines): m for unit, found in zip(batch, judged, strict=True) for lines, m in found.items()})
        folder.add_truth(dict(zip(batch, truth, strict=True)))
        on_units(len(batch))


async def _judge(sources: Sources, pool: SandboxPool) -> dict[int, Judged]:
    return {
        asked: Judged(
            matrix=await pool.run(sources.programs, tests.lines),
            lines=tuple(line.source for line in tests.lines),
            line_samples=tests.samples,
            line_numbers=tests.numbers,
            sources_sha256=sources.sha256(asked),
        )
        for asked, tests in sources.tests.items()
    }


async def _truth(unit: Unit, sources: Sources, dataset: Dataset, pool: SandboxPool) -> Truth:
    benchmark = dataset.tasks[unit.task]
    programs = list(dict.fromkeys(benchmark.check_program(program.source) for program in sources.programs))
    found = await asyncio.gather(*(pool.run_program(program, timeout_s=TESTS_CPU_S) for program in programs))
    verdict: dict[str, Verdict] = dict(zip(programs, found, strict=True))
    verdicts = [verdict[benchmark.check_program(program.source)] for program in sources.programs]
    return Truth(np.array(verdicts, np.int8), sources.programs_sha256)


def _batches(items: Iterable[T]) -> Iterator[Sequence[T]]:
    waiting = iter(items)
    while batch := list(itertools.islice(waiting, BATCH)):
        yield batch
