"""Which test lines count as evidence, in a real sandbox."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from codecascade.errors import SandboxUnavailable
from codecascade.evidence import evidence_in, stubs
from codecascade.sandbox import SandboxPool
from codecascade.types import Task, TestLine, Verdict

from tests.cascade.scripted_seams import CPU_S, ScriptedSandbox

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROMPT = '''from dataclasses import dataclass


@dataclass
class Point:
    x: int


def half(n):
    return n / 2


def f(n, *, deep=False):
    """Say something about n."""
'''
TASK = Task(PROMPT, "f")

ALWAYS_TRUE = [
    'assert (f(2) == 5, "msg")',
    "assert f(2) == 5 or True",
    "assert f(2) or not f(2)",
    "assert f(2) == f(2)",
    "assert f(2) == f(3)",
    "assert f(f(2)) == f(2)",
    "assert f(2) is not None",
    "assert f(2) != None",
    "assert f(2) != 5, 'five'",
    "assert 5 != f(2)",
    "assert not f(2) == 5",
    "assert f(2) not in [5]",
    "assert f(2) != None and f(3) is not None",
    "assert len(str(f(2))) >= 0",
    "assert '%s' % f(2)",
    "assert f(2) in [f(2)]",
    "assert isinstance(f(2), object)",
    "assert not isinstance(f(2), str)",
    "assert type(f(2)) is not int",
    "assert lambda: f(2) == 5",
    "assert [f(2) == 5]",
    "assert {f(2) == 5: 1}",
    'assert f"{f(2)}"',
    "assert all(f(n) == n for n in [])",
    "assert (f(2) == 5) in (True, False)",
    "assert callable(f) or f(2)",
    "assert True if f(2) else True",
    "assert f(2) != Point(5)",
]
CAN_FAIL = [
    "assert f(2)",
    "assert not f(2)",
    "assert not not f(2)",
    "assert bool(f(2))",
    "assert f(2) is True",
    "assert f(2) is None",
    "assert f(2) == 0",
    "assert f(2) == []",
    "assert f(2, deep=True) == 5  # five",
    "assert 5 == f(2)",
    "assert f(2) == f(3) + 1",
    "assert f(2) != f(3)",
    "assert f(2) == 5 and f(3) != 5",
    "assert f(2) > 0",
    "assert 0 < f(2) < 9",
    "assert f(2) in (1, 2)",
    "assert 1 in f(2)",
    "assert isinstance(f(2), int)",
    "assert abs(f(2) - 0.5) < 1e-6",
    "assert abs(0.5 - f(2)) < 1e-6",
    "assert f(2) % 2 == 0",
    "assert round(f(2), 2) != 0.5",
    "assert __import__('math').isclose(f(2), 0.5)",
    "assert math.isclose(f(2), 0.5)",
    "assert len(f(2)) >= 0",
    "assert sorted(f(2)) == [1, 2]",
    "assert f(2)[0] != 1",
    "assert f(2).strip() == 'a'",
    "assert all(f(n) == n for n in range(3))",
    "assert half(f(2)) != 5",
    "assert f(2) == Point(5)",
    "assert type(f(2)) == int",
    "assert ''.join(f(2)) != 'a'",
]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def pool() -> AsyncIterator[SandboxPool]:
    async with SandboxPool(1) as pool:
        yield pool


async def kept(pool: SandboxPool, *lines: str, task: Task = TASK) -> list[str]:
    evidence, _ = await evidence_in(task, [TestLine(line) for line in lines], pool)
    return [line.source for line in evidence]


@pytest.mark.parametrize("line", ALWAYS_TRUE)
async def test_a_line_that_passes_whatever_the_function_returns_is_no_evidence(pool: SandboxPool, line: str) -> None:
    assert await kept(pool, line, "assert f(1) == 1", line) == ["assert f(1) == 1"]


@pytest.mark.parametrize("line", CAN_FAIL)
async def test_a_line_that_can_fail_is_evidence(pool: SandboxPool, line: str) -> None:
    assert await kept(pool, line, line) == [line, line]


@pytest.mark.parametrize("line", CAN_FAIL)
async def test_running_says_the_same_as_the_form_of_a_line(pool: SandboxPool, line: str) -> None:
    matrix = await pool.run(stubs(TASK), [TestLine(line)])
    assert not matrix.passed.all()


async def test_a_function_named_like_a_builtin_is_no_builtin(pool: SandboxPool) -> None:
    task = Task("def max(a, b):\n", "max")
    assert await kept(pool, "assert max(1, 2) != max", "assert max(max(1, 2), 3) != 3", task=task) == []
    assert await kept(pool, "assert max(1, 2) == 2", task=task) == ["assert max(1, 2) == 2"]


async def test_a_method_is_judged_like_a_function(pool: SandboxPool) -> None:
    task = Task("class Stack:\n    def push(self, item):\n        pass\n    def top(self):\n", "Stack.top")
    useless = ["assert Stack().top() is not None", "assert Stack().top() == Stack().top()", "assert isinstance(Stack(), Stack)"]
    useful = ["assert Stack().top() is None", "assert Stack().push(1) or Stack().top() == 1"]
    assert await kept(pool, *useless, *useful, task=task) == useful


async def test_a_coroutine_function_is_judged_like_a_function(pool: SandboxPool) -> None:
    task = Task("import inspect\n\n\nasync def fetch(n):\n", "fetch")
    useless = ["assert inspect.iscoroutine(fetch(2))", "assert fetch(2)", "assert fetch(2) != 5"]
    assert await kept(pool, *useless, "assert fetch(2) == 5", task=task) == ["assert fetch(2) == 5"]


async def test_a_constructor_is_judged_like_a_function(pool: SandboxPool) -> None:
    task = Task("class Pair:\n    def __init__(self, a, b):\n", "Pair.__init__", expression="Pair")
    assert await kept(pool, "assert Pair(1, 2) is not None", "assert Pair(1, 2).a == 1", task=task) == [
        "assert Pair(1, 2).a == 1"
    ]


async def test_a_property_is_judged_like_a_function(pool: SandboxPool) -> None:
    task = Task("class Stack:\n    @property\n    def size(self):\n", "Stack.size")
    useful = ["assert Stack().size == 0", "assert bool(Stack().size) == False", "assert Stack().size > 1"]
    assert await kept(pool, "assert Stack().size is not None", *useful, task=task) == useful


async def test_what_is_no_assert_is_left_to_the_sandbox(pool: SandboxPool) -> None:
    lines = ["nonsense", "x = f(2)", "assert (", ""]
    assert await kept(pool, *lines) == lines


async def test_lines_of_the_usual_forms_need_no_run() -> None:
    sandbox = ScriptedSandbox({})
    usual = ["f(2) == [1]", "f(2)", "not f(2)", "abs(f(2) - 1) < 1e-9", "math.isclose(f(2), 1)", "f(2) == 1 and f(3) == 2"]
    lines = tuple(TestLine(f"assert {test}") for test in usual)
    assert (await evidence_in(TASK, lines, sandbox), sandbox.runs) == ((lines, 0.0), 0)


async def test_without_a_verdict_every_line_is_kept() -> None:
    lines = (TestLine("assert f(2) != 5"), TestLine("assert f(2) == 5"))
    assert await evidence_in(TASK, lines, ScriptedSandbox(SandboxUnavailable("queue is full"))) == (lines, 0.0)


async def test_the_seconds_of_the_stubs_are_told() -> None:
    lines = (TestLine("assert f(2) != 5"), TestLine("assert f(2) == 5"))
    sandbox = ScriptedSandbox({stub.source: [Verdict.PASS] for stub in stubs(TASK)})
    assert await evidence_in(TASK, lines, sandbox) == (lines[1:], 2 * CPU_S)
