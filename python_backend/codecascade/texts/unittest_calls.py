"""The checks of unittest as plain tests."""

from __future__ import annotations

import ast
import inspect
import unittest

from codecascade.texts.test_names import put_in

_CHECKS = {  # in the names of the method's parameters
    "assertEqual": "first == second",
    "assertNotEqual": "first != second",
    "assertListEqual": "list1 == list2",
    "assertTupleEqual": "tuple1 == tuple2",
    "assertDictEqual": "d1 == d2",
    "assertSetEqual": "set1 == set2",
    "assertSequenceEqual": "seq1 == seq2",
    "assertMultiLineEqual": "first == second",
    "assertAlmostEqual": "round(first - second, places) == 0",
    "assertNotAlmostEqual": "round(first - second, places) != 0",
    "assertTrue": "expr",
    "assertFalse": "not expr",
    "assertIs": "expr1 is expr2",
    "assertIsNot": "expr1 is not expr2",
    "assertIsNone": "obj is None",
    "assertIsNotNone": "obj is not None",
    "assertIsInstance": "isinstance(obj, cls)",
    "assertNotIsInstance": "not isinstance(obj, cls)",
    "assertIn": "member in container",
    "assertNotIn": "member not in container",
    "assertGreater": "a > b",
    "assertGreaterEqual": "a >= b",
    "assertLess": "a < b",
    "assertLessEqual": "a <= b",
}
_WITHIN = {
    "assertAlmostEqual": "abs(first - second) <= delta",
    "assertNotAlmostEqual": "abs(first - second) > delta",
}
_PLACES = ast.Constant(7)


def test_of_call(call: ast.expr) -> ast.expr | None:
    """`first == second` for `self.assertEqual(first, second)`; None if it is no such call."""
    if not isinstance(call, ast.Call) or not isinstance(call.func, (ast.Attribute, ast.Name)):
        return None
    name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id
    name = name.removesuffix("s") if name.endswith("Equals") else name
    arguments = _arguments(name, call) if name in _CHECKS else None
    if arguments is None:
        return None
    check = _WITHIN[name] if "delta" in arguments else _CHECKS[name]
    return put_in(ast.parse(check, mode="eval").body, {"places": _PLACES, **arguments})


def _arguments(name: str, call: ast.Call) -> dict[str, ast.expr] | None:
    """By parameter; None if unittest would not take them."""
    if any(isinstance(argument, ast.Starred) for argument in call.args):
        return None
    given = {str(keyword.arg): keyword.value for keyword in call.keywords}
    try:
        bound = inspect.signature(getattr(unittest.TestCase, name)).bind(None, *call.args, **given)
    except TypeError:
        return None
    return {parameter: value for parameter, value in bound.arguments.items() if isinstance(value, ast.expr)}
