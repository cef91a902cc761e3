"""Joins the code blocks of an answer: the one that counts, with what it needs of the others."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import dedent, indent

from codecascade.texts.names import unresolved_names
from codecascade.texts.repairs import CHARACTERS, repaired
from codecascade.texts.syntax import DEFINITIONS, IMPORTS, parses, reads, source_of, tree

_BINDINGS = (*DEFINITIONS, *IMPORTS, ast.Assign, ast.AnnAssign)


@dataclass(frozen=True, slots=True)
class Block:
    """A code block of an answer."""

    text: str
    python: bool
    """Whether its language is Python or not said."""
    closed: bool


@dataclass(frozen=True, slots=True)
class _Piece:
    """A top-level statement of a block."""

    block: int
    node: ast.stmt
    text: str
    names: frozenset[str]
    """What it binds or changes."""
    of_a_draft: bool
    """Whether its block defines the function too."""


def joined(blocks: list[Block], main: int, name: str | None) -> str:
    """The main block's code with the imports, helpers and constants that it needs and other blocks define."""
    code = blocks[main].text
    if len(blocks) == 1:
        return code
    if not parses(code) and parses(repaired(code)):
        code = repaired(code)
    whole = parses(code)  # else it is the rest of a function, which has to come first
    pieces = [
        piece
        for number, block in enumerate(blocks)
        if number != main and block.python
        for piece in _pieces(number, block.text, name)
        if whole or isinstance(piece.node, (*DEFINITIONS, *IMPORTS))
    ]
    chosen = _chosen(pieces, _names_needed(code, whole), name)
    before = [piece.text for piece in chosen if whole and piece.block < main]
    after = [piece.text for piece in chosen if not (whole and piece.block < main)]
    return "\n".join([*before, code.rstrip("\n"), *(["\n", *after] if after else []), ""]) if chosen else code


def mentions(code: str, name: str | None) -> bool:
    """Whether the code defines the function, be it as a method or by an assignment."""
    if name is None:
        return False
    if not code.isascii():
        code = code.translate(CHARACTERS)
    last = re.escape(name.rpartition(".")[2])
    return (
        re.search(rf"^(?:>>> )?[ \t]*(?:(?:async[ \t]+)?def[ \t]+{last}[ \t]*[(\[]|{last}[ \t]*=[^=])", code, re.MULTILINE)
        is not None
    )


def only_imports(code: str) -> bool:
    module = tree(code)
    return module is not None and all(isinstance(node, IMPORTS) for node in module.body)


def changed_names(node: ast.AST) -> Iterator[str]:
    """The names that a statement binds, or whose values it changes: by an item, an attribute or a call of a method."""
    for part in ast.walk(node):
        if isinstance(part, DEFINITIONS):
            yield part.name
        elif isinstance(part, ast.alias):
            yield (part.asname or part.name).partition(".")[0]
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            yield part.id
        elif isinstance(part, (ast.Attribute, ast.Subscript)) and isinstance(part.ctx, (ast.Store, ast.Del)):
            yield from _root(part)
        elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Call) and isinstance(part.value.func, ast.Attribute):
            yield from _root(part.value.func)


def _root(node: ast.expr) -> Iterator[str]:
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    if isinstance(node, ast.Name):
        yield node.id


def _names_needed(code: str, whole: bool) -> set[str]:
    if whole:
        return set(unresolved_names(code))
    body = "def _():\n" + indent(dedent(code), "    ")
    return set(unresolved_names(body)) if parses(body) else set(re.findall(r"[^\W\d]\w*", code))


def _pieces(number: int, code: str, name: str | None) -> Iterator[_Piece]:
    module = tree(code)
    if module is None:
        code = repaired(code)
        module = tree(code)
    lines, of_a_draft = code.split("\n"), mentions(code, name)
    for node in module.body if module else []:
        names = {node.name} if isinstance(node, DEFINITIONS) else set(changed_names(node))
        yield _Piece(number, node, source_of(node, lines), frozenset(names), of_a_draft)


def _chosen(pieces: list[_Piece], needed: set[str], name: str | None) -> list[_Piece]:
    """The pieces that are needed, by the program or by another such piece, in order.

    Of several that bind a name the last is. What changes a value or is called at top level (`TABLE.update(…)`, `fill()`,
    `sys.setrecursionlimit(…)`) is needed where it does not try the function out.
    """
    wanted, bound, chosen = set(needed), set[str](), set[int]()
    own = {name.partition(".")[0]} if name else set()
    trying = {piece.names for piece in pieces if isinstance(piece.node, DEFINITIONS) and reads(piece.node, own)}
    defined = {bound for piece in pieces if isinstance(piece.node, _BINDINGS) for bound in piece.names} - own
    drivers = own.union(*trying, {"print", "input", "__name__"})
    left = [piece for piece in reversed(pieces) if not piece.names & own]
    while piece := next((piece for piece in left if _is_needed(piece, wanted, bound, defined, drivers)), None):
        left.remove(piece)
        chosen.add(id(piece))
        bound |= piece.names if isinstance(piece.node, _BINDINGS) else set()
        wanted |= set(unresolved_names(piece.text))
    return [piece for piece in pieces if id(piece) in chosen]


def _is_needed(piece: _Piece, wanted: set[str], bound: set[str], defined: set[str], drivers: set[str]) -> bool:
    if isinstance(piece.node, _BINDINGS):
        return bool(piece.names & (wanted - bound))
    if piece.of_a_draft or reads(piece.node, drivers) or not isinstance(piece.node, (ast.Expr, ast.AugAssign, ast.For)):
        return bool(piece.names & bound) and not reads(piece.node, drivers)
    return set(unresolved_names(piece.text)) <= defined and not isinstance(getattr(piece.node, "value", None), ast.Constant)
