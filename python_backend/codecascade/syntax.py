"""Python source as text: does it compile, how much of it does, and what a prompt leaves open.

Everything here takes hostile text: it is bounded, and what Python's own compiler refuses or chokes on simply does not compile.
"""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass
from functools import lru_cache

MAX_CHARS = 50_000
_ATTEMPTS = 16
_FILENAME = "<generated>"


def clean(text: str) -> str:
    """The same text with line feeds only, without NUL and lone surrogates, cut to MAX_CHARS characters."""
    text = text[:MAX_CHARS]
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        text = text.replace("\0", "")
    return text if text.isascii() else text.encode("utf-8", "ignore").decode("utf-8")


def compiles(source: str) -> bool:
    return error_line(source) is None


def error_line(source: str) -> int | None:
    """The line (from 1) where compiling `source` fails, None if it compiles. 1 where Python names no line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, _FILENAME, "exec", dont_inherit=True)
    except SyntaxError as error:
        return max(error.lineno or 1, 1)
    except (ValueError, RecursionError, MemoryError, OverflowError):
        return 1
    return None


def tree(source: str) -> ast.Module | None:
    """The syntax tree, None if it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source, _FILENAME)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return None


def compiling_start(source: str) -> str:
    """The whole lines at the start of `source` that compile, found by cutting at each error; empty if that takes too long."""
    lines = source.split("\n")
    for _ in range(_ATTEMPTS):
        text = "\n".join(lines)
        line = error_line(text)
        if line is None:
            return text
        lines = _without_blank_end(lines)
        del lines[min(line, len(lines)) - 1 :]
        if not lines:
            break
    return ""


@dataclass(frozen=True, slots=True)
class Outline:
    """What a prompt is as Python.

    code: the prompt, cleaned, without blanks at its very end: a completion continues here.
    closed: a program, `code` with a `pass` where its last block is open; None if the prompt is not Python.
    functions: the names of its top-level functions, in order.
    indent: of the block that a completion continues; empty at top level.
    """

    code: str
    closed: str | None
    functions: tuple[str, ...]
    indent: str


@lru_cache(maxsize=256)
def outline(prompt: str) -> Outline:
    code = clean(prompt).rstrip(" \t")
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


def _body_indent(module: ast.Module, lines: list[str]) -> str:
    """Of the last function or class, innermost; empty if the program ends with something else or with a one-liner."""
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
