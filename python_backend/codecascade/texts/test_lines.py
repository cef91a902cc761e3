"""Reads test lines from what a model wrote."""

from __future__ import annotations

import ast
from functools import lru_cache

from codecascade.texts.prompts import Prompt
from codecascade.texts.syntax import MAX_COMPLETION_CHARS, clean, reads, tree
from codecascade.types import Task, TestLine

_MAX_LINE_CHARS = 2_000


def extract_test_lines(task: Task, prompt: Prompt, completion: str, limit: int, *, cut: bool) -> dict[int, TestLine]:
    """The asserts about the entry point in the first `limit` lines of a completion of `tests_prompt`, by line number from 1.

    cut: whether the token limit ended the completion. Then its last line does not count: `== 12` may have become `== 1`.
    Raises nothing.
    """
    name = task.entry_point
    if name is None:
        return {}
    lines = (prompt.prefix + clean(completion[:MAX_COMPLETION_CHARS])).split("\n")
    whole = lines[:-1] if cut else lines
    return {
        number: TestLine(line.rstrip())
        for number, line in enumerate(whole[:limit], start=1)
        if line.startswith("assert") and len(line) <= _MAX_LINE_CHARS and _tests(line, name)
    }


def published_test_lines(prompt: Prompt, completion: str, limit: int) -> dict[int, TestLine]:
    """The same by the rule of the paper's authors: those of the first `limit` lines that start with `assert`."""
    lines = (prompt.prefix + completion).split("\n")[:limit]
    return {number: TestLine(line) for number, line in enumerate(lines, start=1) if line.startswith("assert")}


@lru_cache(maxsize=4096)
def _tests(line: str, name: str) -> bool:
    """Whether the line is one whole assert statement in which `name` is called, or used in a call.

    `assert name` alone, a sample that ended too early, would pass for every function.
    """
    module = tree(line)
    if module is None or len(module.body) != 1 or not isinstance(module.body[0], ast.Assert):
        return False
    calls = (part for part in ast.walk(module.body[0].test) if isinstance(part, ast.Call))
    return line.startswith(f"assert {name}(") or any(reads(call, {name}) for call in calls)
