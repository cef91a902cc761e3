"""Takes out of a program what only tries its function out: it costs time and may fail."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from codecascade.texts.blocks import changed_names
from codecascade.texts.names import global_reads, unresolved_names
from codecascade.texts.syntax import DEFINITIONS, IMPORTS, lines_of, parses, source_of, tree

_LOOSE_STATEMENT = re.compile(r"^(?!def |async |class |import |from |@|[)\]}#])\S", re.MULTILINE)
_INPUT = {"input", "raw_input", "__name__"}
_INPUT_OF_SYS = {"stdin", "argv"}
_TRYING = {"print", "pprint", "exit", "quit", "open", "unittest", "doctest", "pytest", "timeit"}


def without_usage(program: str, after: int, name: str) -> str:
    """The program without the top-level statements below line `after` that only try the function `name` out.

    Those are prints, asserts, calls of the function, reading of input, `if __name__ == "__main__":`, and what depends on them.
    What gives a value to a name that the function needs stays, and so does every other statement.
    """
    lines = program.split("\n")
    if not _LOOSE_STATEMENT.search("\n".join(lines[after:])):
        return program
    module = tree(program)
    if module is None:
        return program
    usage = _Usage(module, lines, name.partition(".")[0]).statements(after)
    numbers = {id(node) for node in usage}
    kept_lines = {line for node in module.body if id(node) not in numbers for line in lines_of(node)}
    gone = {line for node in usage for line in (*_comment_above(node, lines, after), *lines_of(node))} - kept_lines
    shorter = "\n".join(line for number, line in enumerate(lines, 1) if number not in gone)
    return shorter if parses(shorter) else program


class _Usage:
    """Sorts the top-level statements of a program."""

    def __init__(self, module: ast.Module, lines: list[str], function: str) -> None:
        self._unresolved = set(unresolved_names("\n".join(lines)))
        self._body = module.body
        self._function = function
        self._names = [_names_read(node) for node in module.body]
        self._globals = [
            global_reads(source_of(node, lines)) if _has_scopes(node) else names | set(changed_names(node))
            for node, names in zip(module.body, self._names, strict=True)
        ]
        self._writes = self._names_written()
        self._needed = self._names_needed()
        self._drivers = self._names_of_drivers()

    def statements(self, after: int) -> list[ast.stmt]:
        """Those that try the function out."""
        gone: list[int] = []
        from_input: set[str] = set()
        trying = {self._function, *self._drivers, *_TRYING}
        for number, node in enumerate(self._body):
            names = self._names[number]
            if node.lineno <= after or isinstance(node, (*DEFINITIONS, *IMPORTS)):
                continue
            if isinstance(node, ast.Assert) or _reads_input(node, names) or names & from_input:
                from_input.update(changed_names(node))
            elif self._gives_what_is_needed(number):
                continue
            elif names & trying or self._does_nothing(node, names) or self._leaves(node):
                trying.update(set(changed_names(node)) - self._needed)
            else:
                continue
            gone.append(number)
        gone += self._only_for(set(gone), after) if gone else []
        return [self._body[number] for number in gone]

    def _gives_what_is_needed(self, number: int) -> bool:
        """Whether it changes something that the function needs, or the function itself: to anything but its own result."""
        written = self._writes[number] & self._needed
        return bool(written - {self._function}) or (bool(written) and self._function not in _called(self._body[number]))

    def _only_for(self, gone: set[int], after: int) -> list[int]:
        """The assignments whose names nothing reads but what goes."""
        readers: dict[str, set[int]] = {}
        for number, names in enumerate(self._names):
            for name in names:
                readers.setdefault(name, set()).add(number)
        more: list[int] = []
        for number in reversed(range(len(self._body))):
            node = self._body[number]
            if node.lineno <= after or number in gone or not isinstance(node, ast.Assign):
                continue
            names = set(changed_names(node)) - self._needed
            read_by = set[int]().union(*(readers.get(name, set()) for name in names)) - {number}
            if read_by and read_by <= gone.union(more):
                more.append(number)
        return more

    def _names_written(self) -> list[set[str]]:
        """By statement the names that it binds or changes, also through functions of the program that it calls."""
        through: dict[str, set[str]] = {}
        for node, names, read in zip(self._body, self._names, self._globals, strict=True):
            if isinstance(node, DEFINITIONS) and self._function not in names:
                through.setdefault(node.name, set()).update(set(changed_names(node)) & read - {node.name})
        return [
            {node.name}
            if isinstance(node, DEFINITIONS)
            else set(changed_names(node)).union(*(through[called] for called in _called(node) if called in through))
            for node in self._body
        ]

    def _names_needed(self) -> set[str]:
        """What the function reads from its module, directly or through what gives it a value."""
        writers: dict[str, list[int]] = {}
        for number, written in enumerate(self._writes):
            for name in written:
                writers.setdefault(name, []).append(number)
        needed, waiting = {self._function}, [self._function]
        while waiting:
            for number in writers.pop(waiting.pop(), ()):
                new = self._globals[number] - needed
                needed |= new
                waiting += new
        return needed

    def _names_of_drivers(self) -> set[str]:
        """The functions and classes that try the function out, unless it needs them itself."""
        definitions = [
            (node.name, names, _asserts(node))
            for node, names in zip(self._body, self._names, strict=True)
            if isinstance(node, DEFINITIONS) and node.name not in self._needed
        ]
        drivers: set[str] = set()
        trying = {self._function, "print", *_INPUT}
        for _ in definitions:
            found = {name for name, names, asserts in definitions if asserts or names & (trying | drivers)}
            if found == drivers:
                break
            drivers = found
        return drivers

    def _does_nothing(self, node: ast.stmt, names: set[str]) -> bool:
        """Whether it has no effect or cannot run, as words of prose that happen to parse."""
        return _has_no_effect(node) or bool(names & self._unresolved)

    def _leaves(self, node: ast.AST) -> bool:
        """Whether it ends the process, or calls a method of the function's name."""
        attributes = {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
        return bool(attributes & {"exit", "_exit", self._function})


def _names_read(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)}


def _has_scopes(node: ast.AST) -> bool:
    """Whether there are names in it that are not the module's."""
    scopes = (*DEFINITIONS, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    return any(isinstance(part, scopes) for part in ast.walk(node))


def _called(node: ast.AST) -> Iterator[str]:
    return (part.func.id for part in ast.walk(node) if isinstance(part, ast.Call) and isinstance(part.func, ast.Name))


def _asserts(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Assert) for part in ast.walk(node))


def _reads_input(node: ast.AST, names: set[str]) -> bool:
    return bool(names & _INPUT) or any(
        isinstance(part, ast.Attribute)
        and part.attr in _INPUT_OF_SYS
        and isinstance(part.value, ast.Name)
        and part.value.id == "sys"
        for part in ast.walk(node)
    )


def _has_no_effect(node: ast.stmt) -> bool:
    """Whether it is an expression that calls nothing, or an annotation without a value: often a word of prose."""
    if isinstance(node, ast.AnnAssign):
        return node.value is None
    acting = (ast.Call, ast.Await, ast.NamedExpr, ast.Yield, ast.YieldFrom)
    return isinstance(node, ast.Expr) and not any(isinstance(part, acting) for part in ast.walk(node))


def _comment_above(node: ast.stmt, lines: list[str], after: int) -> range:
    first = node.lineno
    while first - 1 > after and lines[first - 2].startswith("#"):
        first -= 1
    return range(first, node.lineno)
