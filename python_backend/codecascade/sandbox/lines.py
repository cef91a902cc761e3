"""Test lines, taken apart in the trusted parent so that a candidate never sees what is expected of it.

`assert f(2) == [1, 2]` is sent to the sandbox as `f(2)`; its value comes back as text, and the comparison happens here.
Lines that do not come apart like this run whole, beside the candidate.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from codecascade.sandbox.comparison import OPAQUE, Judge, find_hole, judge_of
from codecascade.sandbox.values import decode

MAX_LINE_CHARS = 4096
_MAX_BLIND_CHARS = 2048  # what the parent computes with stays small
_PARSED_TOGETHER = 16  # lines; one odd line among them has all of them parsed one by one

BLIND, TICK, INVALID = "blind", "tick", "invalid"


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One per text, so that equal lines are the same object (parse_lines).

    mode: blind (an expression is sent, `holds` judges its value), tick (the whole line is sent) or invalid (nothing is).
    """

    mode: str
    sent: str
    judge: Judge | None = None

    def holds(self, text: str | None) -> bool:
        """Whether a blind line's assertion is true of a value. None: one that cannot be shown, which equals nothing.

        Raises what Python raises where the comparison makes no sense ("a" < 3), and NotAValue.
        """
        if self.judge is None:
            raise ValueError(f"a {self.mode} line has no value")
        return self.judge(OPAQUE if text is None else decode(text))


def parse_lines(texts: Sequence[str], blind: bool = True) -> list[Line]:
    """A line for each text, in order. Only one whole assert statement is a test line; anything else is invalid and passes
    for nobody."""
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
    if not blind or len(text) > _MAX_BLIND_CHARS:
        return Line(TICK, text)
    try:
        hole = find_hole(statement.test)
        return Line(TICK, text) if hole is None else Line(BLIND, _source(hole, text), judge_of(statement.test, hole))
    except RecursionError:
        return Line(TICK, text)


def _source(node: ast.expr, text: str) -> str:
    """An expression as it stands in a statement; where that is not an expression on its own, as Python would write it."""
    if "\n" in text or "\r" in text or isinstance(node, ast.NamedExpr):
        return ast.unparse(node)
    return text.encode()[node.col_offset : node.end_col_offset].decode()


def _asserts(texts: list[str]) -> Sequence[ast.Assert | None]:
    """The statement that each text is, None where it is something else or more than one."""
    with warnings.catch_warnings():  # of doubtful escapes and the like
        warnings.simplefilter("ignore")
        return _parsed_together(texts) or [_only_assert(text) for text in texts]


def _parsed_together(texts: list[str]) -> list[ast.Assert] | None:
    """The same as parsing each alone, and faster; None unless every text is a line and every line one assert statement."""
    if max(map(len, texts)) > MAX_LINE_CHARS:
        return None
    body = _parsed("\n".join(texts))
    asserts = [node for line, node in enumerate(body, 1) if isinstance(node, ast.Assert) and _lines(node) == (line, line)]
    return asserts if len(asserts) == len(body) == len(texts) else None


def _only_assert(text: str) -> ast.Assert | None:
    body = _parsed(text) if len(text) <= MAX_LINE_CHARS else []
    return body[0] if len(body) == 1 and isinstance(body[0], ast.Assert) else None


def _parsed(text: str) -> list[ast.stmt]:
    """The statements; none if it does not parse."""
    try:
        return ast.parse(text).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return []


def _lines(node: ast.stmt) -> tuple[int, int | None]:
    """The first and the last."""
    return node.lineno, node.end_lineno
