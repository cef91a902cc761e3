"""Test lines out of what models write."""

import ast

import pytest
from codecascade.texts import prompts
from codecascade.texts.prompts import STYLES
from codecascade.texts.test_lines import extract_test_lines as asserts_of
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.backend.model_texts import ADD, HOSTILE, MODEL_TEXT


def lines(completion: str, limit: int = 4, style: str = "chatml") -> list[str]:
    return [
        line.source for line in asserts_of(ADD, prompts.tests_prompt(style, ADD, limit), completion, limit, cut=False).values()
    ]


def test_single_line_asserts_are_kept_up_to_the_limit() -> None:
    completion = "(1, 2) == 3\nassert add(0, 0) == 0\nassert add(1, 1) == 2\n"
    assert lines(completion, limit=2) == ["assert add(1, 2) == 3", "assert add(0, 0) == 0"]


def test_lines_are_counted_whether_kept_or_not() -> None:
    completion = "(1, 2) == 3\nx = add(1, 2)\nassert x == 3\nassert add(1, 1) == 2"
    result = asserts_of(ADD, prompts.tests_prompt("chatml", ADD, 4), completion, 4, cut=False)
    assert {number: line.source for number, line in result.items()} == {1: "assert add(1, 2) == 3", 4: "assert add(1, 1) == 2"}
    assert lines(completion, limit=3) == ["assert add(1, 2) == 3"]


def test_duplicates_are_kept() -> None:
    assert lines("(1, 2) == 3\nassert add(1, 2) == 3") == ["assert add(1, 2) == 3"] * 2


@pytest.mark.parametrize(
    "dropped",
    [
        "assert add(1,",
        "assert add([1,\n  2], [3]) == 4",
        "assert add(1, 2) == (",
        "assert True",
        "assert adder(1, 2) == 3",
        "assert 'add(1, 2)' == 3",
        "assert candidate(1, 2) == 3",
        "assert add(1, 2) == 3; import os",
        "if add(1, 2): pass",
        "print(add(1, 2))",
        "    assert add(x, 2) == 3",
        "# assert add(1, 2) == 3",
        "assertion = add(1, 2)",
        "assert add(1, 2) == " + "1" * 3000,
        "assert add(" + "(" * 500,
        "assert add",
        "assert add, 'no call'",
        "assert add is not None",
    ],
)
def test_what_is_not_one_assert_about_the_entry_point_is_dropped(dropped: str) -> None:
    assert lines(f"(1, 2) == 3\n{dropped}\nassert add(2, 2) == 4") == ["assert add(1, 2) == 3", "assert add(2, 2) == 4"]


@pytest.mark.parametrize(
    "kept",
    [
        "assert add(1, 2) == 3  # three",
        'assert add(1, 2) == 3, "wrong"',
        "assert not add(0, 0)",
        "assert (add(1, 2) == 3)",
        "assert math.isclose(add(1, 2), 3)",
        r"assert add('\d', '') == '\d'",
        "assert all(add(i, i) == 2 * i for i in range(3))",
    ],
)
def test_other_forms_of_an_assert_are_kept(kept: str) -> None:
    assert lines("(1, 2) == 3\n" + kept) == ["assert add(1, 2) == 3", kept]


@pytest.mark.parametrize("style", ["base", "alpaca", "chatml"])
def test_the_primed_beginning_belongs_to_the_first_assert(style: str) -> None:
    completion = "add(1, 2) == 3" if style == "base" else "(1, 2) == 3"
    assert lines(completion, style=style) == ["assert add(1, 2) == 3"]


def test_asserts_are_found_in_chatter_fences_and_any_line_ends() -> None:
    completion = "(1, 2) == 3\r\nThen:\r\n```python\r\nassert add(2, 2) == 4\r\n```\r\nThese are tests."
    assert lines(completion) == ["assert add(1, 2) == 3", "assert add(2, 2) == 4"]


@given(MODEL_TEXT, st.integers(0, 4))
def test_any_text_gives_only_asserts_that_parse(completion: str, limit: int) -> None:
    result = lines(completion, limit)
    assert len(result) <= limit
    for line in result:
        assert "\n" not in line
        assert isinstance(ast.parse(line).body[0], ast.Assert)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("style", STYLES)
def test_hostile_text_gives_only_asserts(name: str, style: str) -> None:
    assert all(isinstance(ast.parse(line).body[0], ast.Assert) for line in lines(HOSTILE[name], style=style))
