"""Takes the body of a function out of an answer that writes the whole function again, to go on where the prompt stops."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import lru_cache

from codecascade.texts.syntax import DEFINITIONS, FUNCTIONS, Outline, lines_of, source_of, tree


@dataclass(frozen=True, slots=True)
class _Open:
    """The function that a prompt opens: it has no more than a docstring."""

    module: ast.Module
    classes: tuple[ast.ClassDef, ...]
    """The classes around it, from the outermost."""
    function: ast.FunctionDef | ast.AsyncFunctionDef


def with_body(given: Outline, code: str) -> str | None:
    """The prompt's code, the body that `code` gives its open function, and below it what else is in `code`.

    None where that could mean something else than `code` does, or cannot be told.
    """
    opened = _open_function(given)
    module = tree(code) if opened else None
    place = _same_function(module, opened) if module and opened else None
    if module is None or opened is None or place is None:
        return None
    holder, function = place
    lines = code.split("\n")
    body = _body(function, opened.function, lines, given.indent)
    members = _members(holder, function, opened, lines)
    if body is None or members is None:
        return None
    rest = _rest(module, holder or function, opened.module, lines, used=f"{body}\n{members}")
    start = given.code if given.code.endswith("\n") else f"{given.code}\n"
    return start + "\n\n".join(filter(None, (body, members))) + (f"\n\n\n{rest}" if rest else "") + "\n"


@dataclass(frozen=True, slots=True)
class Header:
    """The header of the function that a prompt opens."""

    name: str
    margin: str
    """Its indentation: a method's is not empty."""


def opened(given: Outline) -> Header | None:
    """The header below which the prompt has no more than a docstring, if it ends so."""
    found = _open_function(given)
    return Header(found.function.name, " " * found.function.col_offset) if found else None


def _open_function(given: Outline) -> _Open | None:
    if given.closed is None or not given.indent or not given.finished:
        return None
    return _open_function_of(given.closed)


@lru_cache(maxsize=64)
def _open_function_of(closed: str) -> _Open | None:
    module = tree(closed)
    node: ast.AST | None = module
    path: list[ast.AST | None] = []
    while isinstance(node, (ast.Module, *DEFINITIONS)) and node.body:
        node = node.body[-1]
        path.append(node)
    definitions = [node for node in path if isinstance(node, DEFINITIONS)]
    function = definitions[-1] if definitions else None
    if module is None or not isinstance(function, FUNCTIONS):
        return None
    around = definitions[:-1]
    classes = tuple(node for node in around if isinstance(node, ast.ClassDef))
    documented = ast.get_docstring(function, clean=False) is not None
    nothing_else = len(function.body) == 1 + documented and isinstance(function.body[-1], ast.Pass)
    return _Open(module, classes, function) if nothing_else and len(classes) == len(around) else None


def _same_function(
    module: ast.Module, opened: _Open
) -> tuple[ast.ClassDef | None, ast.FunctionDef | ast.AsyncFunctionDef] | None:
    """The last function of the same signature: in a class of the same name, or at top level, where a lone method may stand."""
    if len(opened.classes) > 1:
        return None
    classes = [
        node for node in module.body if isinstance(node, ast.ClassDef) and opened.classes and node.name == opened.classes[-1].name
    ]
    holder = classes[-1] if classes else None
    named = [node for node in (holder or module).body if isinstance(node, FUNCTIONS) and node.name == opened.function.name]
    if len(named) != 1 or _signature(named[0]) != _signature(opened.function):
        return None
    known = {ast.dump(decorator) for decorator in opened.function.decorator_list}
    if {ast.dump(decorator) for decorator in named[0].decorator_list} - known:
        return None
    return holder, named[0]


