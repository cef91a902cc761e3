"""Outlines of prompts, and how much of a text parses."""

from __future__ import annotations

import ast

import pytest
from codecascade.texts.syntax import MAX_PROMPT_CHARS, error_line, outline, parsing_start
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


def test_the_functions_of_a_prompt_are_those_at_top_level() -> None:
    nested = "def one():\n    def inner(): ...\n    'def text(): ...'\n\n\nclass A:\n    def method(self): ...\n\n\n"
    assert outline(nested + "async def two(x):\n").functions == ("one", "two")


@pytest.mark.parametrize(
    "prompt",
    ["Write a function that adds.", "function add(a, b) {", "def f(:\n", "def f(x):\n    x = = 1\n\ndef g(y):\n"],
)
def test_what_is_not_python_has_no_closed_form_and_no_functions(prompt: str) -> None:
    assert outline(prompt).closed is None
    assert outline(prompt).functions == ()


def test_a_prompt_too_long_to_look_at_is_kept_whole() -> None:
    prompt = "def f(x):\n" + "    # a comment\n" * (MAX_PROMPT_CHARS // 16 + 1)
    assert outline(prompt).code == prompt
    assert outline(prompt).closed is None


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
    ast.parse(start)


def test_doubtful_escapes_are_no_errors() -> None:
    assert error_line(r"x = '\d'") is None
