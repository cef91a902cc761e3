"""Programs that read standard input, against cases: every one ends in a verdict, and no trick is a pass."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from codecascade.requests import task_of
from codecascade.sandbox import SandboxPool
from codecascade.texts.stdin import runnable
from codecascade.types import Candidate, Verdict

PASS, FAIL, ERROR, TIMEOUT = Verdict.PASS, Verdict.FAIL, Verdict.ERROR, Verdict.TIMEOUT
SUMS = [("3 4\n", "7"), ("1 1\n", "2"), ("10 5\n", "15")]
TASK = task_of("import sys\n", cases=[json.dumps({"input": given, "output": wanted}) for given, wanted in SUMS])
RIGHT = "import sys\nprint(sum(map(int, sys.stdin.read().split())))\n"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def pool() -> AsyncIterator[SandboxPool]:
    async with SandboxPool(1) as pool:
        yield pool


async def verdicts(pool: SandboxPool, program: str) -> list[Verdict]:
    matrix = await pool.run([runnable(TASK, Candidate(program))], TASK.given_tests)
    return [Verdict(verdict) for verdict in matrix.verdicts[0]]


@pytest.mark.parametrize(
    "program",
    [
        RIGHT,
        "a, b = map(int, input().split())\nprint(a + b, end='')\n",
        RIGHT + "exit(3)\n",
        RIGHT + "raise SystemExit('done')\n",
        RIGHT + "print()\nprint('  ')\n",
        "import sys\ninput = sys.stdin.readline\nprint(f'{sum(map(int, input().split()))}.0')\n",  # as numbers
        RIGHT + "sys.stdout.close()\n",
        "with open(0) as numbers, open(1, 'w') as out:\n    print(sum(map(int, numbers.read().split())), file=out)\n",
        "open('it', 'w').write(input())\nprint(sum(map(int, open('it').read().split())))\n",
        "import sys, threading\n\ndef main():\n    " + RIGHT.split("\n")[1] + "\n\nthreading.stack_size(1 << 26)\n"
        "thread = threading.Thread(target=main)\nthread.start()\nthread.join()\n",
        "with open(0) as numbers:\n    print(sum(map(int, numbers.read().split())))\n",
        "import sys\nprint(sum(map(int, input().split())))\nassert sys.stdin.readline() == ''\n",
    ],
)
async def test_a_right_program_passes(pool: SandboxPool, program: str) -> None:
    assert await verdicts(pool, program) == [PASS, PASS, PASS]


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("print(7)\n", [PASS, FAIL, FAIL]),
        ("print(input())\n", [FAIL, FAIL, FAIL]),
        ("print(sum(map(int, input().split())), 'is the sum')\n", [FAIL, FAIL, FAIL]),
        ("", [FAIL, FAIL, FAIL]),
        ("a, b = map(int, input().split())\nif a < b:\n    print(a + b)\n    1 / 0\nprint(a + b)\n", [ERROR, PASS, PASS]),
        ("print(int(input()) + int(input()))\n", [ERROR, ERROR, ERROR]),
        (RIGHT + "input()\n", [ERROR, ERROR, ERROR]),  # beyond the end
        (RIGHT + "print((\n", [ERROR, ERROR, ERROR]),
        (RIGHT + "while True:\n    pass\n", [TIMEOUT, TIMEOUT, TIMEOUT]),
        ("import os\n" + RIGHT + "os._exit(0)\n", [ERROR, ERROR, ERROR]),
        (RIGHT + "def f():\n    f()\nf()\n", [ERROR, ERROR, ERROR]),
        (RIGHT + "sys.stdout.buffer.write(b'\\xff')\n", [ERROR, ERROR, ERROR]),
        (RIGHT + "print('x' * 5_000_000)\n", [FAIL, FAIL, FAIL]),
        ("import io, sys\nsys.stdout = io.StringIO()\n" + RIGHT, [FAIL, FAIL, FAIL]),
        ("import sys\nsys.stdout = None\n" + RIGHT, [FAIL, FAIL, FAIL]),
        ("import sys\nsys.stdout = sys.__stdout__\n" + RIGHT, [FAIL, FAIL, FAIL]),
    ],
)  # fmt: skip
async def test_any_other_program_has_the_verdict_of_what_it_does(
    pool: SandboxPool, program: str, expected: list[Verdict]
) -> None:
    assert await verdicts(pool, program) == expected


@pytest.mark.parametrize(
    "program",
    [
        "while True:\n    print('7' * 10_000)\n",
        "try:\n    while True:\n        print('7' * 10_000)\nexcept BaseException:\n    print('7')\n",
        "import sys\nsys.stdout.close()\nprint(7)\nsys.stdout.detach()\n",
        "import sys\nsys.stdin = sys.stdout = sys.stderr = 7\n",
        "import sys\nsys.stdout.write = lambda text: 7\nprint(7)\n",
        "class Same(str):\n    def __eq__(self, other):\n        return True\n    strip = splitlines = lambda self: self\n"
        "import sys\nsys.modules['candidate'].__printed__ = lambda text: Same('no')\n",
        "import sys\nsys.modules['candidate'].__same_output__ = lambda *both: True\n",
        "import builtins\nbuiltins.__same_output__ = lambda *both: True\nbuiltins.print = builtins.exec = None\n",
        "import sys\nframe = sys._getframe()\nwhile frame:\n    print(list(frame.f_locals.values()))\n    frame = frame.f_back\n",
        "import gc\nprint([text for held in gc.get_objects() if type(held) is list for text in held if type(text) is str])\n",
    ],
)
async def test_no_trick_is_a_pass_and_none_reaches_the_next_program(pool: SandboxPool, program: str) -> None:
    assert PASS not in await verdicts(pool, program)
    assert await verdicts(pool, RIGHT) == [PASS, PASS, PASS]
