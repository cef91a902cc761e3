"""Makes a method reachable by a function's name: some models write a class `Solution` where a function was asked for."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from codecascade.texts.blocks import mentions
from codecascade.texts.syntax import FUNCTIONS, has_body, tree

_CLASS = re.compile(r"^class\s", re.MULTILINE)


def with_method_as_function(program: str, after: int, name: str) -> str:
    """The program with the function bound to a method of its name, if a class below line `after` has one and nothing else is."""
    if not _CLASS.search(program):
        return program
    module = tree(program)
    body = module.body if module else []
    below = [node for node in body if node.lineno > after]
    functions = [node for node in body if isinstance(node, FUNCTIONS) and node.name == name]
    assigned = any(isinstance(node, ast.Assign) and mentions(ast.unparse(node), name) for node in below)
    if assigned or not functions or functions[-1] in below or has_body(functions[-1]):
        return program
    methods = (method for node in reversed(below) if isinstance(node, ast.ClassDef) for method in _methods_like(node, name))
    method = next(methods, None)
    return f"{program.rstrip()}\n\n\n{name} = {method}\n" if method else program


def _methods_like(node: ast.ClassDef, name: str) -> Iterator[str]:
    """Expressions for the methods of a class that have the name, written with or without underscores and capitals."""
    for method in node.body:
        if not isinstance(method, FUNCTIONS) or _plain(method.name) != _plain(name):
            continue
        kinds = {part.id for part in method.decorator_list if isinstance(part, ast.Name)}
        if kinds & {"staticmethod", "classmethod"}:
            yield f"{node.name}.{method.name}"
        elif not any(_needs_arguments(part) for part in node.body):
            yield f"{node.name}().{method.name}"


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _needs_arguments(node: ast.stmt) -> bool:
    """Whether it is an `__init__` that cannot be called without arguments."""
    if not isinstance(node, ast.FunctionDef) or node.name != "__init__":
        return False
    arguments = node.args
    positional = len(arguments.posonlyargs) + len(arguments.args) - 1 - len(arguments.defaults)
    return positional > 0 or None in arguments.kw_defaults
