"""Parses test lines in the trusted parent, so that a candidate never sees what is expected of it.

`assert f(2) == [1, 2]` is sent to the sandbox as `f(2)`; its value comes back as text and is compared here.
Lines that cannot be split like this run whole, in the candidate's process.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from codecascade.sandbox.comparison import Judge, compares_outputs, find_hole, is_searched, judge_of
from codecascade.sandbox.values import NOT_DESCRIBED, Unknown, decode
from codecascade.sandbox.zygote.protocol import ASKED, SEARCHED, WHOLE

MAX_LINE_CHARS = 4096
_MAX_BLIND_CHARS = 2048  # longer lines run whole, which bounds what the parent computes
_PARSED_TOGETHER = 16  # lines; if one of them is odd, all of them are parsed one by one

BLIND, TICK, INVALID = "blind", "tick", "invalid"


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A parsed test line. Equal lines are the same object (parse_lines)."""

    mode: str
    """blind: an expression is sent, and `holds` judges its value. tick: the whole line is sent. invalid: nothing is sent."""
    sent: str
    how: int = WHOLE
    """How the child runs it (protocol)."""
    judge: Judge | None = None
    """Set for a blind line only."""

    def holds(self, text: str | None) -> bool:
        """Whether a blind line's assertion is true of a value. None stands for one that could not be described.

        False too where only the candidate's own code could say. Raises NotAValue, and what Python raises for a comparison
        that makes no sense ("a" < 3).
        """
        if self.judge is None:
            raise ValueError(f"a {self.mode} line has no value")
        try:
            return self.judge(NOT_DESCRIBED if text is None else decode(text))
        except Unknown:
            return False


def parse_lines(texts: Sequence[str], blind: bool = True) -> list[Line]:
    """One Line per text, in order. A text that is not exactly one assert statement is invalid and passes for no candidate."""
    distinct = list(dict.fromkeys(texts))
    lines = {}
    for start in range(0, len(distinct), _PARSED_TOGETHER):
        group = distinct[start : start + _PARSED_TOGETHER]
        for text, statement in zip(group, _asserts(group), strict=True):
            lines[text] = _line(text, statement, blind)
    return [lines[text] for text in texts]


def _line(text: str, statement: ast.Assert | None, blind: bool) -> Line:
    if statement is None:
        return Line(INVALID, "")
    if (not blind or len(text) > _MAX_BLIND_CHARS) and not compares_outputs(statement.test):
        return Line(TICK, text)
    try:
        hole = find_hole(statement.test)
        if hole is None:
            return Line(TICK, text)
        how = SEARCHED if "in" in text and is_searched(statement.test, hole) else ASKED
        return Line(BLIND, _source(hole, text), how, judge_of(statement.test, hole))
    except RecursionError:
        return Line(TICK, text)


def _source(node: ast.expr, text: str) -> str:
    """An expression's own text in its statement, or unparsed if that text is no expression by itself."""
    if "\n" in text or "\r" in text or isinstance(node, ast.NamedExpr):
        return ast.unparse(node)
    return text.encode()[node.col_offset : node.end_col_offset].decode()


def _asserts(texts: list[str]) -> Sequence[ast.Assert | None]:
    """The assert statement that each text is; None for a text that is something else or more than one statement."""
    with warnings.catch_warnings():  # e.g. about invalid escapes
        warnings.simplefilter("ignore")
        return _parsed_together(texts) or [_only_assert(text) for text in texts]


def _parsed_together(texts: list[str]) -> list[ast.Assert] | None:
    """Same result as parsing each alone, but faster. None unless every text is one line and every line one assert statement."""
    if max(map(len, texts)) > MAX_LINE_CHARS:
        return None
    body = _parsed("\n".join(texts))
    asserts = [node for line, node in enumerate(body, 1) if isinstance(node, ast.Assert) and _lines(node) == (line, line)]
    return asserts if len(asserts) == len(body) == len(texts) else None


def _only_assert(text: str) -> ast.Assert | None:
    body = _parsed(text) if len(text) <= MAX_LINE_CHARS else []
    return body[0] if len(body) == 1 and isinstance(body[0], ast.Assert) else None


def _parsed(text: str) -> list[ast.stmt]:
    """The statements; empty if the text does not parse."""
    try:
        return ast.parse(text).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return []


def _lines(node: ast.stmt) -> tuple[int, int | None]:
    """The first and the last line."""
    return node.lineno, node.end_lineno
