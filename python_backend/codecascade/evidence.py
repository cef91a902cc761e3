"""Which test lines are evidence: those that can fail.

A line that passes whatever the function returns says nothing about a candidate. To tell, a line runs against two stubs: the
prompt's code, with the function replaced by one that takes anything and always returns the same value, which equals nothing
else. In one stub this value is true, in the other it is false. A line that passes for both is no evidence. The form of nearly
every line shows that it can fail; then nothing runs.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Sequence
from functools import lru_cache

from codecascade.errors import NO_VERDICT
from codecascade.texts.syntax import outline, tree
from codecascade.texts.test_lines import is_use_of
from codecascade.texts.units import called_name
from codecascade.types import Candidate, Sandbox, Task, TestLine

_STUB = """

class _Nothing:
    def __bool__(self):
        return {truth}


_nothing = _Nothing()


{prefix}def _tells_nothing(*arguments, **options):
    return _nothing


{name} = property(_tells_nothing) if isinstance({name}, property) else _tells_nothing
"""
_BUILTINS = frozenset(dir(builtins))
_NEED_MORE = {  # functions that raise for a value of which nothing is known
    *("abs", "all", "any", "bytes", "dict", "enumerate", "float", "frozenset", "int", "isclose", "len", "list", "max", "min"),
    *("next", "reversed", "round", "set", "sorted", "sum", "tuple", "zip"),
}


async def evidence_in(task: Task, lines: Sequence[TestLine], sandbox: Sandbox) -> tuple[tuple[TestLine, ...], float]:
    """The lines that can fail, in order, and the CPU seconds that it took to tell.

    Where the sandbox gives no verdict, every line is kept.
    """
    doubtful = doubtful_lines(task, lines)
    if not doubtful:
        return tuple(lines), 0.0
    try:
        matrix = await sandbox.run(stubs(task), list(doubtful.values()))
    except NO_VERDICT:
        return tuple(lines), 0.0
    useless = {line for line, passed in zip(doubtful, matrix.passed.all(axis=0), strict=True) if passed}
    return tuple(line for line in lines if line not in useless), float(matrix.cpu_s.sum())


def doubtful_lines(task: Task, lines: Sequence[TestLine]) -> dict[TestLine, TestLine]:
    """The lines that may be unable to fail, each with the line that tells when the stubs run it."""
    name, by_form = task.entry_point, not _is_coroutine(task)
    trials = {line: _trial(line.source, name, by_form) for line in lines} if name else {}
    return {line: TestLine(trial) for line, trial in trials.items() if trial}


def stubs(task: Task) -> tuple[Candidate, Candidate]:
    """The two programs. A coroutine function stays one, and so does a property."""
    program, prefix = outline(task.prompt).closed or "", "async " if _is_coroutine(task) else ""
    name = called_name(task.entry_point or "")
    true, false = (program + _STUB.format(truth=truth, name=name, prefix=prefix) for truth in (True, False))
    return Candidate(true), Candidate(false)


def _is_coroutine(task: Task) -> bool:
    """Whether a call of the function gives a coroutine, of which the form of a line tells nothing."""
    name = (task.entry_point or "").rpartition(".")[2]
    return "async" in task.prompt and re.search(rf"\basync\s+def\s+{name}\b", task.prompt) is not None


@lru_cache(maxsize=4096)
def _trial(line: str, name: str, by_form: bool) -> str:
    """Empty if the line can fail. `and` makes Python itself judge the line, as no part of it has to be hidden from a stub."""
    module = tree(line)
    statement = module.body[0] if module and module.body else None
    if not isinstance(statement, ast.Assert):
        return ""  # the sandbox says what it is
    try:
        return "" if by_form and _fails(statement.test, name) else f"assert True and ({ast.unparse(statement.test)})"
    except (RecursionError, ValueError):
        return ""


def _fails(test: ast.expr, name: str) -> bool:
    """Whether the form of a test shows that it is false, or raises, for one of the stubs."""
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        return _comparison_fails(test.left, test.ops[0], test.comparators[0], name)
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return any(_fails(value, name) for value in test.values)
    value = test.operand if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not) else test
    return _is_result(value, name) or _raises(value, name)


def _comparison_fails(left: ast.expr, op: ast.cmpop, right: ast.expr, name: str) -> bool:
    if _raises(left, name) or _raises(right, name):
        return True
    if isinstance(op, (ast.NotEq, ast.IsNot, ast.NotIn)):  # no stub returns 5, so `f(2) != 5` does not fail
        return False
    return any(_is_result(one, name) and _is_plain(other, name) for one, other in ((left, right), (right, left)))


def _is_result(node: ast.AST, name: str) -> bool:
    """Whether it is a call of the function."""
    return isinstance(node, ast.Call) and is_use_of(node.func, name)


def _raises(node: ast.AST, name: str) -> bool:
    """Whether computing it raises for both stubs, because it needs more of the function's result than that there is one."""
    used: list[ast.expr] = []
    if isinstance(node, ast.Call) and _called(node) in _NEED_MORE - {name}:
        used = node.args[:1]
    elif isinstance(node, ast.BinOp):
        used = [node.left] if isinstance(node.op, ast.Mod) else [node.left, node.right]  # "%s" % f(2) raises nothing
    elif isinstance(node, ast.Subscript):
        used = [node.value]
    return any(_is_result(part, name) or _raises(part, name) for part in used)


def _called(call: ast.Call) -> str:
    """The name of the function, if it has one; of a module's functions only isclose counts."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr if call.func.attr == "isclose" else ""
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _is_plain(node: ast.AST, name: str) -> bool:
    """Whether its value is one of Python's own, so that no stub's value equals it."""
    return all(not isinstance(part, ast.Name) or part.id in _BUILTINS - {name} for part in ast.walk(node))
