"""Request → task, and an answer → the caller's text."""

from __future__ import annotations

import sys

import pytest
from codecascade.errors import InvalidRequest
from codecascade.requests import completion, task_of
from codecascade.types import MAX_TEST_LINES, Candidate, Task

HEADER = 'def add(a, b):\n    """The sum."""\n'
AFTER = "\n\ndef last(x):\n    return x\n"


def test_a_prompt_that_ends_where_code_is_to_go_on() -> None:
    assert task_of(HEADER) == Task(HEADER, "add", expression="add")


def test_an_incomplete_function_is_completed_where_it_is() -> None:
    assert task_of(HEADER + AFTER) == Task(HEADER, "add", AFTER, "add")


@pytest.mark.parametrize("cursor", [0, 1, len(HEADER), len(HEADER + AFTER)])
def test_a_cursor_says_where_the_code_goes_on(cursor: int) -> None:
    task = task_of(HEADER + AFTER, cursor=cursor)
    assert (task.prompt, task.suffix) == ((HEADER + AFTER)[:cursor], (HEADER + AFTER)[cursor:])


def test_a_cursor_counts_bytes() -> None:
    prompt = '# é\ndef f(x):\n    """é"""\n'
    assert task_of(prompt + AFTER, cursor=len(prompt.encode())).prompt == prompt


@pytest.mark.parametrize(
    ("cursor", "sentence"),
    [
        (-1, "cursor is -1, must be 0 to 9, the bytes of the prompt"),
        (10, "cursor is 10, must be 0 to 9, the bytes of the prompt"),
        (3, "cursor is 3, within a character, must be at its start, 2"),
    ],
)
def test_a_cursor_that_is_nowhere_is_refused(cursor: int, sentence: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        task_of("# é\nx = 1"[:8], cursor=cursor)
    assert str(refused.value) == sentence


def test_an_entry_point_must_be_defined() -> None:
    with pytest.raises(InvalidRequest) as refused:
        task_of("class A:\n    def f(self):\n        return 1\n\n\n" + HEADER, "f")
    assert str(refused.value) == "entry_point is 'f', which the prompt does not define, allowed are A.f, add"
    with pytest.raises(InvalidRequest, match="allowed are none: the prompt defines no function"):
        task_of("total = 1\n", "f")


@pytest.mark.parametrize(
    ("prompt", "name", "why"),
    [
        ("total = 1\n", None, "the prompt defines no function to test"),
        ("def f(x):\n    return x\n# print it\n", None, "the prompt's last function, f, is finished"),
        ("class S:\n    def __init__(self, n):\n        pass\n\n    def f(self):\n", "S.f", "class S needs arguments: n"),
        (
            "import numpy as np\n" + HEADER,
            "add",
            "the prompt imports numpy, not among the deployment's sandbox_modules",
        ),
        (
            HEADER + "    import numpy\n",
            "add",
            "the prompt imports numpy, not among the deployment's sandbox_modules",
        ),
        (
            HEADER + AFTER + "import numpy\n",
            "add",
            "the prompt imports numpy, not among the deployment's sandbox_modules",
        ),
        ("function add(a, b) {\n", None, "the prompt is not Python: it is completed in its own language"),
        ("def f(x):\n    y = = 1\n", None, "the prompt cannot be read: line 2: invalid syntax"),
        ("Write a function that adds.", None, "the prompt is not Python"),
    ],
)
def test_a_task_says_why_tests_would_say_nothing(prompt: str, name: str | None, why: str) -> None:
    task = task_of(prompt)
    assert (task.testable, task.entry_point, task.untested) == (False, name, why)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="this Python reads the prompt")
def test_a_task_says_which_python_would_read_it() -> None:
    untested = task_of("def first[T](items: list[T]) -> T:\n").untested
    assert untested is not None
    assert untested.startswith("the prompt cannot be read: needs Python 3.12: line 1 ")


def test_modules_that_the_sandbox_offers_do_not_stop_tests() -> None:
    assert task_of("import numpy\n" + HEADER, sandbox_modules=("numpy",)).testable


def test_the_callers_text_is_kept_as_it_came() -> None:
    before, after = "\ufeff# \0\r\ndef f():\r\n", "\r\n\nx = 1 \t"
    assert completion(Task(before, suffix=after), Candidate("other", inserted="    return 1\r\n")) == (
        before + "    return 1\r\n" + after
    )


def test_more_assertions_than_the_sandbox_takes_are_refused_before_a_tier_is_asked() -> None:
    prompt = "def add(a, b):\n    "
    program = "\n".join(f"assert add({number}, 0) == {number}" for number in range(MAX_TEST_LINES))
    assert len(task_of(prompt, tests=[program]).given_tests) == MAX_TEST_LINES
    with pytest.raises(InvalidRequest, match=r"^tests and examples are 2,001 assertions, must be 2,000 or fewer$"):
        task_of(prompt, tests=[program, "assert add(1, 1) == 2"])
