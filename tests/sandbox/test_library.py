"""What programs can use at each level: the standard library, event loops, codecs, and the packages that a deployment lists."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from encodings.aliases import aliases
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import pytest_asyncio
from codecascade.errors import InvalidRequest, SandboxUnavailable
from codecascade.sandbox import LEVELS, Limits, SandboxPool, offers
from codecascade.types import Candidate, TestLine, Verdict

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMITS = Limits(line_s=5, cpu_s=60)
SEALED = LEVELS[-1]


async def started(level: str, *modules: str) -> AsyncIterator[SandboxPool]:
    try:
        async with SandboxPool(1, level, LIMITS, modules=modules) as pool:
            yield pool
    except SandboxUnavailable as error:
        if "not available on this machine" not in str(error):
            raise
        pytest.skip(str(error))


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=LEVELS)
async def pool(request: pytest.FixtureRequest) -> AsyncIterator[SandboxPool]:
    async for pool in started(request.param):
        yield pool


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=LEVELS)
async def numpy_pool(request: pytest.FixtureRequest) -> AsyncIterator[SandboxPool]:
    async for pool in started(request.param, "numpy"):
        yield pool


async def failures(pool: SandboxPool, source: str, lines: list[str]) -> list[str]:
    """The lines that do not pass."""
    matrix = await pool.run([Candidate(dedent(source))], [TestLine(f"assert {line}") for line in lines])
    return [line for line, passed in zip(lines, matrix.passed[0], strict=True) if not passed]


EVENT_LOOPS = """
    import asyncio
    async def double(x):
        await asyncio.sleep(0.001)
        return 2 * x
    def run(x):
        return asyncio.run(double(x))
    def gather():
        async def main():
            return await asyncio.gather(*map(double, range(5)))
        return asyncio.run(main())
    def queue():
        async def main():
            numbers = asyncio.Queue()
            async def fill():
                for n in range(3):
                    await numbers.put(n)
            task = asyncio.create_task(fill())
            return [await numbers.get() for _ in range(3)]
        return asyncio.run(main())
    def wait():
        async def main():
            try:
                await asyncio.wait_for(asyncio.sleep(60), 0.01)
            except asyncio.TimeoutError:
                return "late"
        return asyncio.run(main())
    def wake():
        async def main():
            loop = asyncio.get_running_loop()
            woken = loop.create_future()
            loop.call_soon_threadsafe(woken.set_result, 3)
            return await woken
        return asyncio.run(main())
    def old():
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(double(4))
        finally:
            loop.close()
    def signals():
        import os, signal
        async def main():
            seen = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, seen.set)
            return seen.is_set()
        return asyncio.run(main())
