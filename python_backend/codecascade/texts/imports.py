"""What a program imports that the sandbox does not offer."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Sequence

from codecascade.sandbox.modules import offers
from codecascade.texts.units import FUNCTIONS, blocks, names_of

_SURVIVED = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


def missing_modules(module: ast.Module, modules: Collection[str], function: str | None = None) -> tuple[str, ...]:
    """The modules that the program cannot run without and the sandbox lacks, in order.

    modules: packages that the deployment lists. function: its imports count too, as those at top level do. An import
    that may fail (`except ImportError`), or that only type checkers see, does not count.
    """
    needed = dict.fromkeys(name for node in _run(module.body, function) for name in _imported(node))
    return tuple(name for name in needed if not offers(name, modules))


def lacking(modules: Collection[str]) -> str:
    """What a trace says of missing modules."""
    return f"imports {', '.join(modules)}, not among the deployment's sandbox_modules"


def _run(body: Sequence[ast.stmt], function: str | None) -> Iterator[ast.stmt]:
    """The statements that run when the program is loaded, and those of the function."""
    for node in body:
        yield node
        if not isinstance(node, FUNCTIONS) or node.name == function:
            left_out = node.body if isinstance(node, (ast.If, ast.Try)) and _may_fail(node) else None
            for block in blocks(node):
                if block is not left_out:
                    yield from _run(block, function)


def _may_fail(node: ast.If | ast.Try) -> bool:
    """Whether the body is for type checkers only, or followed by what is done where an import fails."""
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in names_of([node.test])
    return any(handler.type is None or _SURVIVED & set(names_of(_parts(handler.type))) for handler in node.handlers)


def _parts(caught: ast.expr) -> list[ast.expr]:
    return caught.elts if isinstance(caught, ast.Tuple) else [caught]


def _imported(node: ast.stmt) -> list[str]:
    """The top-level packages that a statement imports. A relative import has its dots: nothing offers it."""
    if isinstance(node, ast.ImportFrom):
        return ["." * node.level + (node.module or "")] if node.level else [(node.module or "").partition(".")[0]]
    return [alias.name.partition(".")[0] for alias in node.names] if isinstance(node, ast.Import) else []
