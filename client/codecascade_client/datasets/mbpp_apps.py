"""MBPP and APPS in the forms in which they are published, as tasks in HumanEval's form."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from codecascade_client.datasets.humaneval import BenchmarkTask

APPS_DIFFICULTY = "introductory"
STDIN_ENTRY_POINT = "solve"
# Columns that are read from the Parquet files on Hugging Face: google-research-datasets/mbpp (sanitized), codeparrot/apps.
MBPP_COLUMNS = ("task_id", "prompt", "code", "test_imports", "test_list")
APPS_COLUMNS = ("problem_id", "question", "input_output", "difficulty", "starter_code")
_MAX_TEST_CHARS = 32_000  # in the tests of one task; the sandbox takes programs up to 64 KiB
_BATCH = 256  # records in memory at a time: a file of APPS has more than a gigabyte of tests
_CALLED = re.compile(r"\b([A-Za-z_]\w*)\s*\(")


def mbpp_task(record: Mapping[str, Any]) -> BenchmarkTask:
    """A task from a record of sanitized-mbpp.json or of Hugging Face's copy. The record's prompt becomes a docstring.

    Raises KeyError or ValueError for a record of another form.
    """
    module = ast.parse(record["code"])
    defined = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    tests = "\n".join(record["test_list"])
    name = next((called for called in _CALLED.findall(tests) if called in defined), None)
    if name is None:
        raise ValueError("its tests call no function that its code defines")
    imports = "".join(f"{line}\n" for line in record.get("test_imports") or [])
    header = f"def {name}({ast.unparse(defined[name].args)}):"
    check = "".join(f"    {line}\n" for line in tests.splitlines())
    return BenchmarkTask(
        task_id=f"MBPP/{record['task_id']}",
        prompt=f"{imports}{header}\n{_docstring(record['prompt'])}",
        entry_point=name,
        canonical_solution=record["code"],
        test=f"def check(candidate):\n{check}",
    )


def parquet_files(path: Path) -> list[Path]:
    """The Parquet file at `path`, or those in the folder `path`, by name. Empty for anything else. Raises OSError."""
    if path.is_dir():
        return sorted(path.glob("*.parquet"))
    return [path] if path.suffix == ".parquet" else []


def parquet_records(files: Sequence[Path], columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """The columns of every row, file by file. Raises OSError, ValueError."""
    for file in files:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(_BATCH, columns=list(columns)):
                yield from batch.to_pylist()


def apps_records(path: Path) -> Iterator[Mapping[str, Any]]:
    """Records of a local copy (one folder per problem) or of Hugging Face's JSON Lines. Raises OSError, ValueError."""
    if path.is_file():
        yield from (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
        return
    for problem in sorted(folder for folder in path.iterdir() if (folder / "question.txt").is_file()):
        starter = problem / "starter_code.py"
        yield {
            "problem_id": problem.name,
            "question": (problem / "question.txt").read_text(encoding="utf-8"),
            "input_output": (problem / "input_output.json").read_text(encoding="utf-8"),
            "difficulty": json.loads((problem / "metadata.json").read_text(encoding="utf-8"))["difficulty"],
            "starter_code": starter.read_text(encoding="utf-8") if starter.is_file() else "",
        }


def apps_task(record: Mapping[str, Any]) -> BenchmarkTask | None:
    """A task from an introductory problem. None for another difficulty, and for a problem without tests.

    If the problem reads standard input, the task asks for `solve(text)`, a function from the whole input to what would be
    printed. If it wants a method of `class Solution`, the task asks for a function. Tests beyond 32,000 characters are left out.
    Raises KeyError or ValueError.
    """
    if record["difficulty"] != APPS_DIFFICULTY or not record["input_output"].strip():
        return None
    cases = json.loads(record["input_output"])
    if not cases["inputs"]:
        return None
    name = cases.get("fn_name")
    task_id = f"APPS/{record.get('problem_id', record.get('id'))}"
    if name is None:
        header = f"def {STDIN_ENTRY_POINT}(text: str) -> str:"
        question = f"{record['question'].strip()}\n\nThe argument is the whole input; what would be printed is returned."
        test = _check("candidate(given).split() == wanted.split()", _texts(cases["inputs"]), _texts(cases["outputs"]))
        return BenchmarkTask(task_id, f"{header}\n{_docstring(question)}", STDIN_ENTRY_POINT, "", test)
    prompt = f"def {name}({_parameters(record['starter_code'], name)}):\n{_docstring(record['question'].strip())}"
    test = _check("(found := candidate(*given)) == wanted or [found] == wanted", cases["inputs"], cases["outputs"])
    return BenchmarkTask(task_id, prompt, name, "", test)


def _check(condition: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> str:
    kept: list[tuple[Any, Any]] = []
    size = 0
    for case in zip(inputs, outputs, strict=True):
        size += len(repr(case)) + 2
        if size > _MAX_TEST_CHARS and kept:
            break
        kept.append(case)
    return f"def check(candidate):\n    for given, wanted in {kept!r}:\n        assert {condition}\n"


def _texts(values: Sequence[Any]) -> list[str]:
    """Every case as a text: it may be a list of lines."""
    return [value if isinstance(value, str) else "\n".join(map(str, value)) for value in values]


def _parameters(starter: str, name: str) -> str:
    """The parameters of the function in the starter code, whose body is missing. Without starter code, any."""
    for node in ast.walk(ast.parse(starter.rstrip() + "\n" + _indent_after(starter) + "pass\n")):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            node.args.args = [argument for argument in node.args.args if argument.arg != "self"]
            return ast.unparse(node.args)
    return "*arguments"


def _indent_after(starter: str) -> str:
    last = starter.rstrip().splitlines()[-1] if starter.strip() else ""
    return " " * (len(last) - len(last.lstrip()) + 4) if last.endswith(":") else ""


def _docstring(text: str) -> str:
    body = text.strip().replace("\\", "\\\\").replace('"""', "'''")
    lines = "".join(f"    {line}\n" if line else "\n" for line in body.splitlines())
    return f'    """\n{lines}    """\n'
