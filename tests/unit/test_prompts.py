"""Prompts: what each style asks, what it primes, where it stops."""

from __future__ import annotations

import pytest
from codecascade import prompts
from codecascade.prompts import STYLES, solution_prompt
from codecascade.types import Task

ADD = Task('def add(a: int, b: int) -> int:\n    """The sum."""\n', "add")


@pytest.mark.parametrize("style", STYLES)
def test_a_tests_prompt_begins_an_assert_about_the_entry_point(style: str) -> None:
    prompt = prompts.tests_prompt(style, ADD, lines=2)
    assert prompt.text.endswith(prompt.prefix)
    assert prompt.prefix.startswith("assert ")


def test_chatml_primes_the_answer_with_the_prompts_own_code() -> None:
    prompt = solution_prompt("chatml", ADD)
    assert prompt.prefix == ADD.prompt
    assert prompt.text.endswith("<|im_start|>assistant\n```python\n" + ADD.prompt)
