"""Failures that are not a candidate's: zygotes die, hang or talk nonsense, runs are cancelled. Nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from codecascade.errors import Overloaded, SandboxUnavailable
from codecascade.sandbox import Limits, SandboxPool
from codecascade.sandbox.worker import Worker, ZygoteDied
from codecascade.types import Candidate, TestLine, Verdict
from codecascade_build.paths import ROOT

ENDLESS = Candidate("def f(x):\n    while True:\n        pass")
GOOD = Candidate("def f(x):\n    return x")
LINE = TestLine("assert f(1) == 1")
LIMITS = Limits(line_s=0.5, cpu_s=1)
JOB = {"sources": ["x = 1"], "lines": [], "line_s": 1, "cpu_s": 1, "wall_stretch": 4}
PATIENT = Limits(line_s=60, cpu_s=60)


def descendants(pid: int) -> set[int]:
    return children(pid).union(*(descendants(child) for child in children(pid)))


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - other processes set no events
        await asyncio.sleep(0.01)


def children(pid: int) -> set[int]:
    return {child for task in Path(f"/proc/{pid}/task").glob("*/children") for child in map(int, task.read_text().split())}


async def running_candidate() -> int:
    """The pid of the zygote that runs a candidate. For pools of the level `sealed`, where a zygote is one process."""

    def busy() -> list[int]:
        return [zygote for zygote in children(os.getpid()) if children(zygote)]

    await until(busy)
    return busy()[0]


async def kill_busy_zygote() -> None:
    os.kill(await running_candidate(), signal.SIGKILL)


def output_of(script: str) -> str:
    return subprocess.run([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout


def process_that_prints(text: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["printf", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


async def test_a_killed_zygote_is_replaced_and_its_candidate_judged_anew() -> None:
    async with SandboxPool(1, "sealed", limits=LIMITS) as pool:
        matrix, _ = await asyncio.gather(pool.run([GOOD, ENDLESS, GOOD], [LINE]), kill_busy_zygote())
        assert matrix.verdicts.ravel().tolist() == [Verdict.PASS, Verdict.TIMEOUT, Verdict.PASS]
        assert pool.stats.zygotes_started == 2


async def test_a_candidate_on_which_two_zygotes_die_has_no_verdict() -> None:
    async with SandboxPool(1, "sealed", limits=PATIENT) as pool:
        run = asyncio.ensure_future(pool.run([ENDLESS], [LINE]))
        await kill_busy_zygote()
        await until(lambda: pool.stats.zygotes_started == 2)
        await kill_busy_zygote()
        with pytest.raises(SandboxUnavailable, match="died twice on the same candidates"):
            await run
        assert (await pool.run([GOOD], [LINE])).passed.all()


@pytest.mark.parametrize(("workers", "requests"), [(1, 1), (2, 1), (1, 8), (3, 8)])
async def test_requests_wait_while_zygotes_that_died_are_replaced(workers: int, requests: int) -> None:
    async with SandboxPool(workers, "sealed", limits=LIMITS) as pool:
        for zygote in children(os.getpid()):
            os.kill(zygote, signal.SIGKILL)
        runs = [
            pool.run([Candidate(f"def f(x):\n    return x + {n}")], [TestLine(f"assert f(0) == {n}")]) for n in range(requests)
        ]
        assert all(matrix.passed.all() for matrix in await asyncio.gather(*runs))
        assert pool.stats.zygotes_started <= 2 * workers


async def test_a_request_that_comes_while_the_only_zygote_is_replaced_waits_too() -> None:
    async with SandboxPool(1, "sealed", limits=LIMITS) as pool:
        first = asyncio.ensure_future(pool.run([ENDLESS], [LINE]))
        await kill_busy_zygote()
        (dead,) = children(os.getpid())
        await until(lambda: children(os.getpid()) not in (set(), {dead}))  # its replacement starts
        assert (await pool.run([GOOD], [LINE])).passed.all()
        assert Verdict((await first).verdicts[0, 0]) is Verdict.TIMEOUT


async def test_a_pool_that_is_closed_while_a_zygote_is_replaced_leaves_no_process() -> None:
    before = descendants(os.getpid())
    pool = SandboxPool(1, "sealed", limits=LIMITS)
    await pool.start()
    (zygote,) = children(os.getpid()) - before
    os.kill(zygote, signal.SIGKILL)
    run = asyncio.ensure_future(pool.run([GOOD], [LINE]))
    await until(lambda: children(os.getpid()) - before not in (set(), {zygote}))
    await pool.close()
    with pytest.raises(SandboxUnavailable, match="the sandbox is closed"):
        await run
    with pytest.raises(SandboxUnavailable, match="the sandbox is closed"):
        await pool.run([GOOD], [LINE])
    assert descendants(os.getpid()) == before


async def test_a_cancelled_run_ends_its_child_and_leaves_the_zygote() -> None:
    async with SandboxPool(1, "sealed", limits=PATIENT) as pool:
        zygotes = descendants(os.getpid())
        run = asyncio.ensure_future(pool.run([ENDLESS, ENDLESS], [LINE]))
        await running_candidate()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert descendants(os.getpid()) == zygotes
        assert (await pool.run([GOOD], [LINE])).passed.all()
        assert pool.stats.zygotes_started == 1


async def test_a_run_that_waits_can_be_cancelled_too() -> None:
    async with SandboxPool(1, "sealed", limits=PATIENT) as pool:
        runs = [asyncio.ensure_future(pool.run([ENDLESS], [LINE])) for _ in range(3)]
        await running_candidate()
        for run in reversed(runs):
            run.cancel()
        assert all(isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*runs, return_exceptions=True))
        assert (await pool.run([GOOD], [LINE])).passed.all()


async def test_a_full_queue_is_a_clear_error() -> None:
    async with SandboxPool(1, queue=2) as pool:
        distinct = [Candidate(f"def f(x):\n    return {n}") for n in range(3)]
        with pytest.raises(Overloaded, match="queue is full: 0 candidates wait and 3 came, must be 2 or fewer"):
            await pool.run(distinct, [LINE])
        assert (await pool.run(distinct[:2], [LINE])).verdicts.shape == (2, 1)


async def test_closing_ends_what_runs_without_a_verdict() -> None:
    pool = SandboxPool(1, "sealed", limits=PATIENT)
    before = descendants(os.getpid())
    await pool.start()
    run = asyncio.ensure_future(pool.run([ENDLESS], [LINE]))
    await running_candidate()
    await pool.close()
    with pytest.raises(SandboxUnavailable):
        await run
    assert descendants(os.getpid()) == before


async def test_a_pool_leaves_no_process_and_no_descriptor() -> None:
    processes, descriptors = descendants(os.getpid()), os.listdir("/proc/self/fd")
    async with SandboxPool(3, limits=LIMITS) as pool:
        await pool.run([GOOD, ENDLESS], [LINE])
    assert descendants(os.getpid()) == processes
    assert os.listdir("/proc/self/fd") == descriptors


async def test_zygotes_end_with_a_parent_that_is_killed() -> None:
    script = """
