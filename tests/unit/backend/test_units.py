"""What is tested: the function that is being written, and how a test line reaches it."""

from __future__ import annotations

import pytest
from codecascade.texts.units import Unit, unit_names, unit_of, why_no_unit

HELPER = "def helper(x):\n    return x + 1\n\n\n"
DOC = '"""Do it."""\n'
STACK = f"class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, item):\n        {DOC}"


def open_in(*headers: str) -> str:
    """Headers, each a block deeper than the one before, and a docstring in the last."""
    return "".join("    " * depth + header + "\n" for depth, header in enumerate(headers)) + "    " * len(headers) + DOC


@pytest.mark.parametrize(
    ("prompt", "name", "expression"),
    [
        (open_in("def add(a, b):"), "add", "add"),
        ("def add(a, b):", "add", "add"),
        ("def add(a, b):\n    total = a\n", "add", "add"),
        ("def add(a, b):\n    for i in a:\n        if i: return i\n", "add", "add"),
        (HELPER + open_in("def add(a, b):"), "add", "add"),
        (HELPER + STACK, "Stack.push", "Stack().push"),
        (open_in("class A:", "class B:", "def f(self):"), "A.B.f", "A.B().f"),
        (open_in("async def fetch(url):"), "fetch", "asyncio.run(fetch"),
        (open_in("class Client:", "async def get(self):"), "Client.get", "asyncio.run(Client().get"),
        (open_in("class A:", "@property\n    def size(self):"), "A.size", "A().size"),
        (open_in("class A:", "@functools.cached_property\n    def size(self):"), "A.size", "A().size"),
        (open_in("class A(Base):", "@staticmethod\n    def of(x):"), "A.of", "A.of"),
        (
            "class A:\n    x: int\n\n    def __init__(self, x):\n        self.x = x\n\n    @classmethod\n    def of(cls, x):\n",
            "A.of",
            "A.of",
        ),
        (open_in("def outer(a):", "def inner(b):"), "outer", "outer"),
        ("def outer(a):\n    def inner(b):\n        return b\n", "outer", "outer"),
        (open_in("def outer(a):", "class C:", "def m(self):"), "outer", "outer"),
        (open_in("class A:", "def f(self):", "def g():"), "A.f", "A().f"),
        ("import typing\n" + open_in("if typing.TYPE_CHECKING:", "def add(a):"), "add", "add"),
        ("try:\n    import re\nexcept ImportError:\n    def add(a):\n        " + DOC, "add", "add"),
        (open_in("class Pair:", "def __init__(self, a, b):"), "Pair.__init__", "Pair"),
        (
            "@dataclass\nclass P:\n    x: int = 0\n    y: list = field(default_factory=list)\n    n: ClassVar[int]\n\n"
            + "    def f(self):\n",
            "P.f",
            "P().f",
        ),
        (
            "class Base:\n    def __init__(self, a=1, *, b=2, **c):\n        pass\n\n\n"
            + open_in("class A(Base):", "def f(self):"),
            "A.f",
            "A().f",
        ),
        ("def f(x):\n    if x:\n        return 1\n", "f", "f"),
        ("def f(x):\n    # TODO\n", "f", "f"),
        ("def f(x):\n    ...\n", "f", "f"),
        ("def f(x):\n    raise NotImplementedError\n", "f", "f"),
    ],
)
def test_the_unit_is_what_is_open_at_the_end(prompt: str, name: str, expression: str) -> None:
    assert unit_of(prompt) == Unit(name, expression)


@pytest.mark.parametrize(
    ("prompt", "name", "why"),
    [
        (
            "class S:\n    def __init__(self, items, *, size):\n        pass\n\n    def push(self):\n",
            "S.push",
            "class S needs arguments: items, size",
        ),
        (
            "@dataclass(frozen=True)\nclass P:\n    x: int\n    y: int = field(repr=False)\n    z: int = 0\n\n    def f(self):\n",
            "P.f",
            "class P needs arguments: x, y",
        ),
        ("class P(NamedTuple):\n    x: int\n\n    def f(self):\n", "P.f", "class P needs arguments: x"),
        (
            "class B:\n    def __init__(self, a):\n        pass\n\n\nclass A(B):\n    def f(self):\n",
            "A.f",
            "class A needs arguments: a",
        ),
        ("class C(enum.Enum):\n    RED = 1\n\n    def f(self):\n", "C.f", "class C cannot be instantiated: it is of kind Enum"),
        ("class A(ABC):\n    @abstractmethod\n    def g(self): ...\n\n    def f(self):\n", "A.f", "class A is abstract: g"),
        ("class A:\n    @size.setter\n    def size(self, n):\n", "A.size", "A.size only changes a property"),
        ("async def ticks(n):\n    for i in range(n):\n        yield i\n", "ticks", "ticks is an asynchronous generator"),
    ],
)
def test_why_a_unit_cannot_be_tested(prompt: str, name: str, why: str) -> None:
    assert unit_of(prompt) == Unit(name, untested=why)


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        ("total = 1\n", "the prompt defines no function to test"),
        (HELPER, "the prompt's last function, helper, is finished"),
        (HELPER + "# print a table of the first ten\n", "the prompt's last function, helper, is finished"),
        ("def f(x):\n    y = x\n# and now a script\n", "the prompt's last function, f, is finished"),
        (HELPER + "for i in range(3):\n", "the prompt's last function, helper, is finished"),
        (
            "def f(x):\n    if x:\n        return 1\n    else:\n        raise ValueError(x)\n",
            "the prompt's last function, f, is finished",
        ),
        (
            "def f(x):\n    try:\n        return int(x)\n    except ValueError:\n        return 0\n",
            "the prompt's last function, f, is finished",
        ),
        (HELPER + "class Stack:\n    " + DOC, "no method of class Stack is open"),
        ("class A:\n    def f(self):\n        return 1\n", "the prompt's last function, A.f, is finished"),
        ("class A:\n    def f(self):\n        x = 1\n\n    # next\n", "no method of class A is open"),
        ("class A:\n    def f(self):\n        x = 1\n\n    ", "no method of class A is open"),
    ],
)
def test_a_prompt_that_leaves_no_function_open_has_no_unit(prompt: str, why: str) -> None:
    assert unit_of(prompt) is None
    assert why_no_unit(prompt) == why


@pytest.mark.parametrize("entry_point", ["helper", "Stack.push", "Stack.__init__"])
def test_an_entry_point_names_the_unit(entry_point: str) -> None:
    unit = unit_of(HELPER + STACK, entry_point)
    assert unit is not None
    assert unit.name == entry_point


def test_what_an_entry_point_may_be_called() -> None:
    assert unit_names(HELPER + STACK) == ("helper", "Stack.__init__", "Stack.push")
    assert unit_of(HELPER + STACK, "push") is None


def test_the_rest_of_a_class_may_follow_the_place_that_is_completed() -> None:
    before = f"class Stack:\n    def push(self, item):\n        {DOC}"
    after = "\n    def __init__(self, limit):\n        self.limit = limit\n"
    assert unit_of(before) == Unit("Stack.push", "Stack().push")
    assert unit_of(before, suffix=after) == Unit("Stack.push", untested="class Stack needs arguments: limit")


@pytest.mark.parametrize("prompt", ["function add(a, b) {", "def f(:\n", "\0", "def f(x):\n" + "    x\n" * 20_000])
def test_what_is_no_program_has_no_unit(prompt: str) -> None:
    assert unit_of(prompt) is None
    assert unit_names(prompt) == ()
