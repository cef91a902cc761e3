"""Makes a candidate program of the prompt's code and a model's answer.

Models repeat the header, forget the indentation, stop in the middle of a line. None of that is an error: the best program in
the answer counts, at worst the prompt's own code with an empty body.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from textwrap import dedent, indent

from codecascade.texts.answers import code_in, defines
from codecascade.texts.prompts import Prompt
from codecascade.texts.syntax import (
    MAX_COMPLETION_CHARS,
    Outline,
    clean,
    error_line,
    outline,
    parses,
    parsing_start,
    reads,
    tree,
)
from codecascade.types import Candidate, Task

_LOOSE_STATEMENT = re.compile(r"^(?!def |async |class |import |from |@|[)\]}#])\S", re.MULTILINE)


def candidate(task: Task, prompt: Prompt, completion: str, *, cut: bool = False) -> Candidate:
    """The program in a completion of `solution_prompt`, the prompt's own code included. Raises nothing.

    cut: whether the token limit ended the completion.
    """
    given = outline(task.prompt)
    in_block = bool(prompt.prefix) or prompt.text.endswith("```python\n")
    code = code_in(clean(completion[:MAX_COMPLETION_CHARS]), task.entry_point, in_block)
    if given.closed is None:
        whole = prompt.prefix + code
        return Candidate(_ended(parsing_start(whole) or whole))
    program = _most_of(_programs(given, code, task.entry_point))
    if len(program.rstrip()) <= len(given.code.rstrip()):
        return Candidate(given.closed)
    return Candidate(_ended(_without_usage(program, given, task.entry_point)))


def _programs(given: Outline, code: str, name: str | None) -> Iterator[str]:
    """Ways to put the prompt's code and the model's together, likeliest first."""
    for text in (code, code.expandtabs(4), code.expandtabs(8)) if "\t" in code else (code,):
        if defines(text, name) or (name and f"def {name}" in text and defines(dedent(text), name)):
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
        if isinstance(node, (ast.Expr, ast.Assert)) or reads(node, names):
            usage.append(node)
            names.update(part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store))
    return usage


def _ended(program: str) -> str:
    return program.rstrip() + "\n"
