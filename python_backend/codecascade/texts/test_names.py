"""What the names in a test line stand for. A line runs with a candidate and nothing else, so it has to bring what it needs."""

from __future__ import annotations

import ast
import builtins
import copy
import re
import symtable
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache

from codecascade.texts.syntax import outline

_MAX_NODES = 2_000  # of the values that are put into the lines of one sample
_BUILTINS = frozenset(dir(builtins))
_ALIASES = {"np": "numpy", "pd": "pandas"}
_INNER_SCOPES = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_CONSTANT = (ast.Constant, ast.Tuple, ast.UnaryOp, ast.BinOp, ast.operator, ast.unaryop, ast.expr_context)


class Names:
    """The names of one sample: Python's, those of the prompt's program, modules, and those that a line sets."""

    def __init__(self, prompt: str, modules: Collection[str]) -> None:
        """modules: what the sandbox offers besides the standard library."""
        self._given = _given_by(prompt)
        self._modules = frozenset(modules) | sys.stdlib_module_names
        self._set: dict[str, ast.expr | None] = {}  # None: what it stands for is not known
        self._depths: dict[str, int] = {}  # of the blocks in which the names were set
        self._depth = 0
        self._nodes_left = _MAX_NODES

    def enter(self, depth: int) -> None:
        """Go on in a block of this depth. What a deeper block has set is not known there."""
        if depth < self._depth:
            self._set = {name: value for name, value in self._set.items() if self._depths[name] <= depth}
        self._depth = depth

    def resolved(self, test: ast.expr) -> ast.expr | None:
        """The test with the values in it of all names that only the sample knows; None if one of them is not known."""
        reads = Counter(_free_names(test))
        values = {name: self._value(name, test) for name in reads if name in self._set or not self._is_given(name)}
        if not values:
            return test
        known = {name: value for name, value in values.items() if value is not None}
        self._nodes_left -= sum(reads[name] * sum(1 for _ in ast.walk(value)) for name, value in known.items())
        return _with(test, known, reads) if len(known) == len(values) and self._nodes_left >= 0 else None

    def note(self, line: ast.stmt | str, certain: bool) -> None:
        """Learn what a statement sets, and forget what it, or the header of a block, may change.

        certain: it runs once, whatever happens.
        """
        if isinstance(line, str):
            self._forget(re.findall(r"\w+", line))
            return
        try:
            learned = dict(self._learned(line)) if certain else {}
        except RecursionError:
            learned = {}
        if not learned and not _only_shows(line):
            self._forget(_names(line))
        self._set.update(learned)
        self._depths.update(dict.fromkeys(learned, self._depth))

    def _forget(self, names: Iterable[str]) -> None:
        self._set.update(dict.fromkeys(self._set.keys() & set(names)))

    def _is_given(self, name: str) -> bool:
        return self._given is None or name in self._given or name in _BUILTINS

    def _value(self, name: str, test: ast.expr) -> ast.expr | None:
        if name in self._set:
            return self._set[name]
        owners = {id(part.value) for part in ast.walk(test) if isinstance(part, ast.Attribute)}
        used_as_module = all(id(part) in owners for part in ast.walk(test) if isinstance(part, ast.Name) and part.id == name)
        return self._module(_ALIASES.get(name, name)) if used_as_module else None

    def _module(self, name: str) -> ast.expr | None:
        if name.partition(".")[0] not in self._modules:
            return None
        return ast.Call(ast.Name("__import__", ast.Load()), [ast.Constant(name)], [])

    def _learned(self, statement: ast.stmt) -> Iterator[tuple[str, ast.expr | None]]:
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                yield from self._assigned(target, statement.value)
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            yield from self._assigned(statement.target, statement.value)
        elif isinstance(statement, ast.Import):
            for alias in statement.names:
                top = alias.name.partition(".")[0]
                yield alias.asname or top, self._module(alias.name) if alias.asname in (None, top) or top == alias.name else None
        elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            for alias in statement.names:
                yield alias.asname or alias.name, self._member(f"{statement.module}.{alias.name}", statement.module)

    def _member(self, path: str, module: str) -> ast.expr | None:
        value = self._module(module)
        if value is not None:
            for part in path.split(".")[1:]:
                value = ast.Attribute(value, part, ast.Load())
        return value

    def _assigned(self, target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr | None]]:
        if isinstance(target, ast.Name):
            yield target.id, self.resolved(value)
        elif isinstance(target, (ast.Tuple, ast.List)):
            values = value.elts if isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(target.elts) else None
            for place, part in enumerate(target.elts):
                yield from self._assigned(part, values[place]) if values else dict.fromkeys(_names(part)).items()


def put_in(test: ast.expr, values: Mapping[str, ast.expr]) -> ast.expr:
    """A copy of an expression with values in the place of names."""

    class PutIn(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return values.get(node.id, node)

    result: ast.expr = PutIn().visit(copy.deepcopy(test))
    return result


def _with(test: ast.expr, values: Mapping[str, ast.expr], reads: Mapping[str, int]) -> ast.expr:
    """The test with the values: each in its place, or as an argument of a lambda if it may be computed only once."""
    repeats = any(isinstance(part, _INNER_SCOPES) for part in ast.walk(test))
    once = {name: value for name, value in values.items() if (reads[name] > 1 or repeats) and not _is_constant(value)}
    inside = put_in(test, {name: value for name, value in values.items() if name not in once})
    if not once:
        return inside
    parameters = ast.arguments([], [ast.arg(name) for name in once], None, [], [], None, [])
    return ast.Call(ast.Lambda(parameters, inside), list(once.values()), [])


def _is_constant(value: ast.expr) -> bool:
    """Whether it may be computed again and again: numbers, texts, tuples of them, modules."""
    while isinstance(value, ast.Attribute):
        value = value.value
    is_module = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "__import__"
    return is_module or all(isinstance(part, _CONSTANT) for part in ast.walk(value))


def _free_names(test: ast.expr) -> list[str]:
    """The names that the test reads and does not bind itself, as often as it reads them."""
    read, bound = [], set()
    for part in ast.walk(test):
        if isinstance(part, ast.Name):
            read.append(part.id)
            if not isinstance(part.ctx, ast.Load):
                bound.add(part.id)
        elif isinstance(part, ast.arg):
            bound.add(part.arg)
    return [name for name in read if name not in bound]


def _names(node: ast.AST) -> list[str]:
    return [part.id for part in ast.walk(node) if isinstance(part, ast.Name)]


def _only_shows(statement: ast.stmt) -> bool:
    """Whether it changes nothing: an assert, a text, a print, `pass`."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        return isinstance(statement.value.func, ast.Name) and statement.value.func.id == "print"
    return isinstance(statement, (ast.Assert, ast.Expr, ast.Pass))


@lru_cache(maxsize=256)
def _given_by(prompt: str) -> frozenset[str] | None:
    """The names that the prompt's program sets; None if that cannot be told, as after `from math import *`."""
    program = outline(prompt).closed or ""
    try:
        symbols = symtable.symtable(program, "<prompt>", "exec").get_symbols()
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in ast.walk(ast.parse(program))):
        return None
    return frozenset(symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported())