"""


async def test_event_loops_run(pool: SandboxPool) -> None:
    lines = ["run(2) == 4", "run(3) == 6", "gather() == [0, 2, 4, 6, 8]", "queue() == [0, 1, 2]", "wait() == 'late'"]
    assert await failures(pool, EVENT_LOOPS, [*lines, "wake() == 3", "old() == 8"]) == []
    # A handler of signals asks what its descriptor is, by a call that at `sealed` could ask about any path.
    assert await failures(pool, EVENT_LOOPS, ["signals() is False"]) == (["signals() is False"] if pool.level == SEALED else [])


async def test_a_pair_of_sockets_speaks_within_its_process(pool: SandboxPool) -> None:
    source = """
        import socket
        def speak():
            a, b = socket.socketpair()
            a.send(b"hello")
            a.setblocking(False)
            try:
                a.recv(1)
            except BlockingIOError:
                return b.recv(9)
    """
    assert await failures(pool, source, ["speak() == b'hello'"]) == []


# mbcs and oem are Windows'. The one that needs no text is for pickles.
CODECS = sorted({*aliases.values(), "idna", "punycode", "utf_8_sig", "raw_unicode_escape", "unicode_escape"} - {"mbcs", "oem"})


async def test_every_codec_of_the_library_works(pool: SandboxPool) -> None:
    source = """
        import codecs
        def same(name):
            try:
                there = codecs.encode("abc", name)
            except TypeError:  # from bytes to bytes
                there = codecs.encode(b"abc", name)
            return codecs.decode(there, name)
    """
    assert len(CODECS) > 100
    assert await failures(pool, source, [f"same({name!r}) in ('abc', b'abc')" for name in CODECS]) == []


async def test_codecs_go_by_all_their_names(pool: SandboxPool) -> None:
    lines = [
        "codecs.encode('a', 'rot13') == 'n'",
        "codecs.encode(b'a', 'hex') == b'61'",
        "codecs.encode(b'a', 'base64') == b'YQ==\\n'",
        "'é'.encode('cp1252') == b'\\xe9'",
        "'a'.encode('utf-8-sig') == b'\\xef\\xbb\\xbfa'",
        "'ü.de'.encode('idna') == b'xn--tda.de'",
        "'ü'.encode('punycode') == b'tda'",
        "'a'.encode('latin1') == b'a'",
    ]
    assert await failures(pool, "import codecs", lines) == []


async def test_modules_of_packages_that_are_loaded_can_be_imported(pool: SandboxPool) -> None:
    names = ["json.tool", "collections.abc", "importlib.resources", "concurrent.futures", "xml.dom.minidom", "email.message"]
    assert await failures(pool, "", [f"__import__({name!r})" for name in names]) == []


async def test_a_database_in_memory_works(pool: SandboxPool) -> None:
    source = """
        import sqlite3
        def rows():
            connection = sqlite3.connect(":memory:")
            connection.execute("create table t(x)")
            connection.executemany("insert into t values (?)", [(1,), (2,)])
            return connection.execute("select x from t order by x").fetchall()
    """
    assert await failures(pool, source, ["rows() == [(1,), (2,)]"]) == []


@pytest.mark.skipif(not os.path.exists("/usr/share/zoneinfo/Europe/Berlin"), reason="this machine has no time zones (tzdata)")
async def test_time_zones_are_there_where_files_can_be_read(pool: SandboxPool) -> None:
    source = """
        import datetime, zoneinfo
        def hours(zone):
            return datetime.datetime(2020, 7, 1, tzinfo=zoneinfo.ZoneInfo(zone)).utcoffset() // datetime.timedelta(hours=1)
    """
    lines = ["hours('Europe/Berlin') == 2", "hours('Asia/Tokyo') == 9"]
    assert await failures(pool, source, lines) == (lines if pool.level == SEALED else [])


async def test_locks_work_and_threads_do_not_start(pool: SandboxPool) -> None:
    source = """
        import queue, threading
        from concurrent.futures import ThreadPoolExecutor
        def locked():
            with threading.RLock(), threading.Semaphore(2):
                return threading.current_thread().name
        def started():
            try:
                ThreadPoolExecutor(1).submit(int)
            except RuntimeError as error:
                return str(error)
    """
    assert await failures(pool, source, ["locked() == 'MainThread'", '''started() == "can't start new thread"''']) == []


async def test_nothing_but_what_is_needed_is_open(pool: SandboxPool) -> None:
    """0 to 2 are /dev/null and 3 takes the verdicts. Where Landlock alone isolates, imports go through 4."""
    source = """
        import fcntl
        def is_open(fd):
            try:
                fcntl.fcntl(fd, fcntl.F_GETFD)
            except OSError:
                return False
            return True
    """
    expected = {0, 1, 2, 3} | ({4} if pool.level == "landlock" else set())
    assert await failures(pool, source, [f"is_open({fd}) is {fd in expected}" for fd in range(64)]) == []


# What is missing where extension modules must be loaded beforehand.
NOT_SEALED = {"cProfile", "tty", "distutils", "lib2to3", "pydoc_data", "syslog", "termios", "audioop", "wave"}


async def test_what_is_offered_can_be_imported(pool: SandboxPool) -> None:
    offered = [name for name in sorted(sys.stdlib_module_names) if not name.startswith("_") and offers(name)]
    assert len(offered) > 150
    missing = {line.split("'")[1] for line in await failures(pool, "", [f"__import__({name!r})" for name in offered])}
    assert missing <= (NOT_SEALED if pool.level == SEALED else set())


@pytest.mark.parametrize("name", ["multiprocessing", "multiprocessing.pool", "tkinter", "ssl", "numpy", "winreg", "codecascade"])
async def test_what_cannot_work_is_not_offered(name: str) -> None:
    assert not offers(name)


@pytest.mark.parametrize("name", ["json", "os.path", "xml.etree.ElementTree", "asyncio", "numpy", "numpy.linalg"])
async def test_what_can_be_imported_is_offered(name: str) -> None:
    assert offers(name, ("numpy",))


NUMPY = """
    import numpy as np
    def double(x):
        return 2 * np.asarray(x)
    def solve():
        return np.linalg.solve(np.array([[2.0, 0.0], [0.0, 4.0]]), np.array([2.0, 4.0]))
    def large():
        return float((np.ones((400, 400)) @ np.ones((400, 400))).sum())
    def too_large():
        return np.ones((1 << 14, 1 << 14)).sum()
    def chance():
        return float(np.random.rand())
    def mean(values):
        return np.mean(values)
