"""Verdicts: run a recording's solutions against its test lines, the tests of its tasks' prompts, and the benchmark's own."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import TypeVar

import numpy as np
from codecascade.evidence import doubtful_lines, evidence_in, stubs
from codecascade.sandbox import SandboxPool
from codecascade.texts.examples import prompt_examples
from codecascade.texts.programs import candidate
from codecascade.texts.prompts import solution_prompt, tests_prompt
from codecascade.texts.test_lines import extract_test_lines, published_test_lines
from codecascade.types import Candidate, Task, TestLine, Verdict

from codecascade_client.datasets.humaneval import TESTS_CPU_S
from codecascade_client.datasets.load import Dataset
from codecascade_client.errors import RecordingError
from codecascade_client.recording.recording import Draw, Judged, JudgedGiven, Unit, sources_sha256
from codecascade_client.recording.store import RecordingFolder, Truth

BATCH = 32  # units judged between two writes

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PooledTests:
    """The test lines of one draw."""

    lines: tuple[TestLine, ...]
    samples: tuple[int, ...]  # (lines,) the sample that a line comes from
    numbers: tuple[int, ...]  # (lines,) the line of that sample, from 1, on which it ends

    @classmethod
    def of(cls, rows: Iterable[tuple[TestLine, int, int]]) -> PooledTests:
        """rows: line, sample, number."""
        columns = tuple(zip(*rows, strict=True))
        return cls(*columns) if columns else cls((), (), ())

    def only(self, kept: Collection[TestLine]) -> PooledTests:
        rows = zip(self.lines, self.samples, self.numbers, strict=True)
        return self.of(row for row in rows if row[0] in kept)


@dataclass(frozen=True, slots=True)
class Sources:
    """The programs and test lines that a unit's texts hold."""

    task: Task
    programs: tuple[Candidate, ...]
    tests: Mapping[int, PooledTests]  # by the number of lines asked for
    published: bool = False  # every line counts, as for the paper's authors, whether it can fail or not

    def sha256(self, asked_lines: int) -> str:
        """A hash of all that runs for one pool: the programs, the test lines, and the stubs if a line needs them."""
        lines = self.tests[asked_lines].lines
        tried = stubs(self.task) if not self.published and doubtful_lines(self.task, lines) else ()
        return sources_sha256([*(program.source for program in (*self.programs, *tried)), *(line.source for line in lines)])

    @property
    def programs_sha256(self) -> str:
        """A hash of the programs, and of which of them are none or were ended by the token limit."""
        marks = [f"program {index} is cut" for index, program in enumerate(self.programs) if program.cut]
        marks += [f"program {index} is broken" for index, program in enumerate(self.programs) if program.problem]
        return sources_sha256([*(program.source for program in self.programs), *marks])

    @property
    def given(self) -> tuple[TestLine, ...]:
        """The tests that come with the task."""
        return prompt_examples(self.task)

    @property
    def given_sha256(self) -> str:
        """A hash of the programs and of the tests that come with the task."""
        return sources_sha256([*(program.source for program in self.programs), *(line.source for line in self.given)])


class Against(Enum):
    """What solutions are run against."""

    OWN_TESTS = auto()  # of the recording's test samples
    GIVEN_TESTS = auto()  # that come with the task
    BENCHMARK = auto()


@dataclass(frozen=True, slots=True)
class Unjudged:
    """What is left to do for a unit."""

    sources: Sources
    against: frozenset[Against]


def unjudged(folder: RecordingFolder, dataset: Dataset) -> dict[Unit, Unjudged]:
    """The units that lack verdicts, or whose verdicts are of other programs or lines than extraction gives now.

    Raises RecordingError if the recording is of another dataset.
    """
    recorded = folder.manifest.dataset
    if recorded["sha256"] != dataset.sha256:
        raise RecordingError(
            f"recording {folder.path} is of another dataset: {recorded['name']!r} with SHA-256 {recorded['sha256'][:12]}…, "
            f"not {dataset.name!r} with {dataset.sha256[:12]}…"
        )
    judged, truth, given = folder.judged(), folder.truth(), folder.given()
    missing = {}
    for unit, draw in folder.draws().items():
        style = folder.manifest.tiers[unit.tier]["style"]
        sources = extract(draw, dataset.task(unit.task), style, published=folder.manifest.published)
        hashes = {
            Against.OWN_TESTS: (
                [judged[unit, lines].sources_sha256 if (unit, lines) in judged else None for lines in sources.tests],
                [sources.sha256(lines) for lines in sources.tests],
            ),
            Against.GIVEN_TESTS: (given[unit].sources_sha256 if unit in given else None, sources.given_sha256),
            Against.BENCHMARK: (truth[unit].sources_sha256 if unit in truth else None, sources.programs_sha256),
        }
        if stale := frozenset(against for against, (stored, current) in hashes.items() if stored != current):
            missing[unit] = Unjudged(sources, stale)
    return missing


