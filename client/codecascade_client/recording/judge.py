"""Verdicts: run a recording's solutions against its test lines, the tests of its tasks' prompts, and the benchmark's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import groupby

import numpy as np
from codecascade.evidence import doubtful_lines, evidence_in, stubs
from codecascade.sandbox import SandboxPool
from codecascade.sandbox.limits import Limits
from codecascade.sandbox.pool import MAX_CANDIDATES
from codecascade.texts.examples import prompt_examples
from codecascade.texts.infills import asked_for
from codecascade.texts.programs import candidate
from codecascade.texts.prompts import tests_prompt
from codecascade.texts.test_lines import extract_test_lines, published_test_lines
from codecascade.types import Candidate, Task, TestLine, Verdict, VerdictMatrix

from codecascade_client.datasets.load import Dataset
from codecascade_client.errors import RecordingError
from codecascade_client.recording.recording import ORDINARY, Draw, Judged, JudgedGiven, JudgedWithin, Unit, sources_sha256
from codecascade_client.recording.store import RecordingFolder, Truth
from codecascade_client.together import together

BATCH = 32  # units judged between two writes, or all of a task
_BATCHES_AT_ONCE = 2  # so that a program that never ends does not leave the other cores without work
_PATIENCE = 40.0  # wall seconds per CPU second: a busy machine must not decide


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


def sandbox_limits(within: JudgedWithin) -> Limits:
    return Limits(line_s=within.line_cpu_s, cpu_s=within.solution_cpu_s, wall_stretch=_PATIENCE)


def unjudged(folder: RecordingFolder, dataset: Dataset, within: JudgedWithin = ORDINARY) -> dict[Unit, Unjudged]:
    """The units whose verdicts are missing, within other limits, or of other programs or lines than extraction gives now.

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
        tier = folder.manifest.tiers[unit.tier]
        task = dataset.task(unit.task)
        sources = extract(draw, task, tier["style"], tier.get("fim"), published=folder.manifest.published)
        stored = {
            Against.OWN_TESTS: [_marks(judged.get((unit, lines))) for lines in sources.tests],
            Against.GIVEN_TESTS: [_marks(given.get(unit))],
            Against.BENCHMARK: [_marks(truth.get(unit))],
        }
        current = {
            Against.OWN_TESTS: [sources.sha256(lines) for lines in sources.tests],
            Against.GIVEN_TESTS: [sources.given_sha256],
            Against.BENCHMARK: [sources.programs_sha256],
        }
        stale = {against for against in Against if stored[against] != [(sha256, within) for sha256 in current[against]]}
        if stale:
            missing[unit] = Unjudged(sources, frozenset(stale))
    return missing


def _marks(verdicts: Judged | JudgedGiven | Truth | None) -> tuple[str, JudgedWithin] | None:
    """What stored verdicts are of, and within which limits."""
    return None if verdicts is None else (verdicts.sources_sha256, verdicts.within)


def extract(draw: Draw, task: Task, style: str, fim: str | None = None, *, published: bool = False) -> Sources:
    """The programs and test lines that a live cascade would take from the texts.

    published: take test lines as the paper's authors did.
    """
    prompt = asked_for(style, fim, task)
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
    folder: RecordingFolder,
    dataset: Dataset,
    units: Mapping[Unit, Unjudged],
    pool: SandboxPool,
    on_units: Callable[[int], None],
    within: JudgedWithin = ORDINARY,
) -> None:
    """Judge the units and store them batch by batch. Equal programs of a task run once, except against their own unit's tests.

    pool: with the limits that are `sandbox_limits(within)`. Raises SandboxUnavailable, RecordingError; stored batches are kept.
    """
    waiting = _batches(units)

    async def work() -> None:
        for batch in waiting:
            own, given, truth = await asyncio.gather(
                _judge_own(_lacking(batch, Against.OWN_TESTS), pool, within),
                _judge_given(_lacking(batch, Against.GIVEN_TESTS), pool, within),
                _truth(_lacking(batch, Against.BENCHMARK), dataset, pool, within),
            )
            folder.add_judged(own)
            folder.add_given(given)
            folder.add_truth(truth)
            on_units(len(batch))

    await together(work() for _ in range(_BATCHES_AT_ONCE))


