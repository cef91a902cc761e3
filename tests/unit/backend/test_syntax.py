"""Outlines of prompts, and how much of a text parses."""

from __future__ import annotations

import sys

import pytest
from codecascade.texts.names import unresolved_names
from codecascade.texts.syntax import MAX_PROMPT_CHARS, error_line, outline, parsing_start, problem
from hypothesis import given
from hypothesis import strategies as st

DOCUMENTED = 'import math\n\n\ndef area(r):\n    """Of a circle.\n\n  >>> area(0)\n  0\n    """\n'


@pytest.mark.parametrize(
    ("prompt", "closed", "indent"),
    [
        (DOCUMENTED, DOCUMENTED + "    pass\n", "    "),
        ("def f(x):", "def f(x):\n    pass\n", "    "),
        ("def f(x):\n\n\n", "def f(x):\n    pass\n", "    "),
        ("async def f(x):\n", "async def f(x):\n    pass\n", "    "),
        ("def f(x):\n\t'''tab'''\n", "def f(x):\n\t'''tab'''\n\tpass\n", "\t"),
        ("def f(x):\n  '''two'''\n", "def f(x):\n  '''two'''\n  pass\n", "  "),
        ("class A:\n    def f(self):\n        '''x'''\n", "class A:\n    def f(self):\n        '''x'''\n        pass\n", " " * 8),
        ("def f(x):\n    for i in x:\n", "def f(x):\n    for i in x:\n        pass\n", " " * 8),
        ("def f(x):\n    y = x + 1\n", "def f(x):\n    y = x + 1\n    pass\n", "    "),
        ("def f(x):\n    return (x +", "def f(x):\n    pass\n", "    "),
        ('def f(x):\n    """Return x', "def f(x):\n    pass\n", "    "),
        ("def f(x): return x\n", "def f(x): return x\n", ""),
        ("import sys\n", "import sys\n", ""),
    ],
)
def test_a_prompt_is_closed_where_its_last_block_is_open(prompt: str, closed: str, indent: str) -> None:
    result = outline(prompt)
    assert (result.closed, result.indent) == (closed, indent)


@pytest.mark.parametrize(
    "prompt",
    ["Write a function that adds.", "function add(a, b) {", "def f(:\n", "def f(x):\n    x = = 1\n\ndef g(y):\n"],
)
def test_what_is_not_python_has_no_closed_form(prompt: str) -> None:
    assert outline(prompt).closed is None


def test_a_prompt_too_long_to_look_at_is_kept_whole() -> None:
    prompt = "def f(x):\n" + "    # a comment\n" * (MAX_PROMPT_CHARS // 16 + 1)
    result = outline(prompt)
    assert (result.code, result.closed) == (prompt, None)
    assert result.problem == f"it has {len(prompt)} characters, must be {MAX_PROMPT_CHARS} or fewer to be read as code"


@pytest.mark.parametrize(
    ("source", "start"),
    [
        ("x = 1\ny = (2,\n", "x = 1"),
        ("def f():\n    return 1\n\ndef g():\n    for i in range(", "def f():\n    return 1"),
        ("def f():\n    if x:\n        return 1\n    else:", "def f():\n    if x:\n        return 1"),
        ('def f():\n    return 1\n\n"""not ended\n\n\n', "def f():\n    return 1"),
        ("def f():\n    try:\n        return 1\n", ""),
        ("def f():\n    return 1\nreturn 2\n", "def f():\n    return 1"),
        ("no python at all", ""),
    ],
)
def test_the_parsing_start_is_what_is_left_before_the_errors(source: str, start: str) -> None:
    assert parsing_start(source).rstrip() == start


@given(st.text(alphabet="abdefrtu \n\t:()[]'\"#\\=+,\0\u2028\ud800", max_size=200))
def test_the_parsing_start_of_any_text_parses(source: str) -> None:
    start = parsing_start(source)
    assert source.startswith(start)
    assert error_line(start) is None


def test_doubtful_escapes_are_no_errors() -> None:
    assert error_line(r"x = '\d'") is None


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        ("def f(x):\n    x = = 1\n    y = 2\n", "line 2: invalid syntax"),
        ("def f(x):\n    y = (1,\n    z = 2\n    return z\n", "line 2: '(' was never closed"),
        ("def f(x):\n    print 'a'\n    y = 1\n", "line 2: Missing parentheses in call to 'print'"),
        ("function add(a, b) {\n", "line 1: "),
        ("def f(x):\n    y = 1\n    return x +\n", "line 3: invalid syntax"),
    ],
)
def test_a_slip_in_the_prompt_is_named_and_nothing_of_the_prompt_is_left_out(prompt: str, problem: str) -> None:
    result = outline(prompt)
    assert (result.code, result.closed) == (prompt, None)
    assert (result.problem or "").startswith(problem)


