"""Judges an assert by the one value in it that the candidate computes: the hole.

Handles comparisons with literals and small arithmetic, `not`, and calls that would show the candidate what is expected:
abs(f(x) - 2.0), round(f(x), 2), math.isclose(f(x), 2.0), isinstance(f(x), int). They mean here what they mean in Python,
even if the candidate redefines these names. __same_output__(f(x), "2") compares printed texts (see outputs).
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

from codecascade.sandbox.outputs import SAME_OUTPUT, same_output
from codecascade.sandbox.values import BUILTIN_TYPES, Typed, contains

Judge = Callable[[Any], bool]
Term = Callable[[Any], Any]  # the hole's value → the term's value


_UNKNOWN = object()  # the value of an expression that only the candidate can compute


_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda left, right: contains(right, left),
    ast.NotIn: lambda left, right: not contains(right, left),
}
_IDENTITIES = (ast.Is, ast.IsNot)
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_PERHAPS_CONSTANT = (ast.Tuple, ast.List, ast.Set, ast.Dict, ast.UnaryOp, ast.BinOp)


def find_hole(test: ast.expr) -> ast.expr | None:
    """The one part that the candidate must compute. None if there is not exactly one, or if the candidate must compare too."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return find_hole(test.operand)
    if isinstance(test, ast.Compare):
        return _only_unknown([test.left, *test.comparators]) if _identities_make_sense(test) else None
    if isinstance(test, ast.BoolOp) or _is_known(test):
        return None
    if isinstance(test, ast.BinOp) and isinstance(test.op, ast.Sub):
        return _only_unknown([test.left, test.right]) or test
    if isinstance(test, ast.Call) and (arguments := _understood_arguments(test)):
        return _only_unknown(arguments) or test
    return test


def judge_of(test: ast.expr, hole: ast.expr) -> Judge:
    """A function that says whether the test is true for a value of its hole. It keeps no part of the syntax tree."""
    term = _term(test, hole)
    return lambda value: bool(term(value))


def is_searched(test: ast.expr, hole: ast.expr) -> bool:
    """Whether the test asks what is in the hole."""
    if isinstance(test, ast.UnaryOp):
        return is_searched(test.operand, hole)
    return isinstance(test, ast.Compare) and any(
        right is hole and isinstance(op, (ast.In, ast.NotIn)) for op, right in zip(test.ops, test.comparators, strict=True)
    )


def compares_outputs(test: ast.expr) -> bool:
    """Whether the test compares what a program printed, which the candidate cannot do itself."""
    return (
        isinstance(test, ast.Call)
        and _name(test.func) == SAME_OUTPUT
        and not test.keywords
        and len(test.args) == 2
        and isinstance(test.args[1], ast.Constant)
        and isinstance(test.args[1].value, str)
    )


def _only_unknown(nodes: list[ast.expr]) -> ast.expr | None:
    unknown = [node for node in nodes if not _is_known(node)]
    return find_hole(unknown[0]) if len(unknown) == 1 else None


def _identities_make_sense(node: ast.Compare) -> bool:
    """Whether every `is` has None, True or False on one side: other identities do not survive the way between processes."""
    operands = [node.left, *node.comparators]
    pairs = zip(operands, node.ops, operands[1:], strict=False)
    return all(_is_singleton(left) or _is_singleton(right) for left, op, right in pairs if isinstance(op, _IDENTITIES))