"""
NUMPY_LINES = [
    "double([1, 2]).tolist() == [2, 4]",
    "(double([1, 2]) == np.array([2, 4])).all()",
    "np.allclose(solve(), [1, 1])",
    "large() == 400.0 ** 3",
    "mean([1, 2]) == 1.5",
    "abs(mean([1, 2]) - 1.5) < 1e-9",
    "isinstance(mean([1, 2]), float)",
    "np.int64(3) == 3",
    "np.bool_(True) == True",
    "np.fft.fft(np.ones(4)).tolist() == [4, 0, 0, 0]",
    "chance() == 0.5488135039273248",  # the first of seed 0
]


async def test_numpy_computes_where_it_is_listed(numpy_pool: SandboxPool) -> None:
    assert await failures(numpy_pool, NUMPY, NUMPY_LINES) == []


async def test_numpy_is_within_the_limits_and_locked_down(numpy_pool: SandboxPool) -> None:
    folder = str(Path(np.__file__).parents[1])
    source = (
        NUMPY
        + f"""
    import os
    def opened(path):
        try:
            os.listdir(path)
        except OSError:
            return False
        return True
    def written(path):
        try:
            open(path, "a")
        except OSError:
            return False
        return True
    def changed():
        np.ones = None
        return np.ones
    FOLDER = {folder!r}
    """
    )
    assert await failures(numpy_pool, source, ["too_large() > 0"]) == ["too_large() > 0"]
    lines = ["not opened(FOLDER)", "not opened(FOLDER + '/pytest')", "not written(np.__file__)", "changed() is None"]
    assert await failures(numpy_pool, source, lines) == []
    assert await failures(numpy_pool, NUMPY, NUMPY_LINES) == []


async def test_modules_that_numpy_does_not_load_itself_need_files(numpy_pool: SandboxPool) -> None:
    line = "__import__('numpy.testing.overrides')"
    assert await failures(numpy_pool, "", [line]) == ([line] if numpy_pool.level == SEALED else [])


async def test_other_packages_stay_unknown(numpy_pool: SandboxPool) -> None:
    assert await numpy_pool.run_program("import numpy") is Verdict.PASS
    assert await numpy_pool.run_program("import pytest") is Verdict.ERROR


@pytest.mark.parametrize("name", ["nump", "json", "numpy.linalg", "", "not a name"])
async def test_a_package_that_cannot_be_offered_is_named(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"sandbox module {name!r} cannot be offered, must be a package that is installed"):
        SandboxPool(1, modules=[name])


async def test_a_package_that_does_not_import_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_more.py").write_text("import no_such_module")
    (tmp_path / "threaded.py").write_text("import threading\nthreading.Timer(99, int).start()")
    monkeypatch.syspath_prepend(tmp_path)
    for name, sentence in (("needs_more", "cannot be imported: No module named"), ("threaded", "starts threads")):
        with pytest.raises(SandboxUnavailable, match=f"module {name} {sentence}"):
            await SandboxPool(1, SEALED, modules=[name]).start()
