"""Python source as text: whether it parses, how much of it does, what a prompt leaves open, which names nothing binds.

Everything here takes hostile text. Work is bounded, and whatever makes Python's parser fail counts as not parsing.
"""

from __future__ import annotations

import ast
import codeop
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
IMPORTS = (ast.Import, ast.ImportFrom)
MAX_PROMPT_CHARS = 60_000
MAX_COMPLETION_CHARS = 16_000
_ATTEMPTS = 16
_CHARS_OF_A_LINE = 400
_CHARS_PARSED = 100_000
FILENAME = "<generated>"
_RETURN_AT_MARGIN = re.compile(r"^(?:return|yield)\b", re.MULTILINE)
REFUSED = (ValueError, RecursionError, MemoryError, OverflowError)
_ALLOW_INCOMPLETE_INPUT = getattr(codeop, "PyCF_ALLOW_INCOMPLETE_INPUT", 0)  # Python 3.10 has no such flag
_ENDS_EARLY = re.compile(
    "was never closed|expected an indented block|unterminated triple-quoted|unexpected EOF|expected 'except'"
)
_F_STRING = re.compile(r"(?:\b[fF][rR]?|\b[rR][fF])(\"\"\"|'''|\"|')")


def clean(text: str) -> str:
    """The same text with line feeds only, without NUL, lone surrogates and a byte-order mark at its start."""
    text = text.removeprefix("\ufeff")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        text = text.replace("\0", "")
    return text if text.isascii() else text.encode("utf-8", "ignore").decode("utf-8")


def _line(pattern: str) -> Callable[[str], object]:
    return re.compile(pattern).match


def _has_new_f_string(line: str) -> bool:
    """Whether an f-string has its own quotes, a backslash or a comment between braces."""
    line = line.replace("{{", "")
    for start in _F_STRING.finditer(line):
        depth, quotes = 0, start[1]
        for place in range(start.end(), len(line)):
            inside = line[place]
            depth += (inside == "{") - (inside == "}" and depth > 0)
            ends = line.startswith(quotes, place)
            if depth and (ends or inside in "\\#"):
                return "}" in line[place:]
            if ends:
                break
    return False


# What a line holds that older Pythons cannot read. Looked for where the parser failed, and nowhere else.
_NEWER_SYNTAX: tuple[tuple[tuple[int, int], str, Callable[[str], object]], ...] = (
    (
        (3, 14),
        "`except` with several types and no brackets",
        _line(r"\s*except\*?\s+[\w.]*[A-Z]\w*(?:\s*,\s*[\w.]*[A-Z]\w*)+\s*:"),
    ),
    ((3, 14), "a template string", _line(r".*\b(?:[tT][rR]?|[rR][tT])['\"]")),
    ((3, 13), "a default of a type parameter", _line(r"\s*(?:async\s+def|def|class|type)\s+\w+\s*\[[^\]]*=")),
    ((3, 12), "type parameters", _line(r"\s*(?:async\s+def|def|class)\s+\w+\s*\[")),
    ((3, 12), "a `type` statement", _line(r"\s*type\s+\w+\s*(?:\[.*\])?\s*=[^=]")),
    ((3, 12), "an f-string with its own quotes, a backslash or a comment between braces", _has_new_f_string),
    ((3, 11), "`except*`", _line(r"\s*except\s*\*")),
)
_NEWER = tuple(syntax for syntax in _NEWER_SYNTAX if syntax[0] > sys.version_info[:2])


@dataclass(frozen=True, slots=True)
class SyntaxFault:
    """The first syntax error of a text."""

    line: int
    """From 1; 1 where Python names no line."""
    reason: str
    newer: bool = False
    """Whether a later Python could read the line."""

    def __str__(self) -> str:
        return self.reason if self.newer else f"line {self.line}: {self.reason}"


def syntax_fault(source: str) -> SyntaxFault | None:
    """What keeps a text from being a program here; None if it is one.

    A `return` at top level counts as an error. Other errors that only code generation finds do not count, because code
    generation is slow on hostile code.
    """
    try:
        _parse(source)
        if _RETURN_AT_MARGIN.search(source):
            compile(source, FILENAME, "exec", dont_inherit=True)
    except SyntaxError as error:
        line = min(max(error.lineno or 1, 1), source.count("\n") + 1)
        margin = _RETURN_AT_MARGIN.search(source)
        top = source.count("\n", 0, margin.start()) + 1 if margin else line
        if top < line:
            return SyntaxFault(top, "a return or yield outside of functions")
        newer = _newer_syntax(source, line)
        return SyntaxFault(line, newer or str(error.msg), newer is not None)
    except REFUSED:
        return SyntaxFault(1, "Python's parser cannot take it")
    return None


def _newer_syntax(source: str, number: int) -> str | None:
    """Which Python it takes to read a line, in words."""
    line = source.split("\n")[number - 1][:_CHARS_OF_A_LINE] if _NEWER else ""
    for (major, minor), what, is_in in _NEWER:
        if is_in(line):
            return f"needs Python {major}.{minor}: line {number} has {what}"
    return None


def parses(source: str) -> bool:
    return syntax_fault(source) is None


def error_line(source: str) -> int | None:
    """The line, from 1, of the first syntax error; None if there is none; 1 where Python names no line."""
    fault = syntax_fault(source)
    return fault.line if fault else None


