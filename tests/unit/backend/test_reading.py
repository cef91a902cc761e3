"""Every kind of answer that the corpus of `make check-reading` has, in every style that it can occur in."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.bench.reading_corpus import Answer, answers

ANSWERS = list(answers())


@pytest.fixture(autouse=True)
def _same_recursion_limit() -> Iterator[None]:
    limit = sys.getrecursionlimit()
    yield
    sys.setrecursionlimit(limit)


@pytest.mark.parametrize("answer", ANSWERS, ids=str)
def test_an_answer_gives_a_program_that_computes_the_right_value(answer: Answer) -> None:
    read = answer.read()
    assert read.problem is None
    names: dict[str, Any] = {"__name__": "candidate"}
    exec(compile(read.source, "<candidate>", "exec", dont_inherit=True), names)
    assert eval(answer.call, names) == ast.literal_eval(answer.value)
    assert read.source.endswith(answer.task.prompt + read.inserted)  # above them there may be an import from the future
