"""Tests that come with a request."""

from __future__ import annotations

from typing import Any

import pytest
from codecascade.texts.caller_tests import MAX_LINE_CHARS, caller_tests

RIGHT, WRONG = "def f(a):\n    return 2 * a\n", "def f(a):\n    return 3 * a\n"


def passes(line: str, program: str) -> bool:
    names: dict[str, Any] = {"__name__": "candidate"}
    exec(program, names)
    try:
        exec(line, names)
    except Exception:
        return False
    return True


def sources(*texts: str) -> list[str]:
    lines, problems = caller_tests(texts)
    assert problems == ()
    return [line.source for line in lines]


def test_asserts_are_read_one_by_one_as_they_stand() -> None:
    assert sources("assert f(1) == 2  # two", "assert f(2) == 4; assert f(3) == 6\nassert f(\n    4\n) == 8, 'eight'") == [
        "assert f(1) == 2",
        "assert f(2) == 4",
        "assert f(3) == 6",
        "assert f(4) == 8, 'eight'",
    ]
    assert sources("assert f(1) == 2", "assert f(1) == 2\r\n") == ["assert f(1) == 2"]


@pytest.mark.parametrize(
    "program",
    [
        "x = 2\nassert f(x) == 4",
        "def check(candidate):\n    assert candidate(2) == 4\ncheck(f)",
        "def test_f():\n    assert f(2) == 4\n\ndef test_g():\n    assert f(1) == 2\n",
        "import math\nfor n in range(1, 3):\n    assert math.isclose(f(n), 2 * n)",
        "if f(2) != 4:\n    raise ValueError",
    ],
)
def test_any_other_text_is_a_program_that_has_to_run_to_its_end(program: str) -> None:
    (line,) = sources(program)
    assert passes(line, RIGHT)
    assert not passes(line, WRONG)
    assert "\n" not in line


def test_what_cannot_be_used_is_said_and_the_rest_is_used() -> None:
    lines, problems = caller_tests(["assert f(1) == 2", "assert f(", "x = 1\n" * 4_000, "assert f(2) == 4"])
    assert [line.source for line in lines] == ["assert f(1) == 2", "assert f(2) == 4"]
    broken, long = problems
    assert broken.startswith("tests[1] does not parse: line 1")
    assert long.startswith("tests[2] has ")
    assert long.endswith(f" characters, must have {MAX_LINE_CHARS} or fewer")
