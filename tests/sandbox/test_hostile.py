"""Hostile programs at every level that this machine supports, in both modes, each followed by a well-behaved one."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from codecascade.errors import SandboxUnavailable
from codecascade.sandbox import LEVELS, Limits, SandboxPool, probe_levels
from codecascade.sandbox.worker import Worker
from codecascade.sandbox.zygote import protocol
from codecascade.types import Candidate, TestLine, Verdict

from tests.sandbox import forgery_cases, hostile_cases
from tests.sandbox.hostile_cases import Case

pytestmark = pytest.mark.asyncio(loop_scope="module")

CASES = [
    *hostile_cases.NETWORK,
    *hostile_cases.FILES,
    *hostile_cases.PROCESSES,
    *hostile_cases.TIME,
    *hostile_cases.MEMORY,
    *hostile_cases.RESOURCES,
    *hostile_cases.CRASHES,
    *forgery_cases.FORGERIES,
]
LIMITS = Limits(line_s=0.2, cpu_s=0.5)
ALWAYS_TESTED = LEVELS[-1]  # the one that asks least of a machine
LEVELS_AND_MODES = [
    pytest.param((level, mode), id=f"{level}-{mode}", marks=() if level == ALWAYS_TESTED else pytest.mark.slow)
    for level in LEVELS
    for mode in ("blind", "tick")
]
Targets = dict[str, Any]  # name in a case's source → what to aim at
LevelPool = tuple[str, SandboxPool]  # mode, its pool

# Looks for anything that an earlier candidate could have left behind.
CLEAN = """
import builtins, fcntl, json, math, os, signal, sys
def f(x):
    return x * 2
def traces():
    left = [name for name, wrong in (
        ("constant", math.pi != 3.141592653589793),
        ("builtins", builtins.abs(-1) != 1 or builtins.len([1]) != 1 or hasattr(builtins, "marker")),
        ("json", json.dumps([1]) != "[1]"),
        ("environment", bool(os.environ)),
        ("arguments", sys.argv != [""]),
        ("signals", signal.getsignal(signal.SIGTERM) != signal.SIG_DFL),
        ("blocked signals", bool(signal.pthread_sigmask(signal.SIG_BLOCK, []))),
        ("descriptor flags", bool(fcntl.fcntl(1, fcntl.F_GETFL) & os.O_NONBLOCK)),
        ("recursion limit", sys.getrecursionlimit() != 1000),
        ("mask", os.umask(0o22) != 0o22),
    ) if wrong]
    try:
        return left + os.listdir("/scratch")
    except OSError:
        return left
"""
CLEAN_LINES = {
    "assert f(2) == 4": Verdict.PASS,
    "assert f(2) == 5": Verdict.FAIL,
    "assert traces() == []": Verdict.PASS,
    "assert f(1) + f(1) == f(2)": Verdict.PASS,
    "assert f(None) == 4": Verdict.ERROR,
}


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Targets]:
    """Files and sockets outside of the sandbox that any user may open: what the attacks try to reach."""
    folder = tmp_path_factory.getbasetemp().parent / f"targets-{os.getpid()}"
    folder.mkdir()
    folder.chmod(0o1777)
    for name in ("secret", "secret.py", "spare"):
        (folder / name).write_text("")
        (folder / name).chmod(0o666)
    with (
        socket.create_server(("127.0.0.1", 0), backlog=100) as tcp,
        socket.socket(socket.AF_UNIX) as local,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        abstract.bind("")  # the kernel picks a name
        abstract.listen(100)
        local.bind(str(folder / "socket"))
        local.listen(100)
        (folder / "socket").chmod(0o777)
        yield {
            "PORT": tcp.getsockname()[1],
            "ABSTRACT": abstract.getsockname(),
            "SOCKET": str(folder / "socket"),
            "SECRET": str(folder / "secret"),
            "FOLDER": str(folder),
            "SPARE": str(folder / "spare"),
        }
    for path in folder.iterdir():
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=LEVELS_AND_MODES)
async def level_pool(request: pytest.FixtureRequest) -> AsyncIterator[LevelPool]:
    level, mode = request.param
    try:
        async with SandboxPool(1, level, LIMITS, blind=mode == "blind") as pool:
            yield mode, pool
    except SandboxUnavailable as error:
        if "does not ensure" in str(error):  # a level that starts must hold
            raise
        pytest.skip(str(error))


async def judge(pool: SandboxPool, source: str, *lines: str) -> list[Verdict]:
    matrix = await pool.run([Candidate(source)], [TestLine(line) for line in lines])
    return [Verdict(verdict) for verdict in matrix.verdicts[0]]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_gets_nothing_and_leaves_nothing(level_pool: LevelPool, targets: Targets, case: Case) -> None:
    mode, pool = level_pool
    if mode not in case.modes:
        return  # in this mode the candidate compares the values itself: see Case.modes
    zygotes = pool.stats.zygotes_started
    assert await judge(pool, case.aimed(targets), case.line) != [Verdict.PASS]
    assert await judge(pool, CLEAN, *CLEAN_LINES) == list(CLEAN_LINES.values())
    assert pool.stats.zygotes_started == zygotes


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def unisolated() -> AsyncIterator[Worker]:
    worker = await Worker.start("none", LIMITS)
    yield worker
    worker.kill()


@pytest.mark.parametrize("case", [case for case in CASES if case.control], ids=lambda case: case.name)
async def test_reaches_its_target_where_nothing_is_isolated(unisolated: Worker, targets: Targets, case: Case) -> None:
    limits = {"line_s": 5.0, "cpu_s": 5.0, "wall_stretch": 4.0}
    job = {"sources": [case.aimed(targets)], "lines": [[True, "attack()"]], **limits}
    (report,) = await unisolated.run(job, 60)
    assert report.lines == [(protocol.VALUE, '"reached"')]


async def test_there_are_at_least_two_levels_here() -> None:
    reports = await probe_levels()
    assert sum(report.available for report in reports) >= 2, [str(report) for report in reports]


async def test_there_are_at_least_a_hundred_cases() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 100