import asyncio, os, signal
from codecascade.sandbox import SandboxPool
from tests.sandbox.test_supervision import ENDLESS, LINE, PATIENT, descendants, running_candidate
async def main():
    async with SandboxPool(2, "sealed", limits=PATIENT) as pool:
        run = asyncio.ensure_future(pool.run([ENDLESS], [LINE]))
        await running_candidate()
        print(*descendants(os.getpid()), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    pids = output_of(script).split()
    assert len(pids) >= 3
    await until(lambda: not any(Path("/proc", pid).exists() for pid in pids))


async def test_a_zygote_that_hangs_is_killed() -> None:
    worker = await Worker.start("sealed", LIMITS)
    os.kill(worker.pid, signal.SIGSTOP)
    with pytest.raises(ZygoteDied):
        await worker.run(JOB, 0.2)
    assert not worker.alive


@pytest.mark.parametrize("bytes_sent", [r"nonsense", r"\002\000\000\000{{", r""])
async def test_a_zygote_that_sends_nonsense_is_killed(bytes_sent: str) -> None:
    worker = Worker(process_that_prints(bytes_sent))
    with pytest.raises(ZygoteDied):
        await worker.run(JOB, 60)
    assert not worker.alive


async def test_many_runs_share_the_workers() -> None:
    async with SandboxPool(2) as pool:
        matrices = await asyncio.gather(
            *(pool.run([Candidate(f"def f(x):\n    return {n}")], [TestLine(f"assert f(0) == {n}")]) for n in range(50))
        )
    assert all(matrix.passed.all() for matrix in matrices)
