"""The sandbox's interface for the cascade and the offline tools: candidates and lines in, verdicts out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from codecascade.errors import InvalidRequest, Overloaded, SandboxUnavailable
from codecascade.sandbox.limits import Limits
from codecascade.sandbox.lines import INVALID, TICK, Line, parse_lines
from codecascade.sandbox.modules import locate
from codecascade.sandbox.probes import LEVELS, probe_level
from codecascade.sandbox.reports import Report
from codecascade.sandbox.values import NotAValue
from codecascade.sandbox.worker import Worker, ZygoteDied, ZygoteGone, ZygoteRefused
from codecascade.sandbox.zygote import protocol
from codecascade.types import MAX_TEST_LINES, Candidate, TestLine, Verdict, VerdictMatrix

MAX_SOURCE_BYTES = 64 << 10
MAX_CANDIDATES = 2_000
_CHUNK = 4  # candidates sent to a zygote at once; with more, one slow candidate delays too many others
_GRACE_S = 15.0

_VERDICTS = {
    protocol.OK: Verdict.PASS,
    protocol.ASSERTION: Verdict.FAIL,
    protocol.RAISED: Verdict.ERROR,
    protocol.TIMEOUT: Verdict.TIMEOUT,
    protocol.DIED: Verdict.ERROR,
    protocol.TAMPERED: Verdict.ERROR,
}


@dataclass(frozen=True, slots=True)
class _Judged:
    verdicts: list[Verdict]
    module: Verdict
    cpu_s: float
    ending: str


@dataclass
class Stats:
    """Totals since the pool was made."""

    runs: int = 0
    """Candidates judged."""
    cpu_s: float = 0.0
    queue_s: float = 0.0
    """Wall time that the candidates waited for a worker."""
    zygotes_started: int = 0


class SandboxPool:
    """`workers` zygotes that judge generated programs at one isolation level. An async context manager."""

    def __init__(
        self,
        workers: int,
        level: str = "auto",  # namespaces, landlock or sealed; auto takes the first of them that this machine supports
        limits: Limits | None = None,
        *,
        blind: bool = True,  # compare values here where a line allows it; False runs every line whole (tick mode)
        queue: int = 10_000,  # candidates that may wait; more raise Overloaded
        modules: Sequence[str] = (),  # packages that programs may import, besides the standard library
    ) -> None:
        if workers < 1:
            raise InvalidRequest(f"workers is {workers}, must be 1 or more")
        if level != "auto" and level not in LEVELS:
            raise InvalidRequest(f"level is {level!r}, allowed are auto, {', '.join(LEVELS)}")
        self.level = level
        self.limits = limits or Limits()
        self.stats = Stats()
        self._packages = locate(modules)
        self._blind = blind
        self._queue = queue
        self._waiting = 0
        self._state = "not started"  # started, closed
        self._workers: set[Worker] = set()  # those that run; one that died is missing until another has taken its place
        self._size = workers
        self._idle: asyncio.Queue[Worker] = asyncio.Queue()

    async def __aenter__(self) -> SandboxPool:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Start the workers. Raises SandboxUnavailable with one sentence for each level that was tried."""
        refusals = []
        for level in LEVELS if self.level == "auto" else (self.level,):
            report = await probe_level(level, self.limits)
            if report.available:
                await self._start_workers(level)
                return
            refusals.append(f"{report}.")
        raise SandboxUnavailable("the sandbox is not available on this machine. " + " ".join(refusals))

    async def _start_workers(self, level: str) -> None:
        try:
            workers = await asyncio.gather(*(Worker.start(level, self.limits, self._packages) for _ in range(self._size)))
        except (ZygoteRefused, ZygoteDied) as error:
            raise SandboxUnavailable(f"the sandbox could not start {self._size} workers at level {level}: {error}") from error
        self.level = level
        self._state = "started"
        self._workers = set(workers)
        self.stats.zygotes_started += self._size
        for worker in workers:
            self._idle.put_nowait(worker)

    async def close(self) -> None:
        self._state = "closed"
        for worker in self._workers:
            worker.kill()
        self._workers = set()

    async def run(self, candidates: Sequence[Candidate], test_lines: Sequence[TestLine]) -> VerdictMatrix:
        """(candidates, lines) verdicts. A line that is not one assert statement is an ERROR for every candidate.

        Equal candidates and equal lines run once; the copies have cpu_s 0. Raises InvalidRequest for more than 2,000
        of either, Overloaded if the queue is full, SandboxUnavailable if a sandbox process died twice on the same candidates.
        """
        _at_most("candidates", len(candidates), MAX_CANDIDATES)
        _at_most("test lines", len(test_lines), MAX_TEST_LINES)
        lines = parse_lines([line.source.strip() for line in test_lines], self._blind)
        unique_lines = _unique(lines)
        sources = list(dict.fromkeys(candidate.source for candidate in candidates))
        runnable = [source for source in sources if _problem(source) is None] if unique_lines else []
        judged = dict(zip(runnable, await self._judge(runnable, unique_lines, self.limits), strict=True))
        return _matrix(candidates, lines, unique_lines, judged)

    async def run_program(self, source: str, timeout_s: float = 3.0) -> Verdict:
        """One verdict for a whole program: PASS if it runs to its end, FAIL if an assertion fails anywhere in it.

        timeout_s: CPU seconds. A source that is not text or has more than 64 KiB is an ERROR. Raises SandboxUnavailable,
        and InvalidRequest for a timeout that cannot be set.
        """
        if _problem(source) is not None:
            return Verdict.ERROR
        limits = replace(self.limits, line_s=timeout_s, cpu_s=timeout_s)
        return (await self._judge([source], [], limits))[0].module

    async def _judge(self, sources: list[str], lines: list[Line], limits: Limits) -> list[_Judged]:
        self._check_started()
        if self._waiting + len(sources) > self._queue:
            raise Overloaded(
                f"the sandbox queue is full: {self._waiting} candidates wait and {len(sources)} came, "
                f"must be {self._queue} or fewer together",
                retry_after_s=max(1.0, self._waiting * self.stats.cpu_s / max(1, self.stats.runs) / self._size),
            )
        size = max(1, min(_CHUNK, -(-len(sources) // self._size)))
        chunks = [sources[start : start + size] for start in range(0, len(sources), size)]
        self._waiting += len(sources)
        try:
            if len(chunks) == 1:
                return await self._judge_chunk(sources, lines, limits)
            parts = await _all_or_none([self._judge_chunk(chunk, lines, limits) for chunk in chunks])
            return [judged for part in parts for judged in part]
        finally:
            self._waiting -= len(sources)

    async def _judge_chunk(self, sources: list[str], lines: list[Line], limits: Limits) -> list[_Judged]:
        job = {
            "sources": sources,
            "lines": [[line.how, line.sent] for line in lines],
            "line_s": limits.line_s,
            "cpu_s": limits.cpu_s,
            "wall_stretch": limits.wall_stretch,
        }
        seconds = _GRACE_S + len(sources) * 2 * limits.cpu_s * limits.wall_stretch
        try:
            started = time.monotonic()
            reports = await self._run_on_idle(job, seconds)
        except (ZygoteDied, ZygoteRefused):
            try:  # what killed one zygote may have killed others, which is not noticed at once: only a newer one tells
                reports = await self._run_on_idle(job, seconds, newer_than=started)
            except ZygoteDied as error:
                raise SandboxUnavailable("a sandbox process died twice on the same candidates") from error
            except ZygoteRefused as error:
                raise SandboxUnavailable(f"a sandbox process that died could not be replaced: {error}") from error
        judged = [_judged(report, lines) for report in reports]
        self.stats.runs += len(judged)
        self.stats.cpu_s += sum(result.cpu_s for result in judged)
        return judged

    async def _run_on_idle(self, job: dict[str, Any], seconds: float, newer_than: float = 0.0) -> list[Report]:
        asked = time.monotonic()
        worker = await self._idle.get()
        self.stats.queue_s += (time.monotonic() - asked) * len(job["sources"])
        try:
            worker = await self._living(worker, newer_than)
            try:
                return await worker.run(job, seconds)
            except ZygoteGone:  # while it was idle
                worker = await self._living(worker)
                return await worker.run(job, seconds)
        finally:
            self._idle.put_nowait(worker)

    async def _living(self, worker: Worker, newer_than: float = 0.0) -> Worker:
        """The worker, or a new one if its zygote died or is older. Raises ZygoteDied, ZygoteRefused, SandboxUnavailable."""
        if worker.alive and worker.started > newer_than:
            return worker
        worker.kill()
        self._check_started()
        self._workers.discard(worker)
        replacement = await Worker.start(self.level, self.limits, self._packages)
        if self._state == "closed":  # meanwhile
            replacement.kill()
        self._check_started()
        self._workers.add(replacement)
        self.stats.zygotes_started += 1
        return replacement

    def _check_started(self) -> None:
        if self._state != "started":
            raise SandboxUnavailable(f"the sandbox is {self._state}")


async def _all_or_none(parts: list[Coroutine[Any, Any, list[_Judged]]]) -> list[list[_Judged]]:
    """Run all parts at once. If one fails or the caller is cancelled, cancel the others and wait for them."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _unique(lines: list[Line]) -> list[Line]:
    return [line for line in dict.fromkeys(lines) if line.mode != INVALID]


def _at_most(what: str, count: int, limit: int) -> None:
    if count > limit:
        raise InvalidRequest(f"{count} {what} are too many, must be {limit} or fewer")


def _problem(source: str) -> str | None:
    """Why a program is not run at all, which makes it an ERROR; None if it is run."""
    try:
        size = len(source.encode())
    except UnicodeEncodeError:
        return "the source is not text"
    return f"the source has {size} bytes, must have {MAX_SOURCE_BYTES} or fewer" if size > MAX_SOURCE_BYTES else None


def _judged(report: Report, lines: list[Line]) -> _Judged:
    verdicts = [_verdict(line, status, text) for line, (status, text) in zip(lines, report.lines, strict=True)]
    return _Judged(verdicts, _VERDICTS[report.module], report.cpu_s, report.ending)


def _verdict(line: Line, status: int, text: str) -> Verdict:
    if line.mode == TICK or status not in (protocol.OK, protocol.ASSERTION, protocol.VALUE, protocol.OPAQUE):
        return _VERDICTS.get(status, Verdict.ERROR)
    if status not in (protocol.VALUE, protocol.OPAQUE):
        return Verdict.ERROR  # for a blind line a child must send a value
    try:
        return Verdict.PASS if line.holds(text if status == protocol.VALUE else None) else Verdict.FAIL
    except (NotAValue, TypeError, ValueError, ArithmeticError):
        return Verdict.ERROR


def _matrix(
    candidates: Sequence[Candidate], lines: list[Line], unique_lines: list[Line], judged: dict[str, _Judged]
) -> VerdictMatrix:
    columns = {line: position for position, line in enumerate(unique_lines)}
    line_columns = [columns.get(line, -1) for line in lines]
    not_run = _Judged([], Verdict.ERROR, 0.0, "not run")
    rows, cpu_s, endings, seen = [], [], [], set()
    for candidate in candidates:
        result = judged.get(candidate.source, not_run)
        rows.append([result.verdicts[column] if column >= 0 and result.verdicts else Verdict.ERROR for column in line_columns])
        cpu_s.append(0.0 if candidate.source in seen else result.cpu_s)
        endings.append((_problem(candidate.source) or result.ending) if result is not_run else result.ending)
        seen.add(candidate.source)
    verdicts = np.array(rows, np.int8).reshape(len(candidates), len(lines))
    return VerdictMatrix(verdicts, np.array(cpu_s), tuple([line.mode for line in lines]), tuple(endings))
