"""Extraction: programs and test lines out of what models write."""

from __future__ import annotations

from codecascade.extract import candidate, functions
from codecascade.prompts import solution_prompt
from codecascade.types import Task

ADD = Task('def add(a: int, b: int) -> int:\n    """The sum."""\n', "add")


def test_a_body_continues_the_prompt() -> None:
    found = candidate(ADD, solution_prompt("chatml", ADD), "    return a + b\n")
    assert found.source == ADD.prompt + "    return a + b\n"


def test_the_functions_of_a_prompt_are_those_it_defines_or_opens() -> None:
    assert functions("def one():\n    pass\n\nasync def two(x):\n") == ("one", "two")
