"""The unit of a prompt: the function or method that is being written, and how a test line refers to it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from codecascade.texts.syntax import clean, outline, tree

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Definition: TypeAlias = Function | ast.ClassDef
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_PLACEHOLDER_ERROR = "NotImplementedError"
_TREES = 8  # kept, of the requests under way: a request needs its own several times
RUN = "asyncio.run("  # what a test line begins with for a coroutine
CONSTRUCTORS = ("__init__", "__new__")
_NOT_MADE = {"Enum", "IntEnum", "StrEnum", "Flag", "IntFlag", "Protocol"}
_RECORDS = {"NamedTuple", "BaseModel", "dataclass", "define", "frozen", "attrs"}  # bases and decorators: fields are arguments


@dataclass(frozen=True, slots=True)
class Unit:
    """What is tested."""

    name: str
    """With the classes that it is in: Stack.push."""
    expression: str = ""
    """How a test line begins to use it: add, Stack().push, asyncio.run(fetch. Empty if it cannot be tested."""
    untested: str | None = None
    """Why it cannot be tested, in words."""


@dataclass(frozen=True, slots=True)
class Place:
    """A function and the classes that it is in, the outermost first."""

    classes: tuple[ast.ClassDef, ...]
    function: Function

    @property
    def owner(self) -> str:
        return ".".join(owner.name for owner in self.classes)

    @property
    def name(self) -> str:
        return f"{self.owner}.{self.function.name}" if self.classes else self.function.name


def unit_of(prompt: str, entry_point: str | None = None, suffix: str = "") -> Unit | None:
    """What `entry_point` names, or else what is open at the end of the prompt. None if there is no such function.

    suffix: what follows where the prompt is completed. It may hold the rest of a class.
    """
    whole = program_of(prompt, suffix)
    if whole is None:
        return None
    named = {place.name: place for place in places(whole)}
    if entry_point is not None:
        place = named.get(entry_point)
    else:
        place = open_place(prompt)
        place = named.get(place.name, place) if place else None
    return _unit(place, whole) if place else None


def unit_names(prompt: str, suffix: str = "") -> tuple[str, ...]:
    """What an entry point may be called: the functions and methods of the program, in order."""
    module = program_of(prompt, suffix)
    return tuple(dict.fromkeys(place.name for place in places(module))) if module else ()


def why_no_unit(prompt: str) -> str:
    """Why nothing that can be tested is open at the end of the prompt, in words."""
    module, source = _parsed(prompt)
    if module is None or not (known := places(module)):
        return "the prompt defines no function to test"
    chain = _open_chain(module, source)
    if chain and isinstance(chain[-1], ast.ClassDef):
        return f"no method of class {chain[-1].name} is open"
    return f"the prompt's last function, {known[-1].name}, is finished"


@lru_cache(maxsize=_TREES)
def program_of(prompt: str, suffix: str = "") -> ast.Module | None:
    """The tree of the prompt's program, with the suffix where that parses. None if the prompt is no program here."""
    closed = outline(prompt).closed
    if closed is None:
        return None
    return (tree(closed + clean(suffix)) if suffix else None) or tree(closed)


def places(module: ast.Module) -> list[Place]:
    """All functions that can be reached by name, in order: not those within other functions."""
    return list(_places(module.body, ()))


def _places(body: Sequence[ast.stmt], classes: tuple[ast.ClassDef, ...]) -> Iterator[Place]:
    for node in body:
        if isinstance(node, FUNCTIONS):
            yield Place(classes, node)
            continue
        within = (*classes, node) if isinstance(node, ast.ClassDef) else classes
        for block in blocks(node):
            yield from _places(block, within)


def blocks(node: ast.AST) -> list[list[ast.stmt]]:
    """The blocks of statements in a node, in order."""
    parts = [getattr(node, "body", []), *(part.body for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())))]
    parts += [getattr(node, "orelse", []), getattr(node, "finalbody", [])]
    return [part for part in parts if part and isinstance(part, list)]


def open_place(prompt: str) -> Place | None:
    """The outermost function that the end of the prompt leaves unfinished. A function within it is part of it."""
    module, source = _parsed(prompt)
    chain = _open_chain(module, source) if module else []
    depth = next((depth for depth, node in enumerate(chain) if isinstance(node, FUNCTIONS)), None)
    if depth is None:
        return None
    function = chain[depth]
    assert isinstance(function, FUNCTIONS)
    classes = tuple(node for node in chain[:depth] if isinstance(node, ast.ClassDef))
    return None if _ends(function.body) and not placeholders(function) else Place(classes, function)


def margin_below(prompt: str) -> str | None:
    """The indentation of what may follow the definition that the end of the prompt is in. None: it is in none."""
    module, source = _parsed(prompt)
    chain = _open_chain(module, source) if module else []
    place = open_place(prompt)
    if place is None:
        return "" if chain and isinstance(chain[0], ast.ClassDef) else None
    line = source.split("\n")[place.function.lineno - 1]
    return line[: place.function.col_offset]


def placeholders(function: Function) -> list[ast.stmt] | None:
    """The statements that stand for a body: pass, `...`, raise NotImplementedError. None if it has a body.

    Empty for a docstring alone.
    """
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    return list(body) if all(map(_is_placeholder, body)) else None


def _is_placeholder(node: ast.stmt) -> bool:
    if isinstance(node, ast.Raise):
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return isinstance(raised, ast.Name) and raised.id == _PLACEHOLDER_ERROR
    return isinstance(node, ast.Pass) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and node.value.value is Ellipsis
    )