NEWER = [
    ((3, 11), "def f(x):\n    try:\n        y()\n    except* OSError:\n        pass\n", "line 4 has `except*`"),
    ((3, 12), "def first[T](xs: list[T]) -> T:\n    '''x'''\n", "line 1 has type parameters"),
    ((3, 12), "class Box[T]:\n    x = 1\n", "line 1 has type parameters"),
    ((3, 12), "type Pair = tuple[int, int]\n\ndef f(x):\n", "line 1 has a `type` statement"),
    ((3, 12), 'def f(a):\n    y = 1\n    z = f"{a["b"]}"\n    w = 2\n', "line 3 has an f-string with its own quotes"),
    ((3, 12), 'def f(a):\n    z = f"{", ".join(a)}"\n    w = 2\n', "line 2 has an f-string with its own quotes"),
    ((3, 12), "def f(a):\n    z = f'{chr(10)}{\"\\n\".join(a)}'\n    w = 2\n", "line 2 has an f-string with its own quotes"),
    ((3, 13), "class Box[T = int]:\n    x = 1\n", "line 1 has a default of a type parameter"),
    ((3, 14), "def f(x):\n    try:\n        y()\n    except KeyError, OSError:\n        pass\n", "line 4 has `except` with"),
    ((3, 14), 'def f(x):\n    y = t"{x}"\n    z = 1\n', "line 2 has a template string"),
]


@pytest.mark.parametrize(("version", "prompt", "what"), NEWER)
def test_syntax_of_a_later_python_is_named_with_the_version_it_needs(version: tuple[int, int], prompt: str, what: str) -> None:
    result = outline(prompt)
    if sys.version_info >= version:
        assert result.closed is not None
        assert result.problem is None
    else:
        assert result.closed is None
        assert (result.problem or "").startswith(f"needs Python {version[0]}.{version[1]}: {what}")


@pytest.mark.parametrize(
    "source",
    [
        "def f(x):\n    try:\n        y()\n    except KeyError, e:\n        pass\n",
        "y = f'{x'\n",
        "y = f'{{' + z = {}\n",
        "x = t + 'a' +\n",
    ],
)
def test_what_no_python_can_read_needs_no_later_one(source: str) -> None:
    assert (problem(source) or "").startswith("line ")


@pytest.mark.parametrize(
    "unfinished",
    [
        "    return (x +",
        "    y = 'abc",
        "    try:\n        b()\n",
        "    b = [\n        1,\n        2,\n",
        '    """Not a docstr',
        "    if x",
    ],
)
def test_a_last_statement_that_is_not_finished_is_no_part_of_the_closed_form(unfinished: str) -> None:
    start = "def f(x):\n    a = 1\n"
    result = outline(start + unfinished)
    assert (result.code, result.closed, result.indent) == (start + unfinished, start + "    pass\n", "    ")
    assert (result.finished, result.problem) == (False, None)


@pytest.mark.parametrize(
    ("prompt", "indent"),
    [
        ("def f(x):\n    return x\n\n\n# Read n and print f(n).\n", ""),
        ("def f(x):\n    return x\n\n    # now the rest\n", "    "),
        ("def f(x):\n    '''Doc.'''\n# Your code here\n", "    "),
        ("class A:\n    def f(self):\n        return 1\n\n    # the method g\n", "    "),
        ("class A:\n    def f(self):\n        return 1\n\n# Make an A.\n", ""),
        ("def f(x):\n    return x\n\n\nn = 3\n", ""),
    ],
)
def test_a_comment_below_a_finished_function_is_outside_of_it(prompt: str, indent: str) -> None:
    assert outline(prompt).indent == indent


@pytest.mark.parametrize("start", ["\ufeff", ""])
def test_a_byte_order_mark_is_no_part_of_the_code(start: str) -> None:
    assert outline(f"{start}def f(x):\r\n    '''d'''\r\n").closed == "def f(x):\n    '''d'''\n    pass\n"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("def f(x):\n    return g(x) + math.pi\n", ("g", "math")),
        ("def f(x):\n    return g(x)\n\ndef g(x):\n    return x\n", ()),
        ("def f(n):\n    return f'{n}{m}'\n", ("m",)),
        ("def f(x: List[int]) -> Box: ...\n", ("Box", "List")),
        ("from __future__ import annotations\ndef f(x: List[int]) -> Box: ...\n", ()),
        ("class A:\n    y = zz\n    def f(self):\n        return super().f() + y\n", ("y", "zz")),
        ("def f():\n    global t\n    t = 1\ndef g():\n    return t + u\n", ("u",)),
        ("x = [i for i in y if j]\n", ("j", "y")),
        ("def f():\n    x = 1\n    def g():\n        nonlocal x\n        return x + w\n    return g\n", ("w",)),
        ("import os.path as p, sys\nos.x\n", ("os",)),
        ("try:\n    unicode\nexcept NameError:\n    unicode = str\n", ()),
        ("print(__name__, __doc__, len, NotImplemented)\n", ()),
        ("from math import *\ndef f():\n    return pi + e\n", ()),
        ("globals()['x'] = 1\ndef f():\n    return x\n", ()),
        ("exec('x = 1')\ny = x\n", ()),
        ("x = 1\ndel x\ny = z\n", ()),
        ("def f(:\n", ()),
        ("(lambda q: q + r)(1)\n", ("r",)),
        ("@cache\ndef f(a=b): ...\n", ("b", "cache")),
    ],
)
def test_names_that_nothing_binds(source: str, names: tuple[str, ...]) -> None:
    assert unresolved_names(source) == names
