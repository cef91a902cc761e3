"""Reads test lines from what a model wrote.

A test line is one assert statement that runs with a candidate and nothing else. Models also write asserts over several lines, in
lists, functions and unittest classes, and with names that other lines set: each becomes one assert, or is dropped.
"""

from __future__ import annotations

import ast
import io
import itertools
import re
import tokenize
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from codecascade.texts.prompts import Prompt
from codecascade.texts.repairs import plain_characters
from codecascade.texts.syntax import MAX_COMPLETION_CHARS, clean, tree
from codecascade.texts.test_names import Names
from codecascade.texts.units import called_name
from codecascade.texts.unittest_calls import test_of_call
from codecascade.types import Task, TestLine

_MAX_LINE_CHARS = 2_000
_MAX_UNFINISHED = 8  # statements without an end; the end of others is not looked for
_LEAD = re.compile(r"\s*(?:(?:[-*+•]|\d+[.)])\s+)?(?:>>> )?")  # of a list or a transcript
_CODE_SPAN = re.compile(r"(?:[^`]*:[* ]+)?`{1,2}(assert\b[^`]*)`")  # perhaps below a title
_ASSERT = re.compile(r"assert\b|(?:\w+\.)*assert[A-Z]\w*\(")
_ASSIGNMENT = re.compile(r"[^\W\d][\w, ]*(?::[^=]+)?=(?!=)")
_HEADER = re.compile(r"(?:async|class|def|elif|else|except|finally|for|if|match|case|try|while|with)\b.*:\s*(?:#.*)?$")
_RUNS_ONCE = re.compile(r"(?:async )?def |class |try\b|if __name__|with self\.subTest")  # headers of blocks that do


@dataclass(frozen=True, slots=True)
class _Read:
    """A statement, or a line that is none."""

    text: str
    statement: ast.stmt | None
    lines: int = 1
    unfinished: bool = False


def extract_test_lines(
    task: Task, prompt: Prompt, completion: str, limit: int, *, cut: bool, modules: Collection[str] = ()
) -> dict[int, TestLine]:
    """The asserts about the entry point in the first `limit` lines of a completion of `tests_prompt`, by the line, from 1, on
    which each ends: a sample that ends there has it.

    cut: whether the token limit ended the completion. Then its last line does not count: `== 12` may have become `== 1`.
    modules: what the sandbox offers besides the standard library. Raises nothing.
    """
    if task.entry_point is None:
        return {}
    lines = (prompt.prefix + clean(completion[:MAX_COMPLETION_CHARS])).split("\n")
    whole = lines[:-1] if cut else lines
    names = Names(task.prompt, modules)
    found = {}
    for number, read, blocks in _statements(whole[:limit]):
        names.enter(depth=len(blocks))
        certain = all(blocks)
        source = _test_line(read, names, task.entry_point) if certain else None
        if source is not None:
            found[number] = TestLine(source)
        else:
            names.note(read.statement or read.text, certain)
    return found


def published_test_lines(prompt: Prompt, completion: str, limit: int) -> dict[int, TestLine]:
    """The same by the rule of the paper's authors: those of the first `limit` lines that start with `assert`."""
    lines = (prompt.prefix + completion).split("\n")[:limit]
    return {number: TestLine(line) for number, line in enumerate(lines, start=1) if line.startswith("assert")}


def _statements(lines: Sequence[str]) -> Iterator[tuple[int, _Read, list[bool]]]:
    """Each statement and each header of a block: the line on which it ends, and whether each block around it runs just once."""
    blocks: list[tuple[int, bool]] = []  # indentation of the header, whether the block runs once
    after = unfinished = 0
    for index, line in enumerate(lines):
        if index < after or not line.strip():
            continue
        indent = len(line) - len(line.lstrip())
        while blocks and blocks[-1][0] >= indent:
            blocks.pop()
        read = _read(lines[index:] if unfinished < _MAX_UNFINISHED else [line])
        unfinished += read.unfinished
        after = index + read.lines
        around = [runs_once for _, runs_once in blocks]
        if read.statement is None and _HEADER.match(read.text):
            blocks.append((indent, _RUNS_ONCE.match(read.text) is not None))
        elif read.statement is None:
            continue
        yield after, read, around


