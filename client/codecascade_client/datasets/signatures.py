"""The header of a function whose body is to be written, and what that header needs so that it can run at all."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from codecascade_client.datasets.python_source import binds, reads

_BUILTINS = frozenset(dir(builtins))
_NO_NAMES: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Header:
    """`def name(parameters):`, and the statements that must stand above it."""

    above: str  # whole lines; empty if the header needs nothing
    parameters: str


def header(
    function: ast.FunctionDef,
    module: ast.Module,
    *,
    used: Collection[str] = (),
    known: Collection[str] = (),
    provided: Mapping[str, str] = _NO_NAMES,
) -> Header:
    """The header of `function`. Its defaults and annotations see what the module's own top level gives them.

    used: further names that must be there, because tests use them; names that nothing gives do not matter.
    known: names that are there already.
    provided: import statements by the name that they give, for names that the module does not give.
    An annotation that nothing gives a meaning becomes a text, which Python does not look up. Raises ValueError for such a
    default, and for one that is computed with the function itself.
    """
    annotations = [argument for argument in _arguments(function.args) if argument.annotation]
    defaults = set().union(*(reads(node) for node in (*function.args.defaults, *function.args.kw_defaults) if node))
    wanted = defaults.union(used, *(reads(argument.annotation) for argument in annotations if argument.annotation))
    wanted -= {*known, *_BUILTINS}
    above, looked_for = _statements(module, function, wanted, {*known, *_BUILTINS})
    given = set().union(_BUILTINS, known, *(binds(statement) for statement in above))
    imports = sorted({provided[name] for name in looked_for - given if name in provided})
    given.update(provided)
    stars = [node for node in module.body if _is_star(node)] if wanted - given else []
    if not stars:
        for name in sorted(defaults - given):
            raise ValueError(f"a default of its parameters needs {name!r}, which nothing defines")
        for argument in annotations:
            if argument.annotation and reads(argument.annotation) - given:
                argument.annotation = ast.Constant(ast.unparse(argument.annotation))
    statements = [node for node in module.body if node in above or node in stars]
    lines = [*imports, *(ast.unparse(statement) for statement in statements)]
    return Header("".join(f"{line}\n" for line in lines), ast.unparse(function.args))


def _statements(
    module: ast.Module, function: ast.FunctionDef, wanted: set[str], known: set[str]
) -> tuple[list[ast.stmt], set[str]]:
    """The statements that bind the wanted names, and those that these need in turn, in order; and all names looked for."""
    candidates = [node for node in module.body if not (isinstance(node, ast.FunctionDef) and node.name == function.name)]
    chosen: list[ast.stmt] = []
    looking = set(wanted)
    while new := [node for node in candidates if node not in chosen and binds(node) & looking]:
        chosen += new
        for node in new:
            runs_now = not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            if runs_now and function.name in reads(node):
                names = ", ".join(sorted(binds(node)))
                raise ValueError(f"its header needs {names}, which is computed with {function.name!r} itself")
            looking |= reads(node) - known - {function.name}
    return [node for node in module.body if node in chosen], looking


def _arguments(arguments: ast.arguments) -> list[ast.arg]:
    variable = [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *variable]


def _is_star(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
