"""APPS in the forms in which it is published, as tasks in HumanEval's form."""

from __future__ import annotations

import ast
import itertools
import keyword
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from codecascade.sandbox.pool import MAX_SOURCE_BYTES
from codecascade.texts.stdin import TAKES_INPUT, script_as_function
from codecascade.texts.syntax import tree

from codecascade_client.datasets.apps_harness import (
    CALL_CHECK,
    NAMES,
    SETUP,
    STDIN_CHECK,
    literal,
    method_as_function,
    texts_of_case,
    values_of_case,
)
from codecascade_client.datasets.docstrings import docstring
from codecascade_client.datasets.humaneval import BenchmarkTask
from codecascade_client.datasets.python_source import parse
from codecascade_client.datasets.records import BYTE_ORDER_MARK, optional_text_of, read_json, read_text, records, shown, text_of
from codecascade_client.datasets.signatures import Header, header
from codecascade_client.errors import reason

APPS_DIFFICULTY = "introductory"
STDIN_ENTRY_POINT = "solve"
# Columns that are read from the Parquet files on Hugging Face: codeparrot/apps.
APPS_COLUMNS = ("problem_id", "question", "input_output", "difficulty", "starter_code", "solutions")
_MAX_CASES_BYTES = 32_000  # in the cases of one task; a program is judged with as many as fit, and with one at least
_MAX_CASE_BYTES = MAX_SOURCE_BYTES - 16_000  # a larger case leaves no room for a prompt and an answer
_BLOCK_HEADER = re.compile(r"^([ \t]*)[^#\s].*:[ \t]*(?:#.*)?$", re.MULTILINE)  # its indentation
_FILES = {"question.txt": "question", "input_output.json": "input_output"}


def apps_records(path: Path) -> Iterator[tuple[str, Mapping[str, Any] | ValueError]]:
    """The records of a local copy (one folder per problem) or of Hugging Face's files, each with its place.

    Raises OSError, ValueError, DatasetError.
    """
    if path.is_file() or not path.is_dir() or any(path.glob("*.parquet")):
        yield from records(path, APPS_COLUMNS)
        return
    for folder in sorted(folder for folder in path.iterdir() if any((folder / name).is_file() for name in _FILES)):
        yield f"APPS/{folder.name}", _folder(folder)


def apps_task(record: Mapping[str, Any]) -> BenchmarkTask | None:
    """A task from an introductory problem. None for another difficulty.

    If the problem reads standard input, the task asks for `solve(text)`, a function from the whole input to what would be
    printed. If it wants a method of `class Solution`, the task asks for a function. Answers are compared as APPS's own harness
    compares them, and see the names that it imports (hendrycks/apps, eval/testing_util.py). Cases beyond 32,000 bytes are
    left out. The first solution that comes with the problem is the canonical one. Raises KeyError or ValueError.
    """
    if record["difficulty"] != APPS_DIFFICULTY:
        return None
    inputs, outputs, name = _cases(record["input_output"])
    task_id = f"APPS/{apps_id(record)}"
    question = text_of(record, "question").strip()
    if name is None:
        head = f"def {STDIN_ENTRY_POINT}(text: str) -> str:"
        question = f"{question}\n\n{TAKES_INPUT}"
        test, left_out = _check(STDIN_CHECK, map(texts_of_case, inputs, outputs))
        own = _own_solution(record, lambda source: script_as_function(source, STDIN_ENTRY_POINT))
        return BenchmarkTask(task_id, f"{head}\n{docstring(question)}", STDIN_ENTRY_POINT, own, test, SETUP, left_out)
    found = _header(optional_text_of(record, "starter_code"), name)
    prompt = f"{found.above}def {name}({found.parameters}):\n{docstring(question)}"
    test, left_out = _check(CALL_CHECK, map(values_of_case, inputs, outputs))
    own = _own_solution(record, lambda source: method_as_function(source, name))
    return BenchmarkTask(task_id, prompt, name, own, test, SETUP, left_out)


def apps_id(record: Mapping[str, Any]) -> object:
    return record.get("problem_id", record.get("id"))