@lru_cache(maxsize=_TREES)
def _parsed(prompt: str) -> tuple[ast.Module | None, str]:
    """The tree of the prompt as it is, or else closed, and the text that was parsed, with the blanks at its end."""
    given = outline(prompt)
    module = tree(given.code) if given.closed is not None else None
    if module is None and given.closed is not None:
        return tree(given.closed), given.closed
    return module, clean(prompt)


def _open_chain(module: ast.Module, source: str) -> list[Definition]:
    """The definitions that the end of the source is in, the outermost first.

    Comments and blanks below the last statement tell where the text goes on: a comment at the margin is in no definition.
    """
    chain: list[Definition] = []
    node: ast.AST = module
    while inner := blocks(node):
        node = inner[-1][-1]
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            chain.append(node)
    end = getattr(node, "end_lineno", 0)
    *below, last = source.split("\n")[end:] or [""]
    margins = [_margin(line) for line in below if line.strip()] + ([_margin(last)] if last else [])
    return [definition for definition in chain if definition.col_offset < min(margins, default=len(source))]


def _margin(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def _ends(body: Sequence[ast.stmt]) -> bool:
    """Whether no way leads through the block to what would follow it."""
    last = body[-1] if body else None
    if isinstance(last, ast.If):
        return _ends(last.body) and _ends(last.orelse)
    if isinstance(last, ast.Try):
        return _ends(last.orelse or last.body) and all(_ends(handler.body) for handler in last.handlers)
    if isinstance(last, (ast.With, ast.AsyncWith)):
        return _ends(last.body)
    return isinstance(last, (ast.Return, ast.Raise))


def _unit(place: Place, whole: ast.Module) -> Unit:
    function = place.function
    decorators = set(names_of(function.decorator_list))
    reason = None
    expression = place.name
    if decorators & {"setter", "deleter"}:
        reason = f"{place.name} only changes a property"
    elif place.classes and function.name in CONSTRUCTORS:
        expression = place.owner
    elif place.classes and not decorators & {"staticmethod", "classmethod"}:
        reason = _not_made(place.classes[-1], {node.name: node for node in ast.walk(whole) if isinstance(node, ast.ClassDef)})
        expression = f"{place.owner}().{function.name}"
    if isinstance(function, ast.AsyncFunctionDef):
        if any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in ast.walk(function)):
            reason = reason or f"{place.name} is an asynchronous generator"
        expression = RUN + expression
    return Unit(place.name, untested=reason) if reason else Unit(place.name, expression)


def _not_made(owner: ast.ClassDef, classes: Mapping[str, ast.ClassDef]) -> str | None:
    """Why an instance cannot be made without arguments, in words. None if it can."""
    family = _family(owner, classes)
    bases = {name for node in family for name in names_of(node.bases)}
    if bases & _NOT_MADE:
        return f"class {owner.name} cannot be instantiated: it is of kind {', '.join(sorted(bases & _NOT_MADE))}"
    methods: dict[str, Function] = {}
    for node in reversed(family):
        methods.update({part.name: part for part in node.body if isinstance(part, FUNCTIONS)})
    abstract = [name for name, method in methods.items() if "abstractmethod" in names_of(method.decorator_list)]
    if abstract:
        return f"class {owner.name} is abstract: {', '.join(abstract)}"
    needed = _needed_by(methods["__init__"]) if "__init__" in methods else _needed_fields(family)
    return f"class {owner.name} needs arguments: {', '.join(needed)}" if needed else None


def _family(owner: ast.ClassDef, classes: Mapping[str, ast.ClassDef]) -> list[ast.ClassDef]:
    """The class and those of its bases that the program defines, nearest first."""
    family = [owner]
    for node in family:
        family += [classes[name] for name in names_of(node.bases) if name in classes and classes[name] not in family]
    return family


def _needed_by(constructor: Function) -> list[str]:
    """The parameters without a default, `self` left out."""
    arguments = constructor.args
    positional = [*arguments.posonlyargs, *arguments.args]
    without = positional[1 : len(positional) - len(arguments.defaults)]
    by_name = [one for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if default is None]
    return [argument.arg for argument in (*without, *by_name)]


def _needed_fields(family: Sequence[ast.ClassDef]) -> list[str]:
    """The fields without a default of a data class and the like."""
    if not any(_RECORDS & set(names_of([*node.bases, *node.decorator_list])) for node in family):
        return []
    fields: dict[str, ast.AnnAssign] = {}
    for part in (part for node in reversed(family) for part in node.body):
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name) and "ClassVar" not in ast.dump(part.annotation):
            fields[part.target.id] = part
    return [name for name, part in fields.items() if _is_needed(part)]


def _is_needed(field: ast.AnnAssign) -> bool:
    if isinstance(field.value, ast.Call) and "field" in map(str.lower, names_of([field.value])):
        given = {word.arg for word in field.value.keywords}
        return not field.value.args and not given & {"default", "default_factory", "init"}
    return field.value is None


def called_name(name: str) -> str:
    """What is called to run a unit: a constructor is reached by its class."""
    owner, _, last = name.rpartition(".")
    return owner if owner and last in CONSTRUCTORS else name


def names_of(nodes: Sequence[ast.expr]) -> list[str]:
    """The last part of each dotted name: `dataclass` of `@dataclasses.dataclass(frozen=True)`."""
    found = []
    for node in nodes:
        inner: ast.expr = node.func if isinstance(node, ast.Call) else node
        inner = inner.value if isinstance(inner, ast.Subscript) else inner
        if isinstance(inner, (ast.Name, ast.Attribute)):
            found.append(inner.id if isinstance(inner, ast.Name) else inner.attr)
    return found
