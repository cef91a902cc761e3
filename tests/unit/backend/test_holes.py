"""Where a prompt is incomplete, and what it is filled with."""

from __future__ import annotations

from dataclasses import replace

import pytest
from codecascade.texts.holes import filled, hole_of
from codecascade.types import Candidate, Task

AFTER = "\n\ndef last(x):\n    return x\n"
HEADER = "def add(a, b):\n"
DOC = '    """The sum."""\n'


@pytest.mark.parametrize(
    ("before", "rest"),
    [
        (HEADER, ""),
        (HEADER + "    # TODO: add them\n", ""),
        (HEADER + DOC, ""),
        (HEADER + DOC + "    # TODO\n\n    # really\n", ""),
        (HEADER + DOC, "    pass\n"),
        (HEADER + DOC, "    ...  # to be written\n"),
        (HEADER + DOC, "    raise NotImplementedError('later')\n"),
        (HEADER + "    # TODO\n", "    pass\n"),
        (
            "class A:\n    def __init__(self):\n        self.n = 0\n\n    def add(self, a):\n",
            "\n    def get(self):\n        return self.n\n",
        ),
        ("def first():\n    pass\n\n\n" + HEADER + DOC, ""),
        ("@cache\ndef add(\n    a,\n    b,\n):\n", ""),
        ("def first():\n\ndef add(a, b):\n", ""),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_prompt_is_incomplete_in_its_last_function_without_a_body(before: str, rest: str, line_end: str) -> None:
    before, prompt = (text.replace("\n", line_end) for text in (before, before + rest + AFTER))
    at = hole_of(prompt)
    assert at is not None
    assert prompt[:at] == before


@pytest.mark.parametrize(
    "prompt",
    [
        HEADER,
        HEADER + DOC,
        "def first():\n    pass\n\n\n" + HEADER + "    total = a\n",  # its end is open
        "def noted(x):\n    '''Nothing.'''\n\n\n" + HEADER + DOC + "    # TODO\n",
        HEADER + "    return a\n" + AFTER,
        "class Shape(Protocol):\n    def area(self) -> float:\n        ...\n" + AFTER,
        "class Shape(ABC):\n    @abstractmethod\n    def area(self):\n        raise NotImplementedError\n" + AFTER,
        "class Shape:\n    def area(self):\n        raise NotImplementedError\n\n\nclass Point(Shape):\n    area = 0\n",
        "@overload\ndef f(x: int) -> int:\n    ...\n" + AFTER,
        "def f(x): ...\n" + AFTER,
        "function add(a, b) {}\n",
        HEADER + "    return = 1\n" + AFTER,
        "class A:\n\n" + AFTER,
        "total = 1\n",
        "",
    ],
)
def test_a_prompt_without_a_hole_goes_on_at_its_end(prompt: str) -> None:
    assert hole_of(prompt) is None


def test_an_entry_point_chooses_among_holes() -> None:
    prompt = HEADER + DOC + "\n\ndef sub(a, b):\n    pass\n"
    assert hole_of(prompt, "add") == len(HEADER + DOC)
    assert prompt[hole_of(prompt, "sub") :] == "    pass\n"


def test_a_placeholder_at_the_end_stays_below_what_is_written() -> None:
    assert hole_of(HEADER + DOC + "    pass\n") == len(HEADER + DOC)


def task(rest: str) -> Task:
    return Task(HEADER + DOC, "add", rest + AFTER)


def test_the_program_has_what_follows_the_hole() -> None:
    read = Candidate(HEADER + DOC + "    return a + b\n", inserted="    return a + b\n\n\n")
    program = filled(task("    pass\n"), read, ())
    assert program.inserted == "    return a + b\n"
    assert program.source == HEADER + DOC + "    return a + b\n    pass\n" + AFTER


@pytest.mark.parametrize(
    ("inserted", "guarded"),
    [
        ("    print(a + b)\n", "    print(a + b)\n    return\n"),
        ("    if a:\n        return b\n", "    if a:\n        return b\n    return\n"),
        ("    return a + b\n", "    return a + b\n"),
    ],
)
def test_an_error_that_stands_for_the_body_is_not_reached(inserted: str, guarded: str) -> None:
    program = filled(task("    raise NotImplementedError\n"), Candidate("", inserted=inserted), ())
    assert program.inserted == guarded


def test_without_a_hole_the_program_is_the_models() -> None:
    read = Candidate(HEADER + "    return a + b\n", inserted="    return a + b\n")
    assert filled(Task(HEADER, "add"), read, ()) == read


def test_a_candidate_says_what_it_imports_that_the_sandbox_lacks() -> None:
    read = Candidate("def f():\n    import numpy\n    import scipy\n", inserted="    import numpy\n")
    problem = "it imports numpy, scipy, not among the deployment's sandbox_modules"
    assert filled(Task("def f():\n", "f"), read, ()).problem == problem
    assert filled(Task("def f():\n", "f"), read, ("numpy", "scipy")).problem is None
    assert (
        filled(Task("def f():\n", "f"), replace(read, problem="line 1: invalid syntax"), ()).problem == "line 1: invalid syntax"
    )


def test_line_ends_are_those_of_the_prompt() -> None:
    task = Task("def f():\r\n", "f", "    raise NotImplementedError\r\n")
    assert filled(task, Candidate("", inserted="    print()\r\n\r\n"), ()).inserted == "    print()\r\n    return\r\n"


@pytest.mark.parametrize(
    ("before", "inserted", "after", "whole"),
    [
        ("def f(x):\n    return (", "x + 1\n", ")\n", "def f(x):\n    return (x + 1)\n"),
        ("def f(x):", "\n    return x\n", "\n\n\ny = f(1)\n", "def f(x):\n    return x\n\n\ny = f(1)\n"),
    ],
)
def test_a_line_that_goes_on_below_the_cursor_stays_one(before: str, inserted: str, after: str, whole: str) -> None:
    assert filled(Task(before, "f", after), Candidate("", inserted=inserted), ()).source == whole
