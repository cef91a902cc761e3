"""Which names a program reads, and which of them nothing binds."""

from __future__ import annotations

import builtins
import re
import symtable
import warnings
from collections.abc import Iterator

from codecascade.texts.syntax import FILENAME, REFUSED

# Names with which a program can bind or look up others in ways that its text does not show.
_HIDDEN_BINDINGS = frozenset(("globals", "locals", "vars", "exec", "eval", "__builtins__", "__import__", "NameError"))
_ALWAYS_BOUND = frozenset(dir(builtins)) | {
    "__file__",
    "__annotations__",
    "__builtins__",
    "__class__",
    "__classcell__",
    "__module__",
    "__qualname__",
    "__path__",
    "WindowsError",
}


def unresolved_names(source: str) -> tuple[str, ...]:
    """The names that a program reads and neither it, its imports nor the builtins bind, sorted.

    None where the program binds names in ways that its text does not show: a star import, `globals()`, `exec`, `del`.
    """
    table = _symbols(source)
    if table is None or re.search(r"\bimport\s*\*|^[ \t]*del\b", source, re.MULTILINE):
        return ()
    read: set[str] = set()
    bound = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    for scope in _scopes(table):
        for symbol in scope.get_symbols():
            if symbol.is_global() or scope is table:
                if symbol.is_referenced():
                    read.add(symbol.get_name())
                if symbol.is_declared_global() and (symbol.is_assigned() or symbol.is_imported()):
                    bound.add(symbol.get_name())
    if read & _HIDDEN_BINDINGS:
        return ()
    return tuple(sorted(name for name in read - bound - _ALWAYS_BOUND if name.isidentifier()))


def global_reads(source: str) -> set[str]:
    """The names that a piece of a program reads from its module, or binds there itself."""
    table = _symbols(source)
    if table is None:
        return set()
    scopes = _scopes(table)
    return {symbol.get_name() for scope in scopes for symbol in scope.get_symbols() if symbol.is_global() or scope is table}


def _symbols(source: str) -> symtable.SymbolTable | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return symtable.symtable(source, FILENAME, "exec")
    except (SyntaxError, *REFUSED):
        return None


def _scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    waiting = [table]
    while waiting:
        scope = waiting.pop()
        yield scope
        waiting += scope.get_children()
