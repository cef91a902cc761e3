"""Infills: tasks that ask for what was taken out of a dataset's own solutions.

They are judged by the tests of the task whose solution it was.
"""

from __future__ import annotations

import ast
import io
import random
import tokenize
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from codecascade.texts.syntax import tree

from codecascade_client.datasets.humaneval import BenchmarkTask

_LINES = 8  # of a multi-line infill at most
_CHARACTERS = 120  # of a random span at most
_LEAST = 4  # characters of a random span that are not blank
_TRIES = 100
_IGNORED = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}

Span = tuple[int, int]
"""Where the middle begins and ends in a program."""


def infills(tasks: Mapping[str, BenchmarkTask]) -> dict[str, BenchmarkTask]:
    """At most one infill of each kind per task, the same in every run, by `TASK/KIND`.

    They come in three rounds, in which the kinds take turns: any first part of them has all kinds alike.
    """
    kinds = list(KINDS)
    made: dict[str, BenchmarkTask] = {}
    for first in range(len(kinds)):
        for number, task in enumerate(tasks.values()):
            if infill := _infill(task, kinds[(first + number) % len(kinds)]):
                made[infill.task_id] = infill
    return made


def source_of(task_id: str) -> str:
    """The task that an infill was made from."""
    return task_id.rpartition("/")[0]


def _infill(task: BenchmarkTask, kind: str) -> BenchmarkTask | None:
    """None where the task's solution has no such span."""
    program = task.own_program() or ""
    if tree(program) is None:
        return None
    task_id = f"{task.task_id}/{kind}"
    start = len(program) - len(task.canonical_solution)
    span = KINDS[kind](program, _code_lines(program, start), random.Random(task_id))
    if span is None:
        return None
    first, end = span
    return replace(
        task,
        task_id=task_id,
        prompt=program[:first],
        canonical_solution=program[first:end],
        suffix=program[end:],
        source=task.task_id,
        kind=kind,
    )


def _single_line(program: str, lines: Sequence[Span], rng: random.Random) -> Span | None:
    """One line without its indentation and its line feed: an editor's cursor is where code begins."""
    return lines[rng.randrange(len(lines))] if lines else None


def _multi_line(program: str, lines: Sequence[Span], rng: random.Random) -> Span | None:
    """Two to eight lines that follow each other, not all that there are."""
    if len(lines) < 3:
        return None
    count = rng.randrange(2, min(_LINES, len(lines) - 1) + 1)
    first = rng.randrange(len(lines) - count + 1)
    return lines[first][0], lines[first + count - 1][1]


def _random_span(program: str, lines: Sequence[Span], rng: random.Random) -> Span | None:
    """From any character to a later one of its line, or to the end of a later line, as code is selected in an editor."""
    for _ in range(_TRIES if lines else 0):
        low, high = lines[0][0], lines[-1][1]
        start = rng.randrange(low, high)
        end = min(high, start + 1 + rng.randrange(_CHARACTERS))
        if "\n" in program[start:end]:
            line = program.rfind("\n", 0, end) + 1
            end = line + len(program[line:].partition("\n")[0].rstrip())
        if len("".join(program[start:end].split())) >= _LEAST:
            return start, end
    return None


KINDS: Mapping[str, Callable[[str, Sequence[Span], random.Random], Span | None]] = {
    "single-line": _single_line,
    "multi-line": _multi_line,
    "random-span": _random_span,
}


def _code_lines(program: str, start: int) -> list[Span]:
    """The lines below `start` that hold code, without indentation and blanks at the end. Docstrings and comments are none."""
    skipped = _docstring_lines(program)
    readable = io.StringIO(program).readline
    numbers = {token.start[0] for token in tokenize.generate_tokens(readable) if token.type not in _IGNORED} - skipped
    spans, at = [], 0
    for number, line in enumerate(program.split("\n"), start=1):
        if number in numbers and at >= start:
            spans.append((at + len(line) - len(line.lstrip()), at + len(line.rstrip())))
        at += len(line) + 1
    return spans


def _docstring_lines(program: str) -> set[int]:
    constants = [
        node for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
    return {line for node in constants for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