def _is_singleton(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and (node.value is None or type(node.value) is bool)


def _understood_arguments(call: ast.Call) -> list[ast.expr]:
    """The arguments that may contain the hole; empty if the candidate must make the call."""
    name = _name(call.func)
    if compares_outputs(call):
        return call.args[:1]
    if name in ("isclose", "math.isclose") and len(call.args) == 2:
        tolerances = [keyword for keyword in call.keywords if keyword.arg in ("rel_tol", "abs_tol")]
        return call.args if len(tolerances) == len(call.keywords) and all(_is_known(k.value) for k in tolerances) else []
    if call.keywords:
        return []
    if name == "abs" and len(call.args) == 1:
        return call.args
    if name == "round" and (len(call.args) == 1 or (len(call.args) == 2 and _is_digits(call.args[1]))):
        return call.args[:1]
    if name == "isinstance" and len(call.args) == 2 and _types(call.args[1]):
        return call.args[:1]
    return []


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        owner = function.value
        if isinstance(owner, ast.Call) and _name(owner.func) == "__import__" and len(owner.args) == 1:
            return f"{getattr(owner.args[0], 'value', '')}.{function.attr}"  # a line's own import
        return f"{owner.id}.{function.attr}" if isinstance(owner, ast.Name) else ""
    return function.id if isinstance(function, ast.Name) else ""


def _is_digits(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int and 0 <= node.value <= 20


def _types(node: ast.expr) -> tuple[type, ...]:
    names = node.elts if isinstance(node, ast.Tuple) else [node]
    known = [BUILTIN_TYPES[name.id] for name in names if isinstance(name, ast.Name) and name.id in BUILTIN_TYPES]
    return tuple(known) if len(known) == len(names) else ()


def _is_known(node: ast.expr) -> bool:
    return _constant(node) is not _UNKNOWN


def _constant(node: ast.expr) -> Any:
    """The value of a literal, or of small arithmetic on numbers (1 / 3, 10**9 + 7); _UNKNOWN for anything else."""
    if isinstance(node, ast.Constant):
        return node.value
    if not isinstance(node, _PERHAPS_CONSTANT) and not _is_empty_set(node):
        return _UNKNOWN
    try:
        return _evaluated(node)
    except (ValueError, TypeError, ArithmeticError, RecursionError, MemoryError):
        return _UNKNOWN


def _is_empty_set(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and not node.args and not node.keywords and _name(node.func) == "set"


def _evaluated(node: ast.expr) -> Any:
    """Raises ValueError, TypeError, ArithmeticError."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        if not isinstance(node, ast.BinOp) or type(node.op) not in _ARITHMETIC:
            raise
    left, right = _evaluated(node.left), _evaluated(node.right)
    if not all(type(side) in (int, float) and abs(side) < 1e30 for side in (left, right)):
        raise ValueError("not small numbers")
    if isinstance(node.op, ast.Pow) and not (abs(right) <= 64 and abs(left) <= 1e9):
        raise ValueError("too large a power")
    return _ARITHMETIC[type(node.op)](left, right)


def _term(node: ast.expr, hole: ast.expr) -> Term:
    if node is hole:
        return _shown
    constant = _constant(node)
    if constant is not _UNKNOWN:
        return lambda value: constant
    if isinstance(node, ast.Compare):
        return _comparison(node, hole)
    if isinstance(node, ast.UnaryOp):
        operand = _term(node.operand, hole)
        return lambda value: not operand(value)
    if isinstance(node, ast.BinOp):
        left, right = _term(node.left, hole), _term(node.right, hole)
        return lambda value: left(value) - right(value)
    if isinstance(node, ast.Call):
        return _call(node, hole)
    raise ValueError("not understood")  # unreachable: find_hole accepts nothing else


def _shown(value: Any) -> Any:
    return value.value if type(value) is Typed else value


def _comparison(node: ast.Compare, hole: ast.expr) -> Term:
    operands = [node.left, *node.comparators]
    steps = [
        (_raw if isinstance(op, _IDENTITIES) and left is hole else _term(left, hole), _COMPARISONS[type(op)],
         _raw if isinstance(op, _IDENTITIES) and right is hole else _term(right, hole))
        for left, op, right in zip(operands, node.ops, operands[1:], strict=False)
    ]  # fmt: skip
    return lambda value: all(compare(left(value), right(value)) for left, compare, right in steps)


def _raw(value: Any) -> Any:
    return value


def _is_instance(value: Any, types: tuple[type, ...]) -> bool:
    kinds = value.kinds if type(value) is Typed else (type(value),)
    return any(issubclass(kind, types) for kind in kinds)


def _call(node: ast.Call, hole: ast.expr) -> Term:
    name, first = _name(node.func), _term(node.args[0], hole)
    if name == "abs":
        return lambda value: abs(first(value))
    if name == "isinstance":
        types = _types(node.args[1])
        raw = _raw if node.args[0] is hole else first
        return lambda value: _is_instance(raw(value), types)
    if name == "round":
        digits = _constant(node.args[1]) if len(node.args) == 2 else None
        return lambda value: round(first(value), digits)
    second = _term(node.args[1], hole)
    if name == SAME_OUTPUT:
        return lambda value: same_output(first(value), second(value))
    tolerances = {keyword.arg: _constant(keyword.value) for keyword in node.keywords if keyword.arg}
    return lambda value: math.isclose(first(value), second(value), **tolerances)
