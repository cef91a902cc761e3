"""Test lines, taken apart in the trusted parent so that a candidate never sees what is expected of it.

`assert f(2) == [1, 2]` is sent to the sandbox as `f(2)`; its value comes back as text, and the comparison happens here.
Lines that do not come apart like this run whole, beside the candidate.
"""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from codecascade.sandbox.values import decode

MAX_LINE_BYTES = 16 << 10

BLIND, TICK, INVALID = "blind", "tick", "invalid"


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One per text, so that equal lines are the same object (parse_line).

    mode: blind (an expression is sent, `holds` judges its value), tick (the whole line is sent) or invalid (nothing is)."""

    mode: str
    sent: str
    test: ast.expr | None = None
    hole: ast.expr | None = None

    def holds(self, text: str | None) -> bool:
        """Whether the assertion is true of a value. None: one that cannot be shown, which equals nothing.

        Raises what Python raises where the comparison makes no sense ("a" < 3), and NotAValue.
        """
        if self.test is None or self.hole is None:
            raise ValueError(f"a {self.mode} line has no value")
        value = _OPAQUE if text is None else decode(text)
        try:
            return bool(_evaluate(self.test, self.hole, value))
        except _Refused:
            return False


@lru_cache(maxsize=8192)
def parse_line(text: str, blind: bool = True) -> Line:
    """Only one whole assert statement is a test line; anything else is invalid and passes for nobody."""
    statement = _only_assert(text)
    if statement is None:
        return Line(INVALID, "")
    hole = _hole(statement.test) if blind else None
    if hole is None:
        return Line(TICK, text)
    try:
        return Line(BLIND, ast.unparse(hole), statement.test, hole)
    except RecursionError:
        return Line(TICK, text)


def _only_assert(text: str) -> ast.Assert | None:
    if len(text) > MAX_LINE_BYTES:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(text).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    return body[0] if len(body) == 1 and isinstance(body[0], ast.Assert) else None


class _Opaque:
    """Stands for a value that cannot be shown: nothing can be said of it but what it is not."""


_OPAQUE = _Opaque()
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_TYPES = {kind.__name__: kind for kind in (bool, int, float, complex, str, bytes, list, tuple, set, dict)}


def _hole(node: ast.expr) -> ast.expr | None:
    """The one part that the candidate must compute; None where there is not exactly one, or where it is the comparison."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return _hole(node.operand)
    if isinstance(node, ast.Compare):
        if not _identities_make_sense(node):
            return None
        return _only_unknown([node.left, *node.comparators])
    if isinstance(node, ast.BoolOp):
        return None
    if _known(node):
        return None
    return _narrowed(node)


def _narrowed(node: ast.expr) -> ast.expr | None:
    """Within abs(f(x) - 2.0), round(f(x), 2), isclose(f(x), 2.0) and isinstance(f(x), int): f(x)."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
        return _only_unknown([node.left, node.right]) or node
    if isinstance(node, ast.Call) and _function(node) is not None:
        arguments = node.args[:1] if _function(node) in ("isinstance", "round") else node.args
        return _only_unknown(arguments) or node
    return node


def _only_unknown(nodes: list[ast.expr]) -> ast.expr | None:
    unknown = [node for node in nodes if not _known(node)]
    return _hole(unknown[0]) if len(unknown) == 1 else None


def _identities_make_sense(node: ast.Compare) -> bool:
    operands = [node.left, *node.comparators]
    for position, operation in enumerate(node.ops):
        if isinstance(operation, (ast.Is, ast.IsNot)):
            pair = operands[position : position + 2]
            if not any(isinstance(side, ast.Constant) and (side.value is None or type(side.value) is bool) for side in pair):
                return False
    return True


def _function(node: ast.Call) -> str | None:
    """The name of a call that is understood here, whatever the candidate calls by that name."""
    function = node.func
    name = function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    if isinstance(function, ast.Attribute) and not (
        name == "isclose" and isinstance(function.value, ast.Name) and function.value.id == "math"
    ):
        return None
    if name == "abs" and len(node.args) == 1 and not node.keywords:
        return name
    if name == "round" and not node.keywords and _small_digits(node.args):
        return name
    if (
        name == "isclose"
        and len(node.args) == 2
        and all(k.arg in ("rel_tol", "abs_tol") and _known(k.value) for k in node.keywords)
    ):
        return name
    if name == "isinstance" and len(node.args) == 2 and not node.keywords and _types(node.args[1]):
        return name
    return None


def _small_digits(arguments: list[ast.expr]) -> bool:
    if len(arguments) == 2 and isinstance(arguments[1], ast.Constant):
        digits = arguments[1].value
        return type(digits) is int and 0 <= digits <= 20
    return len(arguments) == 1


def _types(node: ast.expr) -> tuple[type, ...]:
    names = node.elts if isinstance(node, ast.Tuple) else [node]
    if all(isinstance(name, ast.Name) and name.id in _TYPES for name in names):
        return tuple(_TYPES[name.id] for name in names if isinstance(name, ast.Name))
    return ()


def _known(node: ast.expr) -> bool:
    try:
        _constant(node)
    except (ValueError, TypeError, ArithmeticError, RecursionError, MemoryError):
        return False
    return True


def _constant(node: ast.expr) -> Any:
    """A literal, or small arithmetic on numbers (1 / 3, 10**9 + 7). Raises ValueError."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        if not isinstance(node, ast.BinOp):
            raise
    left, right = _constant(node.left), _constant(node.right)
    if not all(type(side) in (int, float) and abs(side) < 1e30 for side in (left, right)):
        raise ValueError("not small arithmetic")
    if isinstance(node.op, ast.Pow):
        if not (abs(right) <= 64 and abs(left) <= 1e9):
            raise ValueError("too large a power")
        return left**right
    if type(node.op) not in _ARITHMETIC:
        raise ValueError("not small arithmetic")
    return _ARITHMETIC[type(node.op)](left, right)


def _evaluate(node: ast.expr, hole: ast.expr, value: Any) -> Any:
    if node is hole:
        return value if value is not _OPAQUE else _refuse_opaque()
    if _known(node):
        return _constant(node)
    if isinstance(node, ast.UnaryOp):
        return not _evaluate(node.operand, hole, value)
    if isinstance(node, ast.Compare):
        return _compare(node, hole, value)
    if isinstance(node, ast.BinOp):
        return _evaluate(node.left, hole, value) - _evaluate(node.right, hole, value)
    assert isinstance(node, ast.Call)
    first = _evaluate(node.args[0], hole, value)
    name = _function(node)
    if name == "abs":
        return abs(first)
    if name == "isinstance":
        return isinstance(first, _types(node.args[1]))
    if name == "round":
        return round(first, _constant(node.args[1])) if len(node.args) == 2 else round(first)
    second = _evaluate(node.args[1], hole, value)
    return math.isclose(first, second, **{k.arg: _constant(k.value) for k in node.keywords if k.arg})


def _compare(node: ast.Compare, hole: ast.expr, value: Any) -> bool:
    left = node.left
    for operation, right in zip(node.ops, node.comparators, strict=True):
        if value is _OPAQUE and hole in (left, right) and isinstance(operation, (ast.Is, ast.IsNot)):
            holds = isinstance(operation, ast.IsNot)
        else:
            holds = bool(_COMPARISONS[type(operation)](_evaluate(left, hole, value), _evaluate(right, hole, value)))
        if not holds:
            return False
        left = right
    return True


class _Refused(Exception):
    pass


def _refuse_opaque() -> Any:
    raise _Refused  # whatever is asked of it, the answer is that the assertion does not hold
