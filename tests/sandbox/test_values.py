"""Blind mode judges values of every kind as plain Python does, and lets no class of the candidate's own say what it equals."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from textwrap import dedent
from types import ModuleType

import pytest
import pytest_asyncio
from codecascade.sandbox import SandboxPool
from codecascade.types import Candidate, TestLine, Verdict

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROGRAM = dedent("""
    import array, collections, dataclasses, datetime, decimal, enum, fractions, itertools, re, types, typing
    from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, UserString, defaultdict, deque, namedtuple
    from decimal import Decimal
    from fractions import Fraction

    Point = namedtuple("Point", "x y")
    class Pair(typing.NamedTuple):
        a: int
        b: str
    class Level(enum.IntEnum):
        LOW = 1
    class Colour(enum.Enum):
        RED = 1
    class Name(str, enum.Enum):
        BOB = "bob"
    class Permission(enum.IntFlag):
        READ = 4
        WRITE = 2
    class Number(int):
        pass
    class Items(list):
        pass
    class Shown(list):
        def __iter__(self):
            return iter([4])
    class Table(dict):
        pass
    class Object:
        pass
    class Empty:
        def __len__(self):
            return 0
    class False_:
        def __bool__(self):
            return False
    class Undecided:
        def __bool__(self):
            raise ValueError
    class Bag:
        def __init__(self, *items):
            self.items = items
        def __iter__(self):
            return iter(self.items)
    class Row:
        def __getitem__(self, index):
            return [3, 1, 4][index]
    @dataclasses.dataclass
    class Record:
        x: int = 1
    @dataclasses.dataclass(order=True, frozen=True)
    class Ordered:
        x: int = 1
    def countdown(n):
        while n:
            yield n
            n -= 1
    def f(x):
        return x