def _batches(units: Mapping[Unit, Unjudged]) -> Iterator[dict[Unit, Unjudged]]:
    """Whole tasks, until they are BATCH units."""
    batch: dict[Unit, Unjudged] = {}
    for _, of_task in groupby(sorted(units, key=lambda unit: unit.task), key=lambda unit: unit.task):
        batch |= {unit: units[unit] for unit in of_task}
        if len(batch) >= BATCH:
            yield batch
            batch = {}
    if batch:
        yield batch


def _lacking(batch: Mapping[Unit, Unjudged], against: Against) -> dict[Unit, Sources]:
    return {unit: left.sources for unit, left in batch.items() if against in left.against}


async def _judge_own(units: Mapping[Unit, Sources], pool: SandboxPool, within: JudgedWithin) -> dict[tuple[Unit, int], Judged]:
    pools = [(unit, asked) for unit, sources in units.items() for asked in sources.tests]
    judged = await asyncio.gather(*(_judge_pooled(units[unit], asked, pool, within) for unit, asked in pools))
    return dict(zip(pools, judged, strict=True))


async def _judge_pooled(sources: Sources, asked: int, pool: SandboxPool, within: JudgedWithin) -> Judged:
    """The seconds that it took to tell which lines are evidence count for the first program, which every plan asks for."""
    tests, spent_s = await _evidence(sources, asked, pool)
    matrix = await pool.run(sources.programs, tests.lines)
    return Judged(
        matrix=replace(matrix, cpu_s=matrix.cpu_s + spent_s * (np.arange(len(matrix.cpu_s)) == 0)),
        lines=tuple(line.source for line in tests.lines),
        line_samples=tests.samples,
        line_numbers=tests.numbers,
        sources_sha256=sources.sha256(asked),
        within=within,
    )


async def _evidence(sources: Sources, asked: int, pool: SandboxPool) -> tuple[PooledTests, float]:
    tests = sources.tests[asked]
    if sources.published:
        return tests, 0.0
    lines, spent_s = await evidence_in(sources.task, tests.lines, pool)
    return tests.only(set(lines)), spent_s


async def _judge_given(units: Mapping[Unit, Sources], pool: SandboxPool, within: JudgedWithin) -> dict[Unit, JudgedGiven]:
    """A copy of an earlier program counts its seconds again: a plan that draws both runs both."""
    programs: dict[Task, dict[str, Candidate]] = {}
    for sources in units.values():
        programs.setdefault(sources.task, {}).update((program.source, program) for program in sources.programs)
    ran = await asyncio.gather(*(_run_all(list(some.values()), prompt_examples(task), pool) for task, some in programs.items()))
    matrices = dict(zip(programs, ran, strict=True))
    judged = {}
    for unit, sources in units.items():
        places = {text: place for place, text in enumerate(programs[sources.task])}
        rows, matrix = [places[program.source] for program in sources.programs], matrices[sources.task]
        kept = VerdictMatrix(matrix.verdicts[rows], matrix.cpu_s[rows])
        judged[unit] = JudgedGiven(kept, tuple(line.source for line in sources.given), sources.given_sha256, within)
    return judged


async def _run_all(programs: Sequence[Candidate], lines: Sequence[TestLine], pool: SandboxPool) -> VerdictMatrix:
    """As the pool's `run`, for any number of programs."""
    starts = range(0, max(1, len(programs)), MAX_CANDIDATES)
    parts = await asyncio.gather(*(pool.run(programs[start : start + MAX_CANDIDATES], lines) for start in starts))
    return VerdictMatrix(np.concatenate([part.verdicts for part in parts]), np.concatenate([part.cpu_s for part in parts]))


async def _truth(units: Mapping[Unit, Sources], dataset: Dataset, pool: SandboxPool, within: JudgedWithin) -> dict[Unit, Truth]:
    checked = {
        unit: [dataset.tasks[unit.task].check_program(program.source) for program in sources.programs]
        for unit, sources in units.items()
    }
    programs = list(dict.fromkeys(program for of_unit in checked.values() for program in of_unit))
    ran = await asyncio.gather(*(pool.run_program(program, timeout_s=within.benchmark_cpu_s) for program in programs))
    verdict_of: dict[str, Verdict] = dict(zip(programs, ran, strict=True))
    return {
        unit: Truth(
            verdicts=np.array([verdict_of[program] for program in checked[unit]], np.int8),
            sources_sha256=sources.programs_sha256,
            cut=tuple(program.cut for program in sources.programs),
            broken=tuple(program.problem is not None for program in sources.programs),
            within=within,
        )
        for unit, sources in units.items()
    }
