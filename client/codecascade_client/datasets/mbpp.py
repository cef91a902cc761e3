"""MBPP in the forms in which it is published, full and sanitized, as tasks in HumanEval's form."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from typing import Any

from codecascade_client.datasets.docstrings import docstring
from codecascade_client.datasets.humaneval import BenchmarkTask
from codecascade_client.datasets.python_source import binds_within, parse, reads
from codecascade_client.datasets.records import optional_text_of, text_of, texts_of
from codecascade_client.datasets.signatures import header

# Columns that are read from the Parquet files on Hugging Face: google-research-datasets/mbpp, full and sanitized.
MBPP_COLUMNS = ("task_id", "text", "prompt", "code", "test_imports", "test_setup_code", "test_list")
_CALLED = re.compile(r"\b([A-Za-z_]\w*)\s*\(")


def mbpp_task(record: Mapping[str, Any]) -> BenchmarkTask:
    """A task from a record of mbpp.jsonl (full), of sanitized-mbpp.json or of Hugging Face's copies of either.

    The record's text becomes a docstring. Its tests run as MBPP is evaluated (google-research/mbpp/README.md: the record's
    code, its test_setup_code, then its tests, all in one module), so the setup comes after the answer. What tests, defaults and
    annotations use of the reference's own top level, like a class whose objects are arguments, is above the header.
    Raises KeyError or ValueError for a record of another form.
    """
    code = text_of(record, "code")
    module = parse(code, "code")
    text = text_of(record, "text" if record.get("text") and not record.get("prompt") else "prompt")
    setup = optional_text_of(record, "test_setup_code").strip()
    tests = "\n".join(texts_of(record, "test_list")).replace("\r\n", "\n").replace("\r", "\n")
    if not tests.strip():
        raise ValueError("it has no tests")
    defined = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    name = next((called for called in _CALLED.findall(tests) if called in defined), None)
    if name is None:
        raise ValueError("its tests call no function that its code defines")
    test_imports = texts_of(record, "test_imports") if record.get("test_imports") else []
    imports = "".join(f"{line}\n" for line in test_imports)
    imported, preparation, asserts = parse(imports, "test_imports"), parse(setup, "test_setup_code"), parse(tests, "test_list")
    prepared = binds_within(preparation) | binds_within(asserts)
    used = (reads(preparation) | reads(asserts)) - prepared - {name}
    head = header(defined[name], module, used=used, known=binds_within(imported))
    return BenchmarkTask(
        task_id=f"MBPP/{record['task_id']}",
        prompt=f"{imports}{head.above}def {name}({head.parameters}):\n{docstring(text)}",
        entry_point=name,
        canonical_solution=code,
        test=(f"{setup}\n\n" if setup else "") + f"def check(candidate):\n{_indented(tests)}",
    )


def _indented(source: str) -> str:
    """The source as the body of a function. Lines that begin within a string stay as they are."""
    within = set(_lines_within_strings(source))
    lines = source.removesuffix("\n").split("\n")
    return "".join(f"{line}\n" if number in within else f"    {line}\n" for number, line in enumerate(lines, start=1))


def _lines_within_strings(source: str) -> Iterator[int]:
    opened: list[int] = []  # the lines where f-strings that are not closed yet begin; they are single tokens before Python 3.12
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = tokenize.tok_name[token.type]
        if kind == "STRING":
            yield from range(token.start[0] + 1, token.end[0] + 1)
        elif kind in ("FSTRING_START", "TSTRING_START"):
            opened.append(token.start[0])
        elif kind in ("FSTRING_END", "TSTRING_END"):
            yield from range(opened.pop() + 1, token.end[0] + 1)