def problem(source: str) -> str | None:
    """Why a text is no program here, in words; None if it is one."""
    fault = syntax_fault(source)
    return str(fault) if fault else None


def tree(source: str) -> ast.Module | None:
    """The syntax tree; None if the source does not parse."""
    try:
        return _parse(source)
    except (SyntaxError, *REFUSED):
        return None


def _parse(source: str) -> ast.Module:
    with warnings.catch_warnings():  # about invalid escapes and the like
        warnings.simplefilter("ignore")
        return ast.parse(source, FILENAME)


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


def lines_of(node: ast.stmt) -> range:
    """The numbers of a statement's lines, its decorators' included."""
    first = node.lineno
    if isinstance(node, DEFINITIONS):
        first = min([first, *(decorator.lineno for decorator in node.decorator_list)])
    return range(first, (node.end_lineno or node.lineno) + 1)


def source_of(node: ast.stmt, lines: list[str]) -> str:
    """The lines of a statement. lines: of the whole program."""
    numbers = lines_of(node)
    return "\n".join(lines[numbers.start - 1 : numbers.stop - 1])


@dataclass(frozen=True, slots=True)
class Outline:
    """What a prompt is as Python."""

    code: str
    """The prompt, cleaned, without blanks at its end. A completion continues here."""
    closed: str | None
    """A program: `code`, with a `pass` where its last block is open, without a last statement that is not finished.

    None: not Python, or over MAX_PROMPT_CHARS.
    """
    indent: str
    """Indentation of the block that a completion continues; empty at top level."""
    problem: str | None = None
    """Why `closed` is None, in words."""
    finished: bool = True
    """Whether `closed` has all of the code. Otherwise its last statement is not finished and left out."""


@lru_cache(maxsize=256)
def outline(prompt: str) -> Outline:
    code = clean(prompt).rstrip(" \t")
    if len(code) > MAX_PROMPT_CHARS:
        return Outline(code, None, "", f"it has {len(code)} characters, must be {MAX_PROMPT_CHARS} or fewer to be read as code")
    lines = _without_blank_end(code.split("\n"))
    closing = _closing(lines)
    finished = closing is not None
    if closing is None and _stops_within_a_statement(code):
        closing = _closing_without_the_end(lines)
    if closing is None:
        return Outline(code, None, "", problem(code))
    return Outline(code, *closing, finished=finished)


def _closing(lines: list[str]) -> tuple[str, str] | None:
    """The lines as a program, with a `pass` where its last block is open, and that block's indentation."""
    whole = "\n".join([*lines, ""])
    module = tree(whole)
    for indent in (_body_indent(module, lines),) if module else _indents_below(lines[-1] if lines else ""):
        closed = f"{whole}{indent}pass\n" if indent else whole
        if tree(closed) is not None:
            return closed, indent
    return None


def _stops_within_a_statement(code: str) -> bool:
    """Whether all that is wrong with a prompt is that its last statement is not finished."""
    fault = syntax_fault(code)
    if fault is None or fault.newer:
        return False
    if not code.endswith("\n") and fault.line == code.count("\n") + 1:
        return True
    if not _ALLOW_INCOMPLETE_INPUT:
        return _ENDS_EARLY.search(fault.reason) is not None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(code, FILENAME, "exec", ast.PyCF_ONLY_AST | _ALLOW_INCOMPLETE_INPUT, dont_inherit=True)
    except SyntaxError as incomplete:
        return incomplete.msg == "incomplete input"
    except REFUSED:
        return False
    return False


def _closing_without_the_end(lines: list[str]) -> tuple[str, str] | None:
    """The same as `_closing` without the lines of the last statement, which is not finished. A top-level one stays."""
    lines = list(lines)
    last_top = max((number for number, line in enumerate(lines) if line[:1].strip()), default=0)
    while len(lines) > last_top:
        closing = _closing(lines)
        if closing is not None:
            return closing
        del lines[min(error_line("\n".join([*lines, ""])) or 1, len(lines)) - 1 :]
    return None


def _body_indent(module: ast.Module, lines: list[str]) -> str:
    """Indentation of the innermost last function or class; empty if the program ends with anything else or a one-liner.

    A comment below a function that has a body is outside of it if it stands further left.
    """
    comment = _leading_blanks(lines[-1]) if lines and lines[-1].lstrip().startswith("#") else None
    indent = ""
    node: ast.AST = module
    while isinstance(node, (ast.Module, *DEFINITIONS)) and node.body:
        node = node.body[-1]
        if isinstance(node, DEFINITIONS):
            body = _leading_blanks(lines[node.body[0].lineno - 1])
            if comment is not None and len(comment) < len(body) and has_body(node):
                break
            indent = body if node.body[0].lineno > node.lineno else indent
    return indent


def has_body(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """Whether there is more in it than a docstring, `pass` or `...`."""
    return not all(
        isinstance(part, ast.Pass) or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)) for part in node.body
    )


def _indents_below(line: str) -> tuple[str, ...]:
    own = _leading_blanks(line)
    return (own + ("\t" if own.startswith("\t") else "    "), own)


def _leading_blanks(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]


def _without_blank_end(lines: list[str]) -> list[str]:
    end = len(lines)
    while end and not lines[end - 1].strip():
        end -= 1
    return lines[:end]
