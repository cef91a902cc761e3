"""Reads a candidate program, or test lines, from what a model wrote.

Models wrap code in prose and fences, repeat the header, forget the indentation, stop in the middle of a line. None of that is
an error: the best program in the text counts, at worst the prompt's own code with an empty body.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from textwrap import dedent, indent

from codecascade.texts.prompts import Prompt
from codecascade.texts.syntax import MAX_COMPLETION_CHARS, Outline, clean, error_line, outline, parses, parsing_start, tree
from codecascade.types import Candidate, Task, TestLine

_MAX_LINE_CHARS = 2_000
_FENCE = re.compile(r"^[ \t]*```+[ \t]*([\w+-]*)[^\n]*$", re.MULTILINE)
_PYTHON_TAGS = ("", "python", "python3", "py", "pycon")
_BODY = re.compile(r"\n*(?: {2,}|\t)\S")
_FIRST_STATEMENT = re.compile(r"^(?:import |from \S+ import |def |async def |class |@)", re.MULTILINE)
_LOOSE_STATEMENT = re.compile(r"^(?!def |async |class |import |from |@|[)\]}#])\S", re.MULTILINE)


def functions(prompt_text: str) -> tuple[str, ...]:
    """The names of the top-level functions that the prompt defines or opens, in order; none if it is not Python."""
    return outline(prompt_text).functions


def candidate(task: Task, prompt: Prompt, completion: str) -> Candidate:
    """The program in a completion of `solution_prompt`, the prompt's own code included. Raises nothing."""
    given = outline(task.prompt)
    in_block = bool(prompt.prefix) or prompt.text.endswith("```python\n")
    code = _code(clean(completion[:MAX_COMPLETION_CHARS]), task.entry_point, in_block)
    if given.closed is None:
        whole = prompt.prefix + code
        return Candidate(_ended(parsing_start(whole) or whole))
    program = _most_of(_programs(given, code, task.entry_point))
    if len(program.rstrip()) <= len(given.code.rstrip()):
        return Candidate(given.closed)
    return Candidate(_ended(_without_usage(program, given, task.entry_point)))


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


@lru_cache(maxsize=4096)
def _tests(line: str, name: str) -> bool:
    """Whether the line is one whole assert statement in which `name` is called, or used in a call.

    `assert name` alone, a sample that ended too early, would pass for every function.
    """
    module = tree(line)
    if module is None or len(module.body) != 1 or not isinstance(module.body[0], ast.Assert):
        return False
    calls = (part for part in ast.walk(module.body[0].test) if isinstance(part, ast.Call))
    return line.startswith(f"assert {name}(") or any(_uses(call, {name}) for call in calls)


def _uses(node: ast.AST, names: set[str]) -> bool:
    """Whether any of the names is read in it."""
    return any(isinstance(part, ast.Name) and part.id in names and isinstance(part.ctx, ast.Load) for part in ast.walk(node))


def _code(text: str, name: str | None, in_block: bool) -> str:
    """The part of an answer that is code; `in_block`: the answer starts inside a code block."""
    fence = _FENCE.search(text) if "```" in text else None
    if in_block and not (fence and fence.group(1)):  # a fence with a language opens a block: what comes before it is prose
        head = text[: fence.start()] if fence else text
        if head.strip():
            return head
    blocks = list(_blocks(text)) if fence else []
    if blocks:
        return next((block for block in blocks if _defines(block, name)), blocks[0])
    start = None if _BODY.match(text) else _FIRST_STATEMENT.search(text)
    return text[start.start() :] if start else text


def _blocks(text: str) -> Iterator[str]:
    """The Python code blocks. The last one may be unclosed."""
    fences = list(_FENCE.finditer(text))
    for opening, closing in zip(fences[::2], [*fences[1::2], None], strict=False):
        if opening.group(1).lower() in _PYTHON_TAGS:
            yield text[opening.end() + 1 : closing.start() if closing else len(text)]


def _defines(code: str, name: str | None) -> bool:
    """Whether a line of the code is the function's header, at the margin."""
    if name is None or name not in code:
        return False
    return re.search(rf"^(?:async\s+)?def\s+{re.escape(name)}\s*\(", code, re.MULTILINE) is not None


def _programs(given: Outline, code: str, name: str | None) -> Iterator[str]:
    """Ways to put the prompt's code and the model's together, likeliest first."""
    for text in (code, code.expandtabs(4), code.expandtabs(8)) if "\t" in code else (code,):
        if _defines(text, name) or (name and f"def {name}" in text and _defines(dedent(text), name)):
            yield _followed(given, text)
        yield given.code + text
        if given.indent:
            yield given.code + indent(dedent(text), given.indent)
            yield given.code + given.indent + text.lstrip()
        yield _followed(given, text)


def _followed(given: Outline, code: str) -> str:
    """The prompt's code as a program of its own, then the model's."""
    return f"{given.closed}\n\n{dedent(code).lstrip()}"


def _most_of(programs: Iterator[str]) -> str:
    """The first program that parses. If none does: the parsing start of the program whose first error comes latest."""
    broken: dict[str, int] = {}
    for program in programs:
        line = error_line(program)
        if line is None:
            return program
        broken[program] = program.count("\n") - line
    return parsing_start(min(broken, key=lambda program: broken[program]))


def _without_usage(program: str, given: Outline, name: str | None) -> str:
    """The program without top-level statements that only try the function out. They cost time and may fail."""
    if name is None or not _LOOSE_STATEMENT.search(program, min(len(given.code), len(program))):
        return program
    module = tree(program)
    if module is None:
        return program
    lines = program.split("\n")
    for node in reversed(_usage(module, name, after=given.code.count("\n"))):
        del lines[node.lineno - 1 : node.end_lineno]
    shorter = "\n".join(lines)
    return shorter if parses(shorter) else program


def _usage(module: ast.Module, name: str, after: int) -> list[ast.stmt]:
    """The top-level statements below line `after` that use the function, read input, or need a result of such a statement."""
    usage: list[ast.stmt] = []
    names = {name, "input", "__name__"}
    for node in module.body:
        if node.lineno <= after or isinstance(
            node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
        ):
            continue
        if isinstance(node, (ast.Expr, ast.Assert)) or _uses(node, names):
            usage.append(node)
            names.update(part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store))
    return usage


def _ended(program: str) -> str:
    return program.rstrip() + "\n"