""")

# Every line is judged as Python judges it.
LINES = """
f(Decimal(1)) == 1
f(Decimal("0.1")) == 0.1
f(Decimal("0.5")) == 0.5
f(Decimal("1.10")) != 1
f(Decimal(3)) > 2
f(Decimal("NaN")) == 0
f(Decimal("NaN")) < 0
f(Decimal("Infinity")) > 10 ** 9
abs(f(Decimal("1.5")) - 1) < 1
abs(f(Decimal("1.5")) - 1.5) < 1
round(f(Decimal("0.333")), 2) == 0.33
f(Decimal("1E+1000")) > 5
f([Decimal(1), Decimal(2)]) == [1, 2]
f(Fraction(1, 2)) == 0.5
f(Fraction(1, 3)) == 1 / 3
f(Fraction(4, 2)) == 2
f(Fraction(1, 3)) < 0.5
abs(f(Fraction(1, 3)) - 0.333) < 1e-2
f({"a": Fraction(1, 2)}) == {"a": 0.5}
f(Point(1, 2)) == (1, 2)
f(Point(1, 2)) == [1, 2]
f(Point(1, 2)) != (1, 3)
f([Point(1, 2)]) == [(1, 2)]
f(Pair(1, "b")) == (1, "b")
isinstance(f(Point(1, 2)), tuple)
isinstance(f(Point(1, 2)), list)
1 in f(Point(1, 2))
f(Level.LOW) == 1
f(Level.LOW) < 2
f(Level.LOW) is True
isinstance(f(Level.LOW), int)
f(Colour.RED) == 1
f(Colour.RED) != 1
f(Colour.RED)
f(Name.BOB) == "bob"
"o" in f(Name.BOB)
f(Permission.READ | Permission.WRITE) == 6
f(Number(3)) == 3
f(Number(3)) == 4
f(True) is True
isinstance(f(True), int)
isinstance(f(Number(3)), int)
f(Items([1, 2])) == [1, 2]
2 in f(Items([1, 2]))
not f(Items())
f(Table(a=1)) == {"a": 1}
isinstance(f(Table()), dict)
f(Counter("aab")) == {"a": 2, "b": 1}
isinstance(f(Counter()), dict)
f(OrderedDict(a=1)) == {"a": 1}
f(defaultdict(int, a=1)) == {"a": 1}
f(OrderedDict(a=1).keys()) == {"a"}
1 in f(OrderedDict(a=1).values())
f({"a": 1}.keys()) == {"a"}
f({"a": 1}.items()) == {("a", 1)}
isinstance(f({"a": 1}.keys()), set)
1 in f({"a": 1}.values())
f({"a": 1}.values()) == [1]
f(frozenset({1})) == {1}
isinstance(f(frozenset()), set)
f(types.MappingProxyType({"a": 1})) == {"a": 1}
f(UserDict(a=1)) == {"a": 1}
f(UserList([1])) == [1]
f(UserString("a")) == "a"
f(ChainMap({"a": 1}, {"b": 2})) == {"a": 1, "b": 2}
f(bytearray(b"ab")) == b"ab"
isinstance(f(bytearray()), bytes)
97 in f(bytearray(b"ab"))
f(memoryview(b"ab")) == b"ab"
f(array.array("i", [1, 2])) == [1, 2]
2 in f(array.array("i", [1, 2]))
f(deque([1, 2]))
not f(deque())
f(deque([1, 2])) == [1, 2]
f(deque([1, 2])) != [1, 2]
1 in f(deque([1, 2]))
3 in f(deque([1, 2]))
3 not in f(deque([1, 2]))
f(deque([1])) < [2]
f(range(3))
not f(range(0))
f(range(3)) == [0, 1, 2]
10 ** 9 in f(range(10 ** 10))
10 ** 11 in f(range(10 ** 10))
f(re.match("a", "ab"))
f(re.match("b", "ab"))
f(re.match("b", "ab")) is None
f(re.match("a", "ab")) is not None
f(re.match("a", "ab")) == "a"
re.match("a+", f("aab"))
re.search("c", f("aab"))
f(countdown(3))
f(countdown(0))
not f(countdown(0))
f(countdown(3)) == [3, 2, 1]
2 in f(countdown(3))
4 in f(countdown(3))
4 not in f(countdown(3))
7 in f(itertools.count())
997 in f(n for n in range(1000))
1000 in f(n for n in range(1000))
9000 in f(list(range(100000)))
"b" in f(map(str.lower, "ABC"))
3 in f(Bag(1, 2, 3))
4 in f(Bag(1, 2, 3))
4 in f(Row())
4 in f(Shown([1]))
5 in f(Row())
3 in f(3)
3 in f(Object())
f(Object())
not f(Object())
f(Object()) == 5
f(Object()) != 5
f(Object()) < 5
f(Object()) is None
f(Object()) in (1, 2)
f(Object()) not in {1, 2}
isinstance(f(Object()), (int, str))
abs(f(Object())) < 3
round(f(Object()), 2) == 3
f([Object(), 1]) == [1, 1]
1 in f([Object(), 1])
f(Empty())
not f(Empty())
f(Empty()) != 0
f(False_())
f(Undecided())
f(Undecided()) is not None
f(Record()) == 1
f(Record()) != 1
f(Ordered()) == (1,)
f(Ordered()) != (1,)
f(datetime.date(2020, 1, 1)) == "2020-01-01"
f(datetime.date(2020, 1, 1)) != "2020-01-01"
f(datetime.timedelta(0))
f(len)
f(int) == int
f(...) is None
f(lambda: 1) != 1
f(1 + 2j) == 1 + 2j
f(10 ** 5000) > 10 ** 60
f(10 ** 5000) == 10 ** 60
f(10 ** 5000) % 7 == 5
f([10 ** 5000])
f(-(10 ** 5000)) < 0
f(2 ** 5000) == 2 ** 64
isinstance(f(10 ** 5000), int)
isinstance(f(list(range(1000))), list)
997 in f(list(range(1000)))
1000 in f(list(range(1000)))
1000 not in f(list(range(1000)))
f(list(range(1000))) == [1, 2]
f(list(range(1000))) != [1, 2]
f(list(range(1000)))
f(list(range(1000)))[999] == 999
f(list(range(100000))) == []
f(list(range(100000))) != []
f(list(range(100000)))
isinstance(f(list(range(100000))), list)
997 in f(list(range(100000)))
"k5" in f({"k%d" % n: n for n in range(1000)})
f({n: n for n in range(1000)}) == {1: 1}
f("x" * 5000) == "x"
f("x" * 5000)
"y" in f("y" * 50000)
f("x" * 5000 + "y") > "x"
isinstance(f("x" * 10 ** 6), str)
f("x" * 10 ** 6) != "x"
f(b"x" * 10 ** 6) == b"x"
""".strip().splitlines()
LINES.append("f([1] * 600) == [" + "1, " * 600 + "]")
LINES.append("f([1] * 600) == [" + "1, " * 599 + "2]")
LINES.append("f('é' * 1900) == '" + "é" * 1900 + "'")
LINES.append("f(" + "[" * 60 + "]" * 60 + ") == " + "[" * 60 + "]" * 60)
LINES.append("f(" + "[" * 60 + "]" * 60 + ") == " + "[" * 60 + "1" + "]" * 60)

# Right only if the candidate's own code is believed. A program that returns such an object would pass every line.
OWN_SAY = [
    ("class A:\n    def __eq__(self, other):\n        return True", "f(A()) == 5"),
    ("class A:\n    def __ne__(self, other):\n        return True", "f(A()) != 5"),
    ("class A:\n    def __contains__(self, other):\n        return True", "5 in f(A())"),
    ("class A:\n    def __lt__(self, other):\n        return True", "f(A()) < 5"),
    ("class A:\n    def __rsub__(self, other):\n        return 0.0", "abs(5 - f(A())) < 1e-6"),
    ("class A:\n    def __eq__(self, other):\n        return True\n    __hash__ = None", "f([A()]) == [5]"),
    ("class A(int):\n    def __eq__(self, other):\n        return True", "f(A(1)) == 5"),
    ("class A(str):\n    def __contains__(self, other):\n        return True", "'5' in f(A('1'))"),
    ("class A(list):\n    def __contains__(self, item):\n        return True", "5 in f(A())"),
    ("import unittest.mock", "f(unittest.mock.ANY) == 5"),
]


def plain_python(source: str, line: str) -> Verdict:
    module = sys.modules["candidate"] = ModuleType("candidate")  # dataclasses look it up
    try:
        exec(source, module.__dict__)
        exec(line, module.__dict__)
    except AssertionError:
        return Verdict.FAIL
    except Exception:
        return Verdict.ERROR
    finally:
        del sys.modules["candidate"]
    return Verdict.PASS


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def pool() -> AsyncIterator[SandboxPool]:
    async with SandboxPool(1) as pool:
        yield pool


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[:60])
async def test_a_line_is_judged_as_python_judges_it(pool: SandboxPool, line: str) -> None:
    matrix = await pool.run([Candidate(PROGRAM)], [TestLine(f"assert {line}")])
    assert Verdict(matrix.verdicts[0, 0]) is plain_python(PROGRAM, f"assert {line}")


async def test_the_lines_are_judged_alike_together(pool: SandboxPool) -> None:
    lines = [f"assert {line}" for line in LINES]
    matrix = await pool.run([Candidate(PROGRAM)], [TestLine(line) for line in lines])
    assert [Verdict(verdict) for verdict in matrix.verdicts[0]] == [plain_python(PROGRAM, line) for line in lines]
    assert matrix.endings == ("finished",)


async def test_nearly_all_of_them_are_judged_blind(pool: SandboxPool) -> None:
    modes = (await pool.run([Candidate("")], [TestLine(f"assert {line}") for line in LINES])).modes
    assert modes.count("tick") <= 2


@pytest.mark.parametrize(("source", "line"), OWN_SAY)
async def test_a_class_of_the_candidates_own_does_not_say_what_it_equals(pool: SandboxPool, source: str, line: str) -> None:
    source += "\ndef f(x):\n    return x"
    assert plain_python(source, f"assert {line}") is Verdict.PASS
    matrix = await pool.run([Candidate(source)], [TestLine(f"assert {line}")])
    assert matrix.verdicts.tolist() == [[Verdict.FAIL]]


async def test_large_values_of_many_lines_are_bounded(pool: SandboxPool) -> None:
    source = "def f(x):\n    return [x] * 9000"
    lines = [TestLine(f"assert {n + 1} not in f({n})") for n in range(100)]
    matrix = await pool.run([Candidate(source)], [*lines, TestLine("assert f(1)[0] == 1")])
    verdicts = matrix.verdicts[0].tolist()
    assert verdicts[:20] == [Verdict.PASS] * 20
    assert verdicts[99:] == [Verdict.FAIL, Verdict.PASS]
    assert matrix.endings == ("finished",)
