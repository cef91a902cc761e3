"""What each verdict means, at the best isolation level of this machine."""

import sys
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest
import pytest_asyncio
from codecascade.errors import InvalidRequest, SandboxUnavailable
from codecascade.sandbox import LEVELS, Limits, SandboxPool
from codecascade.types import Candidate, TestLine, Verdict

PASS, FAIL, ERROR, TIMEOUT = Verdict.PASS, Verdict.FAIL, Verdict.ERROR, Verdict.TIMEOUT


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=[True, False], ids=["blind", "tick"])
async def pool(request: pytest.FixtureRequest) -> AsyncIterator[SandboxPool]:
    async with SandboxPool(2, limits=Limits(line_s=0.3, cpu_s=2), blind=request.param) as pool:
        yield pool


async def verdicts(pool: SandboxPool, source: str, *lines: str) -> list[int]:
    matrix = await pool.run([Candidate(source)], [TestLine(line) for line in lines])
    return [Verdict(verdict) for verdict in matrix.verdicts[0]]


async def test_each_line_has_its_own_verdict(pool: SandboxPool) -> None:
    source = "def f(x):\n    while x < 0:\n        pass\n    return 10 // x"
    lines = ["assert f(5) == 2", "assert f(5) == 3", "assert f(0) == 0", "assert f(-1) == 0", "assert f(2) == 5"]
    assert await verdicts(pool, source, *lines) == [PASS, FAIL, ERROR, TIMEOUT, PASS]


async def test_a_line_that_kills_the_child_costs_only_itself(pool: SandboxPool) -> None:
    source = "import os\ndef f(x):\n    if x == 0:\n        os._exit(0)\n    return x"
    assert await verdicts(pool, source, "assert f(1) == 1", "assert f(0) == 0", "assert f(2) == 2") == [PASS, ERROR, PASS]


async def test_code_that_does_not_define_its_function_is_an_error_on_every_line(pool: SandboxPool) -> None:
    assert await verdicts(pool, "def f(:\n", "assert True", "assert f(1) == 1") == [ERROR, ERROR]


async def test_an_assertion_of_the_candidate_itself_is_an_error(pool: SandboxPool) -> None:
    source = "def f(x):\n    assert x > 5\n    return x"
    assert await verdicts(pool, source, "assert f(1) == 1", "assert f(6) == 6", "assert f(6) == 7") == [ERROR, PASS, FAIL]


async def test_a_matrix_has_a_row_per_candidate_and_a_column_per_line(pool: SandboxPool) -> None:
    sources = [f"def f(x):\n    return x + {n}" for n in range(20)]
    matrix = await pool.run([Candidate(s) for s in sources], [TestLine(f"assert f(1) == {n + 1}") for n in range(20)])
    assert (matrix.passed == np.eye(20, dtype=bool)).all()
    assert (matrix.cpu_s > 0).all()


async def test_equal_candidates_and_lines_run_once(pool: SandboxPool) -> None:
    same = Candidate("def f(x):\n    return x")
    runs = pool.stats.runs
    matrix = await pool.run([same, same, same], [TestLine("assert f(1) == 1")] * 5)
    assert matrix.passed.all()
    assert pool.stats.runs == runs + 1
    assert list(matrix.cpu_s > 0) == [True, False, False]


@pytest.mark.parametrize("line", ["pass", "f(1)", "assert True; assert True", "assert", "", "x = 1", "assert " + "(" * 300])
async def test_a_line_that_is_not_one_assert_passes_for_nobody(pool: SandboxPool, line: str) -> None:
    assert await verdicts(pool, "def f(x):\n    return x", line, "assert f(1) == 1") == [ERROR, PASS]


async def test_a_matrix_without_candidates_or_lines_is_empty(pool: SandboxPool) -> None:
    assert (await pool.run([], [TestLine("assert True")])).verdicts.shape == (0, 1)
    assert (await pool.run([Candidate("x = 1")], [])).verdicts.shape == (1, 0)


@pytest.mark.parametrize("source", ["\ud800", "x = 1\n" + "#" * 65536, "x = '\0'"])
async def test_a_source_that_is_not_text_or_too_long_is_an_error(pool: SandboxPool, source: str) -> None:
    assert await verdicts(pool, source, "assert True") == [ERROR]
    assert await verdicts(pool, "def f(): return 1", "assert f() == 1") == [PASS]


async def test_too_many_lines_are_an_invalid_request(pool: SandboxPool) -> None:
    with pytest.raises(InvalidRequest, match="10000 test lines are too many, must be 2000 or fewer"):
        await pool.run([Candidate("x = 1")], [TestLine("assert True")] * 10_000)


async def test_a_program_has_one_verdict(pool: SandboxPool) -> None:
    assert await pool.run_program("assert 1 + 1 == 2") is PASS
    assert await pool.run_program("def check():\n    assert 1 + 1 == 3\ncheck()") is FAIL
    assert await pool.run_program("import sys\nsys.exit(0)") is ERROR
    assert await pool.run_program("while True: pass", timeout_s=0.2) is TIMEOUT


@pytest.mark.parametrize(("stretch", "verdict"), [(1, TIMEOUT), (200, PASS)])
async def test_how_long_a_candidate_may_wait_is_set_apart(stretch: float, verdict: Verdict) -> None:
    """It waits itself here, as it has to where other programs take the processor."""
    async with SandboxPool(1, limits=Limits(line_s=0.05, cpu_s=0.2, wall_stretch=stretch)) as pool:
        assert await verdicts(pool, "import time\ndef f():\n    time.sleep(0.5)\n    return 1", "assert f() == 1") == [verdict]
        assert await pool.run_program("import time\ntime.sleep(0.5)", timeout_s=0.05) is verdict


@pytest.mark.parametrize("level", LEVELS)
async def test_the_standard_library_can_be_imported(level: str) -> None:
    usual = "import hashlib, statistics, dataclasses, decimal, fractions, zlib\nassert hashlib.md5(b'').hexdigest()[0] == 'd'"
    rare = "import email.message, xml.dom, tomllib" if sys.version_info >= (3, 11) else "import email.message, xml.dom"
    try:
        async with SandboxPool(1, level) as pool:
            assert await pool.run_program(usual) is PASS
            assert await pool.run_program(rare) is PASS
            assert await pool.run_program("import numpy") is ERROR
    except SandboxUnavailable as error:
        pytest.skip(str(error))


async def test_chance_and_hashes_are_the_same_in_every_run(pool: SandboxPool) -> None:
    source = "import random\ndef f():\n    return random.random()"
    assert await verdicts(pool, source, "assert f() == 0.8444218515250481") == [PASS]  # the first of seed 0
    assert await pool.run_program("assert list({'a', 'b', 'c', 'd'}) == list({'a', 'b', 'c', 'd'}) and not hash('')") is PASS


async def test_a_pool_that_was_not_started_says_so() -> None:
    with pytest.raises(SandboxUnavailable, match="not started"):
        await SandboxPool(1).run([Candidate("x = 1")], [TestLine("assert True")])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: SandboxPool(0), "workers is 0, must be 1 or more"),
        (lambda: SandboxPool(1, "docker"), "level is 'docker', allowed are auto, namespaces, landlock, sealed"),
        (lambda: Limits(line_s=-1), "limit line_s is -1, must be 0.05 to 3600"),
        (lambda: Limits(wall_stretch=0.5), "limit wall_stretch is 0.5, must be 1 to 1000"),
        (lambda: Limits(memory_bytes=1), "limit memory_bytes is 1, must be"),
    ],
)
async def test_impossible_settings_are_named(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        make()
