"""The hole of a prompt, an unfinished function that is not at its end, and what it is filled with."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from codecascade.texts.imports import lacking, missing_modules
from codecascade.texts.syntax import MAX_PROMPT_CHARS, clean, outline, tree
from codecascade.texts.units import FUNCTIONS, Function, names_of, open_place, placeholders
from codecascade.types import Candidate, Task

_LINE_END = re.compile(r"\r\n|\r|\n")
_NO_BODY = re.compile(r"expected an indented block after function definition on line (\d+)")
_RAISING = re.compile(r"([ \t]*)raise NotImplementedError\b")
_DECLARED_BY = {"abstractmethod", "abstractproperty", "overload"}
_MAX_HOLES = 16


def hole_of(prompt: str, entry_point: str | None = None) -> int | None:
    """The character, at the start of a line, at which the prompt is incomplete. None: at its end, or nowhere.

    It is in the last function without a body, or in the one that entry_point names. An end that is open comes first.
    """
    if len(prompt) > MAX_PROMPT_CHARS:
        return None
    at_end = open_place(prompt)
    if at_end is not None and not placeholders(at_end.function):
        return None
    lines = clean(prompt).split("\n")
    module, added = _give_bodies(lines)
    if module is None:
        return None
    holes = [(function.name, line) for function in _incomplete(module) if (line := _line_of_hole(function, lines))]
    wanted = entry_point.rpartition(".")[2] if entry_point else None
    chosen = [line for name, line in holes if name == wanted] or [line for _, line in holes]
    return _offset(prompt, chosen[-1] - sum(line < chosen[-1] for line in added)) if chosen else None


def filled(task: Task, candidate: Candidate, sandbox_modules: Collection[str]) -> Candidate:
    """The candidate with what it adds to the prompt and, where the prompt has a hole, with what follows the hole.

    sandbox_modules: what its program can import besides the standard library.
    """
    inserted = candidate.inserted or _added(task, candidate)
    source = candidate.source
    if task.suffix:
        inserted = _before_suffix(task, inserted)
        source = clean(task.prompt + inserted + task.suffix)
    problem = candidate.problem or _what_it_lacks(source, task, sandbox_modules)
    return replace(candidate, source=source, inserted=inserted, problem=problem)


def _what_it_lacks(source: str, task: Task, sandbox_modules: Collection[str]) -> str | None:
    module = tree(source) if "import" in source else None
    missing = missing_modules(module, sandbox_modules, (task.entry_point or "").rpartition(".")[2]) if module else ()
    return f"it {lacking(missing)}" if missing else None


def _added(task: Task, candidate: Candidate) -> str:
    """What the source has beyond the prompt's code."""
    code = outline(task.prompt).code
    return candidate.source[len(code) :] if candidate.source.startswith(code) else f"\n\n{candidate.source}"


def _before_suffix(task: Task, inserted: str) -> str:
    """The inserted text, ended as what follows it needs: on a line of its own, and where an error follows, with a return."""
    end = next(iter(_LINE_END.findall(task.prompt)), "\n")
    at_line_start = not task.prompt or _LINE_END.search(task.prompt[-1])
    inserted = inserted.rstrip() + end if at_line_start else inserted.rstrip("\r\n")
    raising = _RAISING.match(task.suffix)
    if raising and open_place(task.prompt + inserted):
        inserted += f"{raising[1]}return{end}"
    return inserted


def _give_bodies(lines: list[str]) -> tuple[ast.Module | None, list[int]]:
    """Give every function that has none a body, `pass`.

    Returns the tree, None if other errors are left, and the new lines, counted from 1.
    """
    added: list[int] = []
    for _ in range(_MAX_HOLES):
        read = _module_or_error("\n".join(lines))
        if isinstance(read, ast.Module):
            return read, added
        header = _NO_BODY.search(read.msg) if isinstance(read, IndentationError) else None
        at = (read.lineno or 1) - 1 if isinstance(read, SyntaxError) else 0
        if header is None or at < int(header[1]):
            break
        margin = _margin(lines[int(header[1]) - 1])
        while not lines[at - 1].strip() or _is_comment(lines[at - 1], at_most=margin):
            at -= 1
        lines.insert(at, " " * (margin + 4) + "pass")
        added = [*(line + (line > at) for line in added), at + 1]
    return None, added


def _module_or_error(source: str) -> ast.Module | Exception:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        return error


def _incomplete(module: ast.Module) -> Iterator[Function]:
    """The functions without a body, in order. What only declares a function is complete."""
    classes = [node for node in ast.walk(module) if isinstance(node, ast.ClassDef)]
    bases = {name for node in classes for name in names_of(node.bases)}
    declaring = [node for node in classes if node.name in bases or "Protocol" in names_of(node.bases)]
    declared = {part for node in declaring for part in node.body}
    functions = [node for node in ast.walk(module) if isinstance(node, FUNCTIONS) and node not in declared]
    for function in sorted(functions, key=lambda function: function.lineno):
        if placeholders(function) is not None and not _DECLARED_BY & set(names_of(function.decorator_list)):
            yield function


def _line_of_hole(function: Function, lines: Sequence[str]) -> int | None:
    """The line, from 1, that the body should begin at. None if the placeholder is on the header's line."""
    first = (placeholders(function) or function.body)[0]
    if lines[first.lineno - 1][: first.col_offset].strip():
        return None
    if placeholders(function):
        return first.lineno
    end = first.end_lineno or first.lineno  # a docstring's
    for number, line in enumerate(lines[end:], start=end + 1):
        if line.strip() and (not _is_comment(line) or _margin(line) <= function.col_offset):
            break
        end = number if line.strip() else end
    return end + 1


def _is_comment(line: str, at_most: int | None = None) -> bool:
    return line.lstrip().startswith("#") and (at_most is None or _margin(line) <= at_most)


def _margin(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def _offset(text: str, line: int) -> int | None:
    """Where a line, counted from 1, begins. None if there is no such line."""
    starts = [0, *(end.end() for end in _LINE_END.finditer(text))]
    return starts[line - 1] if line <= len(starts) else None
