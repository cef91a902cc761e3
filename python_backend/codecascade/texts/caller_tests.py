"""Reads the tests that a caller sends with a request: asserts, or whole test programs."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence

from codecascade.texts.syntax import clean, syntax_fault, tree
from codecascade.types import TestLine

MAX_LINE_CHARS = 4_000
_RUN = "assert exec({program!r}, dict(globals())) is None"


def caller_tests(texts: Sequence[str]) -> tuple[tuple[TestLine, ...], tuple[str, ...]]:
    """One assert for each assert statement or program, and a sentence for each text that is left out.

    A text of asserts is read assert by assert. Any other text is a program: it passes if it runs to its end, with the functions
    in it whose names begin with `test` called one after another.
    """
    lines: list[str] = []
    problems: list[str] = []
    for number, text in enumerate(map(clean, texts)):
        module = tree(text)
        if module is None:
            problems.append(f"tests[{number}] does not parse: {syntax_fault(text)}")
            continue
        for line in _asserts(module, text) or [_RUN.format(program=text + "\n" + "".join(_calls(module.body)))]:
            if len(line) > MAX_LINE_CHARS:
                problems.append(f"tests[{number}] has {len(line)} characters, must have {MAX_LINE_CHARS} or fewer")
            else:
                lines.append(line)
    return tuple(TestLine(line) for line in dict.fromkeys(lines)), tuple(problems)


def _asserts(module: ast.Module, text: str) -> list[str]:
    """The assert statements as they stand, each on one line; none if the text holds anything else."""
    if not all(isinstance(node, ast.Assert) for node in module.body):
        return []
    sources = ((ast.get_source_segment(text, node) or "", node) for node in module.body)
    return [ast.unparse(node) if "\n" in source else source for source, node in sources]


def _calls(body: Iterable[ast.stmt]) -> Iterator[str]:
    """Calls of the test functions, as pytest would make them."""
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test") and not node.args.args:
            yield f"{node.name}()\n"
