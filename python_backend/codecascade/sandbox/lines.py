"""Test lines, taken apart in the trusted parent so that a candidate never sees what is expected of it.

`assert f(2) == [1, 2]` is sent to the sandbox as `f(2)`; its value comes back as text, and the comparison happens here.
Lines that do not come apart like this run whole, beside the candidate.
"""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass
from functools import lru_cache

from codecascade.sandbox.comparison import OPAQUE, Judge, find_hole, judge_of
from codecascade.sandbox.values import decode

MAX_LINE_CHARS = 4096
_MAX_BLIND_CHARS = 2048  # what the parent computes with stays small

BLIND, TICK, INVALID = "blind", "tick", "invalid"


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One per text, so that equal lines are the same object (parse_line).

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


@lru_cache(maxsize=4096)
def parse_line(text: str, blind: bool = True) -> Line:
    """Only one whole assert statement is a test line; anything else is invalid and passes for nobody."""
    statement = _only_assert(text)
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
    if node.end_lineno != 1 or isinstance(node, ast.NamedExpr):
        return ast.unparse(node)
    return text.encode()[node.col_offset : node.end_col_offset].decode()


def _only_assert(text: str) -> ast.Assert | None:
    if len(text) > MAX_LINE_CHARS:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(text).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    return body[0] if len(body) == 1 and isinstance(body[0], ast.Assert) else None
