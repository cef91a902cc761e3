"""Python source in a dataset: what it binds and what it reads."""

from __future__ import annotations

import ast
import symtable
import warnings
from collections.abc import Iterator

from codecascade_client.errors import reason

_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)


def parse(source: str, what: str) -> ast.Module:
    """The syntax tree. Raises ValueError, which says of what, if the source is not Python 3."""
    with warnings.catch_warnings():  # about invalid escapes and the like
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source)
        except SyntaxError as error:
            raise ValueError(f"its {what} is not Python 3: {error.msg}, line {error.lineno}") from error
        except _UNREADABLE as error:
            raise ValueError(f"its {what} is not Python 3: {reason(error)}") from error


def binds_globally(source: str, name: str) -> bool:
    """Whether a program binds a global name: by def, class, import, assignment or loop. False if it does not parse."""
    if name not in source:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return name in _bound(symtable.symtable(source, "<dataset>", "exec"))
        except _UNREADABLE:
            return False


def reads(code: ast.AST) -> set[str]:
    """The global names that code reads and does not bind itself."""
    module = symtable.symtable(ast.unparse(code), "<dataset>", "exec")
    return set(_globals_read(module)) - _bound(module)


def binds(statement: ast.stmt) -> set[str]:
    """The names that a statement of the top level binds."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {statement.name}
    return binds_within(statement)


def binds_within(node: ast.AST) -> set[str]:
    """The names that code binds anywhere in it."""
    names: set[str] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            names.add(part.id)
        elif isinstance(part, (ast.Import, ast.ImportFrom)):
            names.update(alias.asname or alias.name.partition(".")[0] for alias in part.names if alias.name != "*")
        elif isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(part.name)
    return names


def packages_needed(code: ast.AST) -> set[str]:
    """The packages that code imports, without those whose absence it handles."""
    packages: set[str] = set()
    waiting = [code]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            packages.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            packages.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Try) and node.handlers:
            waiting += [*node.handlers, *node.finalbody]
        else:
            waiting += ast.iter_child_nodes(node)
    return packages


def _bound(table: symtable.SymbolTable) -> set[str]:
    return {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}


def _globals_read(table: symtable.SymbolTable) -> Iterator[str]:
    top = table.get_type() == "module"
    yield from (symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced() and (top or symbol.is_global()))
    for child in table.get_children():
        yield from _globals_read(child)