def extract(draw: Draw, task: Task, style: str, *, published: bool = False) -> Sources:
    """The programs and test lines that a live cascade would take from the texts.

    published: take test lines as the paper's authors did.
    """
    prompt = solution_prompt(style, task)
    programs = tuple(candidate(task, prompt, sample.text, cut=sample.finish_reason == "length") for sample in draw.solutions)
    tests = {}
    for asked, samples in draw.tests.items():
        prompt_for_tests = tests_prompt(style, task, asked)
        pooled = []
        for index, sample in enumerate(samples):
            if published:
                lines = published_test_lines(prompt_for_tests, sample.text, asked)
            else:
                lines = extract_test_lines(task, prompt_for_tests, sample.text, asked, cut=sample.finish_reason == "length")
            pooled += [(line, index, number) for number, line in lines.items()]
        tests[asked] = PooledTests.of(pooled)
    return Sources(task, programs, tests, published)


async def judge(
    folder: RecordingFolder, dataset: Dataset, units: Mapping[Unit, Unjudged], pool: SandboxPool, on_units: Callable[[int], None]
) -> None:
    """Judge the units and store them batch by batch. Raises SandboxUnavailable, RecordingError; stored batches are kept."""
    for batch in _batches(units.items()):
        own, given, truth = await asyncio.gather(  # together: one program that never ends holds up the others only once
            _ran(batch, Against.OWN_TESTS, lambda _, sources: _judge(sources, pool)),
            _ran(batch, Against.GIVEN_TESTS, lambda _, sources: _judge_given(sources, pool)),
            _ran(batch, Against.BENCHMARK, lambda unit, sources: _truth(unit, sources, dataset, pool)),
        )
        folder.add_judged({(unit, asked): judgement for unit, by_asked in own.items() for asked, judgement in by_asked.items()})
        folder.add_given(given)
        folder.add_truth(truth)
        on_units(len(batch))


async def _ran(
    batch: Sequence[tuple[Unit, Unjudged]], against: Against, run: Callable[[Unit, Sources], Awaitable[T]]
) -> dict[Unit, T]:
    """What `run` gives for the units that lack it."""
    chosen = {unit: left.sources for unit, left in batch if against in left.against}
    return dict(zip(chosen, await asyncio.gather(*(run(unit, sources) for unit, sources in chosen.items())), strict=True))


async def _judge(sources: Sources, pool: SandboxPool) -> dict[int, Judged]:
    return {asked: await _judge_pooled(sources, asked, pool) for asked in sources.tests}


async def _judge_pooled(sources: Sources, asked: int, pool: SandboxPool) -> Judged:
    """The seconds that it took to tell which lines are evidence count for the first program, which every plan asks for."""
    tests, spent_s = await _evidence(sources, asked, pool)
    matrix = await pool.run(sources.programs, tests.lines)
    return Judged(
        matrix=replace(matrix, cpu_s=matrix.cpu_s + spent_s * (np.arange(len(matrix.cpu_s)) == 0)),
        lines=tuple(line.source for line in tests.lines),
        line_samples=tests.samples,
        line_numbers=tests.numbers,
        sources_sha256=sources.sha256(asked),
    )


async def _judge_given(sources: Sources, pool: SandboxPool) -> JudgedGiven:
    """A copy of an earlier program counts its seconds again: a plan that draws both runs both."""
    matrix = await pool.run(sources.programs, sources.given)
    texts = [program.source for program in sources.programs]
    first = [texts.index(text) for text in texts]
    return JudgedGiven(
        replace(matrix, cpu_s=matrix.cpu_s[first]), tuple(line.source for line in sources.given), sources.given_sha256
    )


async def _evidence(sources: Sources, asked: int, pool: SandboxPool) -> tuple[PooledTests, float]:
    tests = sources.tests[asked]
    if sources.published:
        return tests, 0.0
    lines, spent_s = await evidence_in(sources.task, tests.lines, pool)
    return tests.only(set(lines)), spent_s


async def _truth(unit: Unit, sources: Sources, dataset: Dataset, pool: SandboxPool) -> Truth:
    benchmark = dataset.tasks[unit.task]
    programs = list(dict.fromkeys(benchmark.check_program(program.source) for program in sources.programs))
    ran = await asyncio.gather(*(pool.run_program(program, timeout_s=TESTS_CPU_S) for program in programs))
    verdict_of: dict[str, Verdict] = dict(zip(programs, ran, strict=True))
    verdicts = [verdict_of[benchmark.check_program(program.source)] for program in sources.programs]
    cut = tuple(program.cut for program in sources.programs)
    broken = tuple(program.problem is not None for program in sources.programs)
    return Truth(np.array(verdicts, np.int8), sources.programs_sha256, cut, broken)


def _batches(items: Iterable[T]) -> Iterator[Sequence[T]]:
    waiting = iter(items)
    while batch := list(itertools.islice(waiting, BATCH)):
        yield batch
