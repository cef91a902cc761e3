"""Python source as text: whether it parses, how much of it does, and what a prompt leaves open.

Everything here takes hostile text. Work is bounded, and whatever makes Python's parser fail counts as not parsing.
"""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass
from functools import lru_cache

MAX_PROMPT_CHARS = 60_000
MAX_COMPLETION_CHARS = 16_000
_ATTEMPTS = 16
_CHARS_PARSED = 100_000
_FILENAME = "<generated>"
_RETURN_AT_MARGIN = re.compile(r"^(?:return|yield)\b", re.MULTILINE)
_REFUSED = (ValueError, RecursionError, MemoryError, OverflowError)


def clean(text: str) -> str:
    """The same text with line feeds only, without NUL and lone surrogates."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        text = text.replace("\0", "")
    return text if text.isascii() else text.encode("utf-8", "ignore").decode("utf-8")


def parses(source: str) -> bool:
    return error_line(source) is None


def error_line(source: str) -> int | None:
    """The line, from 1, of the first syntax error; None if there is none; 1 where Python names no line.

    A `return` at top level counts as an error. Other errors that only code generation finds do not count, because code
    generation is slow on hostile code.
    """
    try:
        _parse(source)
        if _RETURN_AT_MARGIN.search(source):
            compile(source, _FILENAME, "exec", dont_inherit=True)
    except SyntaxError as error:
        line = max(error.lineno or 1, 1)
        margin = _RETURN_AT_MARGIN.search(source)
        return min(line, source.count("\n", 0, margin.start()) + 1) if margin else line
    except _REFUSED:
        return 1
    return None


def tree(source: str) -> ast.Module | None:
    """The syntax tree; None if the source does not parse."""
    try:
        return _parse(source)
    except (SyntaxError, *_REFUSED):
        return None


def _parse(source: str) -> ast.Module:
    with warnings.catch_warnings():  # about invalid escapes and the like
        warnings.simplefilter("ignore")
        return ast.parse(source, _FILENAME)


def parsing_start(source: str) -> str:
    """The whole lines at the start of `source` that parse: cuts at each error. Empty if that takes too many attempts."""
    lines = source.split("\n")
    for _ in range(min(_ATTEMPTS, _CHARS_PARSED // (len(source) + 1))):
        text = "\n".join(lines)
        line = error_line(text)
        if line is None:
            return text
        lines = _without_blank_end(lines)
        del lines[min(line, len(lines)) - 1 :]
        if not lines:
            break
    return ""


def reads(node: ast.AST, names: set[str]) -> bool:
    """Whether any of the names is read in it."""
    return any(isinstance(part, ast.Name) and part.id in names and isinstance(part.ctx, ast.Load) for part in ast.walk(node))


@dataclass(frozen=True, slots=True)
class Outline:
    """What a prompt is as Python."""

    code: str
    """The prompt, cleaned, without blanks at its end. A completion continues here."""
    closed: str | None
    """A program: `code`, with a `pass` where its last block is open. None: not Python, or over MAX_PROMPT_CHARS."""
    functions: tuple[str, ...]
    """Names of the top-level functions, in order."""
    indent: str
    """Indentation of the block that a completion continues; empty at top level."""


@lru_cache(maxsize=256)
def outline(prompt: str) -> Outline:
    code = clean(prompt).rstrip(" \t")
    if len(code) > MAX_PROMPT_CHARS:
        return Outline(code, None, (), "")
    lines = _without_blank_end(code.split("\n"))
    last_top = max((number for number, line in enumerate(lines) if line[:1].strip()), default=0)
    while len(lines) > last_top:
        whole = "\n".join([*lines, ""])
        module = tree(whole)
        for indent in (_body_indent(module, lines),) if module else _indents_below(lines[-1]):
            closed = f"{whole}{indent}pass\n" if indent else whole
            module = tree(closed)
            if module is not None:
                return Outline(code, closed, _function_names(module), indent)
        del lines[min(error_line(whole) or 1, len(lines)) - 1 :]
    return Outline(code, None, (), "")


def functions(prompt_text: str) -> tuple[str, ...]:
    """The names of the top-level functions that the prompt defines or opens, in order; none if it is not Python."""
    return outline(prompt_text).functions


def _body_indent(module: ast.Module, lines: list[str]) -> str:
    """Indentation of the innermost last function or class; empty if the program ends with anything else or a one-liner."""
    indent = ""
    node: ast.AST = module
    while isinstance(node, (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.body:
        node = node.body[-1]
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            first = lines[node.body[0].lineno - 1]
            indent = _leading_blanks(first) if node.body[0].lineno > node.lineno else indent
    return indent


def _indents_below(line: str) -> tuple[str, ...]:
    own = _leading_blanks(line)
    return (own + ("\t" if own.startswith("\t") else "    "), own)


def _leading_blanks(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]


def _function_names(module: ast.Module) -> tuple[str, ...]:
    return tuple(node.name for node in module.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def _without_blank_end(lines: list[str]) -> list[str]:
    end = len(lines)
    while end and not lines[end - 1].strip():
        end -= 1
    return lines[:end]
