"""Which tasks the sandbox can judge at all."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping

from codecascade.sandbox.pool import MAX_SOURCE_BYTES
from codecascade.texts.syntax import tree

from codecascade_client.datasets.humaneval import BenchmarkTask
from codecascade_client.errors import reason

_ANSWER_BYTES = 1 << 10  # that an answer has at least, besides its prompt
_SHOWN = 3


def why_unusable(task: BenchmarkTask) -> str | None:
    """Why no answer to a task could pass in the sandbox. None if one can.

    The sandbox takes programs of MAX_SOURCE_BYTES bytes and offers the standard library alone.
    """
    try:
        size = len(task.check_program(task.prompt).encode()) + _ANSWER_BYTES
    except UnicodeEncodeError:
        return "it holds half of a surrogate pair, which no program can"
    if size > MAX_SOURCE_BYTES:
        return f"its prompt, its tests and a short answer have {size:,} bytes, the sandbox takes {MAX_SOURCE_BYTES:,}"
    try:
        test = ast.parse(task.test)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"its tests are not Python: {reason(error)}"
    prompt = tree(task.prompt) or tree(f"{task.prompt}    pass\n")
    for what, module in (("tests import", test), ("prompt imports", prompt)):
        foreign = sorted({name for name in _needed(module) if name not in sys.stdlib_module_names}) if module else []
        if foreign:
            return f"its {what} {', '.join(foreign)}, the sandbox has the standard library alone"
    return None


def left_out_in_words(left_out: Mapping[str, str]) -> str:
    """`A: why; B: why; … and 7 more`, in one line."""
    shown = [f"{name}: {why}" for name, why in list(left_out.items())[:_SHOWN]]
    more = len(left_out) - len(shown)
    return "; ".join([*shown, f"… and {more:,} more"] if more else shown)


def _needed(node: ast.AST) -> Iterator[str]:
    """The packages that code imports, without those whose absence it handles."""
    if isinstance(node, ast.Try) and node.handlers:
        parts: list[ast.AST] = [*node.handlers, *node.finalbody]
    else:
        parts = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module.partition(".")[0]
    for part in parts:
        yield from _needed(part)