def _read(lines: Sequence[str]) -> _Read:
    """The statement at the start of the lines, in typographic signs only where it is none otherwise."""
    read = _read_as_it_is(lines)
    if read.statement is None and not lines[0].isascii():
        straight = _read_as_it_is([plain_characters(line) for line in lines])
        return straight if straight.statement is not None else read
    return read


def _read_as_it_is(lines: Sequence[str]) -> _Read:
    text = _bare(lines[0])
    statement = _only_statement(text)
    if statement is None and (_ASSERT.match(text) or _ASSIGNMENT.match(text)):
        return _over_several_lines([text, *itertools.takewhile(lambda line: not _ASSERT.match(_bare(line)), lines[1:])])
    return _Read(text, statement)


def _over_several_lines(lines: Sequence[str]) -> _Read:
    """The statement that starts on the first line, if it ends; else that line alone."""
    start = io.StringIO("\n".join(lines)[:_MAX_LINE_CHARS])
    try:
        end = next((token.start[0] for token in tokenize.generate_tokens(start.readline) if token.type == tokenize.NEWLINE), 1)
    except (tokenize.TokenError, SyntaxError):
        end = 1
    text = "\n".join(lines[:end])
    statement = _only_statement(text)
    return _Read(lines[0], None, unfinished=True) if statement is None else _Read(text, statement, end)


def _bare(line: str) -> str:
    """A line without the sign of a list, or the code in it."""
    bare = _LEAD.sub("", line, count=1).rstrip()
    span = None if _ASSERT.match(bare) else _CODE_SPAN.match(bare)
    return span[1].rstrip() if span else bare


@lru_cache(maxsize=4096)
def _only_statement(text: str) -> ast.stmt | None:
    module = tree(text) if len(text) <= _MAX_LINE_CHARS else None
    return module.body[0] if module is not None and len(module.body) == 1 else None


def _test_line(read: _Read, names: Names, name: str) -> str | None:
    """The assert that the statement is or stands for; None if it is none about the function, or needs names that nothing sets."""
    try:
        test = _test_of(read.statement)
        resolved = names.resolved(test) if test is not None else None
        if resolved is None or not _is_about(resolved, name):
            return None
        if isinstance(read.statement, ast.Assert) and resolved is test and read.lines == 1:
            return read.text
        line = ast.unparse(ast.Assert(resolved, None))
    except (RecursionError, ValueError):
        return None
    return line if isinstance(_only_statement(line), ast.Assert) else None


def _test_of(statement: ast.stmt | None) -> ast.expr | None:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)) and len(statement.body) == 1:
        statement = statement.body[0]
    if isinstance(statement, ast.Expr):
        return test_of_call(statement.value)
    return statement.test if isinstance(statement, ast.Assert) else None


def _is_about(test: ast.expr, name: str) -> bool:
    """Whether `name` is called in it, or used in a call. `assert name` alone, a sample that ended too early, always passes.

    A member of a class may be a property, which is compared and not called.
    """
    using = (ast.Call, ast.Compare) if "." in called_name(name) else (ast.Call,)
    parts: list[tuple[ast.AST, bool]] = [(test, False)]
    while parts:
        part, in_call = parts.pop()
        in_call = in_call or isinstance(part, using)
        if in_call and is_use_of(part, name):
            return True
        parts += [(child, in_call) for child in ast.iter_child_nodes(part)]
    return False


def is_use_of(node: ast.AST, name: str) -> bool:
    """Whether an expression is the function `add`, the method `Stack.push` of whatever object, or the class of a constructor."""
    owner, _, last = called_name(name).rpartition(".")
    if owner:
        return isinstance(node, ast.Attribute) and node.attr == last
    return isinstance(node, ast.Name) and node.id == last
