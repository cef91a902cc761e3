"""`codecascade datasets check`, and what other commands tell of tasks that are left out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TEST = "def check(candidate):\n    assert candidate(2) == 4\n"


def codecascade(*arguments: object, without: str = "") -> subprocess.CompletedProcess[str]:
    """without: a package that cannot be imported."""
    block = f"import sys; sys.modules[{without!r}] = None; " if without else ""
    program = f"{block}from codecascade_client.cli.main import main; main()"
    return subprocess.run([sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, check=False)


def own_set(folder: Path, solutions: dict[str, str], **odd: str) -> Path:
    rows = [
        {"task_id": name, "prompt": "def f(x):\n", "entry_point": "f", "test": TEST, "canonical_solution": solution}
        for name, solution in solutions.items()
    ]
    rows += [{"task_id": name, "prompt": "def f(x):\n", "entry_point": "f", "test": test} for name, test in odd.items()]
    path = folder / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_task_that_passes_is_exit_code_0(tmp_path: Path) -> None:
    ran = codecascade("datasets", "check", own_set(tmp_path, {"a": "    return 2 * x\n", "b": ""}))
    assert (ran.returncode, ran.stdout) == (
        0,
        "own: 2 tasks read, 0 left out\nown solutions: 1 of 1 pass; tasks without one: 1\n",
    )
    assert "checking 1/1" in ran.stderr


@pytest.mark.slow  # one task takes all of its 10 CPU seconds
def test_tasks_that_do_not_pass_and_tasks_left_out_are_named(tmp_path: Path) -> None:
    solutions = {"a": "    return 2 * x\n", "b": "    return x\n", "c": "    while 1: pass\n", "d": "    return y\n"}
    ran = codecascade("datasets", "check", own_set(tmp_path, solutions, e=f"import numpy\n{TEST}"))
    assert ran.returncode == 1
    assert ran.stdout.splitlines() == [
        "own: 4 tasks read, 1 left out",
        "  e: its tests import numpy, which the sandbox does not offer",
        "own solutions: 1 of 4 pass; tasks without one: 0",
        "  b: fail",
        "  c: timeout",
        "  d: error",
    ]


def test_json_sets_are_checked_without_pyarrow(tmp_path: Path) -> None:
    assert codecascade("datasets", "check", own_set(tmp_path, {"a": "    return 2 * x\n"}), without="pyarrow").returncode == 0
    record = {"task_id": 1, "text": "A", "code": "def f(x):\n    return 2 * x", "test_list": ["assert f(2) == 4"]}
    (tmp_path / "mbpp.jsonl").write_text(json.dumps(record))
    assert codecascade("datasets", "check", f"mbpp:{tmp_path / 'mbpp.jsonl'}", without="pyarrow").returncode == 0
    tests = json.dumps({"inputs": ["1", "x" * 80_000], "outputs": ["1", "1"]})
    record = {
        "problem_id": 1,
        "difficulty": "introductory",
        "question": "A",
        "input_output": tests,
        "solutions": ["print(input())"],
    }
    (tmp_path / "apps.jsonl").write_text(json.dumps(record))
    ran = codecascade("datasets", "check", f"apps:{tmp_path / 'apps.jsonl'}", without="pyarrow")
    assert (ran.returncode, ran.stdout.splitlines()[1:]) == (
        0,
        [
            "tests left out, too large for a program in the sandbox: 1 (of 1 tasks)",
            "own solutions: 1 of 1 pass; tasks without one: 0",
        ],
    )


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"")
    ran = codecascade("datasets", "check", f"mbpp:{tmp_path / 'a.parquet'}", without="pyarrow")
    assert ran.returncode == 2
    assert ran.stderr.strip() == (
        "error: Parquet files need the package pyarrow, which is not installed: pip install 'codecascade[offline]'"
    )


def test_a_set_that_is_not_there_is_exit_code_2(tmp_path: Path) -> None:
    ran = codecascade("datasets", "check", tmp_path / "nowhere.jsonl")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "is neither humaneval nor a file" in ran.stderr


def test_the_other_commands_tell_what_is_left_out(tmp_path: Path) -> None:
    path = own_set(tmp_path, {"a": "    return 2 * x\n"}, b="import numpy\n" + TEST)
    ran = codecascade("verdicts", tmp_path / "nowhere", "--dataset", path)
    first = ran.stderr.splitlines()[0]
    assert first == "own: 1 task is left out (b: its tests import numpy, which the sandbox does not offer)"