def _signature(function: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[type, str]:
    """What a call of the function sees: its parameters and defaults, not its annotations."""
    arguments = function.args
    names = [[argument.arg for argument in group] for group in (arguments.posonlyargs, arguments.args, arguments.kwonlyargs)]
    defaults = [ast.dump(default) if default else "" for default in (*arguments.defaults, *arguments.kw_defaults)]
    starred = [argument and argument.arg for argument in (arguments.vararg, arguments.kwarg)]
    return type(function), repr((names, defaults, starred))


def _body(
    function: ast.FunctionDef | ast.AsyncFunctionDef,
    opened: ast.FunctionDef | ast.AsyncFunctionDef,
    lines: list[str],
    margin: str,
) -> str | None:
    """The statements of the function as they go on in the prompt: without its docstring where the prompt has one."""
    statements = list(function.body)
    first_line = statements[0].lineno
    if ast.get_docstring(function, clean=False) is not None and ast.get_docstring(opened) is not None:
        docstring = statements.pop(0)
        first_line = (docstring.end_lineno or docstring.lineno) + 1
    if not statements or first_line <= function.lineno or statements[0].lineno < first_line:
        return None
    end = statements[-1].end_lineno or statements[-1].lineno
    own = lines[statements[0].lineno - 1][: statements[0].col_offset]
    text = _moved(lines[first_line - 1 : end], own, margin, statements)
    return text and text.strip("\n")


def _moved(lines: list[str], own: str, margin: str, nodes: list[ast.stmt]) -> str | None:
    """The lines at another margin. None where a string over several lines would change with it."""
    if own.strip():
        return None
    if own == margin:
        return "\n".join(lines)
    strings = (part for node in nodes for part in ast.walk(node) if isinstance(part, (ast.Constant, ast.JoinedStr)))
    if any(part.end_lineno != part.lineno for part in strings) or any("\t" in line for line in lines):
        return None
    return "\n".join(margin + line[len(own) :] if line.startswith(own) else line for line in lines)


def _members(holder: ast.ClassDef | None, function: ast.AST, opened: _Open, lines: list[str]) -> str | None:
    """What else the answer's class has and the prompt's has not, as members of the prompt's. None if that cannot be moved."""
    if holder is None:
        return ""
    known = {name for node in opened.classes[-1].body for name in _names(node)}
    new = [node for node in holder.body if node is not function and set(_names(node)) - known]
    if not new:
        return ""
    own = lines[function.lineno - 1][: function.col_offset] if isinstance(function, FUNCTIONS) else ""
    margin = " " * opened.function.col_offset
    texts = [_moved(source_of(node, lines).split("\n"), own, margin, [node]) for node in new]
    return None if None in texts else "\n\n".join(text for text in texts if text)


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, DEFINITIONS):
        return [node.name]
    return [part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)]


def _rest(module: ast.Module, top: ast.stmt, given: ast.Module, lines: list[str], used: str) -> str:
    """The code without the function, without what the prompt has already, and without imports that nothing uses."""
    imported = {name for node in given.body for name in _imports(node)}
    gone = {top}
    gone.update(node for node in module.body if node is not top and _defined_in(given, node))
    gone.update(node for node in module.body if (imports := _imports(node)) and set(imports) <= imported)
    others = "\n".join(source_of(node, lines) for node in module.body if node not in gone and not _imports(node))
    words = set(re.findall(r"[^\W\d]\w*", f"{used}\n{others}")) | {"*"}
    gone.update(node for node in module.body if (imports := _imports(node)) and not words & _bound(imports))
    if len(gone) == len(module.body):
        return ""
    numbers = {number for node in gone for number in lines_of(node)}
    return "\n".join(line for number, line in enumerate(lines, 1) if number not in numbers).strip("\n")


def _defined_in(module: ast.Module, node: ast.stmt) -> bool:
    """Whether the module has the same definition. To compare names first saves most of the work."""
    if not isinstance(node, DEFINITIONS):
        return False
    named = [other for other in module.body if isinstance(other, DEFINITIONS) and other.name == node.name]
    return any(ast.dump(other) == ast.dump(node) for other in named)


def _bound(imports: list[tuple[str, str, str | None]]) -> set[str]:
    return {(alias or name).partition(".")[0] for _, name, alias in imports}


def _imports(node: ast.stmt) -> list[tuple[str, str, str | None]]:
    """What an import statement imports; nothing for other statements."""
    if isinstance(node, ast.Import):
        return [("", alias.name, alias.asname) for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [("." * node.level + (node.module or ""), alias.name, alias.asname) for alias in node.names]
    return []