def _folder(folder: Path) -> Mapping[str, Any] | ValueError:
    """One problem. Problems without tests have no input_output.json, and some have no starter code and no solutions."""
    starter, solutions = folder / "starter_code.py", folder / "solutions.json"
    try:
        return {
            "problem_id": folder.name,
            **{field: read_text(folder / name) for name, field in _FILES.items()},
            "difficulty": read_json(read_text(folder / "metadata.json"))["difficulty"],
            "starter_code": read_text(starter) if starter.is_file() else "",
            "solutions": read_text(solutions) if solutions.is_file() else "",
        }
    except FileNotFoundError as error:
        return ValueError(f"it has no {Path(error.filename).name}")
    except (OSError, ValueError, TypeError, KeyError) as error:
        return ValueError(reason(error))


def _cases(input_output: Any) -> tuple[list[Any], list[Any], str | None]:
    """Inputs, outputs and the function's name. Raises ValueError."""
    if input_output is None or (isinstance(input_output, str) and not input_output.strip()):
        raise ValueError("it has no tests")
    try:
        cases = read_json(input_output) if isinstance(input_output, str) else input_output
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its input_output is not JSON: {error}") from error
    if not isinstance(cases, Mapping):
        raise ValueError(f"its input_output is {shown(cases)}, it must be a JSON object")
    inputs, outputs, name = _values(cases, "inputs"), _values(cases, "outputs"), cases.get("fn_name")
    if len(inputs) != len(outputs):
        raise ValueError(f"it has {len(inputs)} inputs and {len(outputs)} outputs, there must be as many of both")
    if not inputs:
        raise ValueError("it has no tests")
    if name is not None and not (isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name)):
        raise ValueError(f"its fn_name is {name!r}, it must be a function's name")
    return inputs, outputs, name


def _values(cases: Mapping[str, Any], what: str) -> list[Any]:
    values = cases.get(what)
    if not isinstance(values, list):
        raise ValueError(f"its {what} are {shown(values)}, they must be a list")
    return values


def _check(check: str, cases: Iterable[tuple[Any, Any]]) -> tuple[str, int]:
    """The test with as many cases as fit, and how many do not. Raises ValueError if none fits."""
    literals = [f"({literal(given)}, {literal(wanted)})" for given, wanted in cases]
    fitting = [case for case in literals if len(case) <= _MAX_CASE_BYTES]  # a literal is ASCII
    if not fitting:
        raise ValueError(f"each of its tests has more than {_MAX_CASE_BYTES:,} bytes, too many for a program in the sandbox")
    sizes = itertools.accumulate(len(case) + 2 for case in fitting)
    kept = [case for case, size in zip(fitting, sizes, strict=True) if size <= _MAX_CASES_BYTES] or fitting[:1]
    return check.replace("CASES", f"[{', '.join(kept)}]"), len(literals) - len(kept)


def _header(starter: str, name: str) -> Header:
    """The header of the function in the starter code, whose body is missing. Without starter code, any parameters."""
    module = _starter_module(starter)
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            node.args.args = [argument for argument in node.args.args if argument.arg != "self"]
            return header(node, module, provided=NAMES)
    return Header("", "*arguments")


def _starter_module(starter: str) -> ast.Module:
    """The starter code, with a body where its last block has none or a comment alone. Raises ValueError."""
    code = starter.strip(BYTE_ORDER_MARK).rstrip() + "\n"
    if tree(code):
        return parse(code, "starter code")
    headers = _BLOCK_HEADER.findall(code)
    return parse(f"{code}{headers[-1]}    pass\n" if headers else code, "starter code")


def _own_solution(record: Mapping[str, Any], adapted: Callable[[str], str]) -> str:
    """The first solution that Python 3 reads, as the task asks for it; empty if there is none."""
    try:
        solutions = record.get("solutions") or []
        solutions = read_json(solutions) if isinstance(solutions, str) else solutions
        source = next((text for text in solutions if isinstance(text, str) and tree(text)), "")
    except (ValueError, TypeError, RecursionError):
        return ""
    return adapted(source) if source else ""
