"""Tasks in HumanEval's form: JSON Lines as others write them, tests that the sandbox cannot run, names that collide."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from codecascade.sandbox.pool import MAX_SOURCE_BYTES
from codecascade.types import Verdict
from codecascade_client.datasets.humaneval import BenchmarkTask, humaneval
from codecascade_client.datasets.load import Dataset, load_dataset
from codecascade_client.errors import DatasetError

from tests.unit.client.dataset_records import judge

PASS, FAIL, ERROR = Verdict.PASS, Verdict.FAIL, Verdict.ERROR
TEST = "def check(candidate):\n    assert candidate(2) == 4\n"
BOM, LINE_SEPARATOR, NEXT_LINE = "\ufeff", "\u2028", "\x85"


def row(name: str, **fields: object) -> str:
    record = {"task_id": name, "prompt": "def f(x):\n", "entry_point": "f", "test": TEST, **fields}
    return json.dumps(record, ensure_ascii=False)


def load(folder: Path, text: str) -> Dataset:
    path = folder / "own.jsonl"
    path.write_bytes(text.encode())
    return load_dataset(str(path))


@pytest.mark.parametrize(
    "join",
    [
        lambda rows: "\n".join(rows),
        lambda rows: BOM + "\n".join(rows) + "\n",
        lambda rows: "\r\n".join(rows) + "\r\n",
        lambda rows: "\n\n \n" + "\n\t\n\n".join(rows) + "\n\n",
        lambda rows: "\n".join(BOM + one for one in rows) + "\n" + BOM,
    ],
)
def test_lines_are_read_however_they_are_separated(tmp_path: Path, join: Callable[[list[str]], str]) -> None:
    question = f'def f(x):\n    """One{LINE_SEPARATOR}two{NEXT_LINE}three \x0c\x1c\x1e four\u2029"""\n'
    dataset = load(tmp_path, join([row("a", prompt=question), row("b")]))
    assert list(dataset.tasks) == ["a", "b"]
    assert dataset.tasks["a"].prompt == question


@pytest.mark.parametrize("as_array", [True, False])
def test_the_published_sets_are_read_the_same_way(tmp_path: Path, as_array: bool) -> None:
    texts = [
        json.dumps(
            {"task_id": n, "prompt": f"a{LINE_SEPARATOR}{NEXT_LINE}b", "code": "def f():\n    pass", "test_list": ["assert f()"]},
            ensure_ascii=False,
        )
        for n in (1, 2)
    ]
    path = tmp_path / "mbpp.json"
    body = f"{BOM} [{', '.join(texts)}]" if as_array else BOM + "\n \n\n".join(texts) + "\n\t\n"
    path.write_text(body, encoding="utf-8")
    dataset = load_dataset(f"mbpp:{path}")
    assert list(dataset.tasks) == ["MBPP/1", "MBPP/2"]
    assert dataset.left_out == {}


def test_a_line_that_is_no_record_is_named_by_its_number(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"line 4: not a JSON object"):
        load(tmp_path, row("a") + "\n\n\n{\n")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"test": f"import multiprocessing\n{TEST}"}, "its tests import multiprocessing, which the sandbox does not offer"),
        ({"test": f"import numpy as np\n{TEST}"}, "its tests import numpy, which the sandbox does not offer"),
        (
            {"test": TEST + "    from scipy.stats import t\n    import os, pandas.io\n"},
            "its tests import pandas, scipy, which the sandbox",
        ),
        ({"prompt": "import numpy as np\n\ndef f(x):\n"}, "its prompt imports numpy, which the sandbox does not offer"),
        ({"test": TEST + "#" * (MAX_SOURCE_BYTES - 1_000)}, "a short answer have 65,6"),
        ({"test": TEST + "#" + "é" * 33_000}, "the sandbox takes 65,536"),
        ({"test": "def check(candidate):\n    print candidate(2)\n"}, "its test is not Python 3: Missing parentheses"),
        ({"test": TEST + "\0"}, "its test is not Python 3: "),
    ],
)
def test_tests_that_the_sandbox_cannot_run_are_left_out_by_name(tmp_path: Path, fields: dict[str, str], why: str) -> None:
    dataset = load(tmp_path, "\n".join((row("a"), row("b", **fields), row("c"))))
    assert list(dataset.tasks) == ["a", "c"]
    assert list(dataset.left_out) == ["b"]
    assert why in dataset.left_out["b"]
    sentence = dataset.left_out_sentence
    assert sentence is not None
    assert sentence.startswith("own: 1 task is left out (b: its ")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    "test",
    [
        f"try:\n    import numpy\nexcept ImportError:\n    numpy = None\n{TEST}",
        f"import os.path, collections.abc\nfrom xml.etree import ElementTree\n{TEST}",
        TEST + "#" + "é" * 30_000,
    ],
)
async def test_tests_that_the_sandbox_can_run_are_run(tmp_path: Path, test: str) -> None:
    (task,) = load(tmp_path, row("a", test=test)).tasks.values()
    assert await judge(task, "def f(x):\n    return 2 * x\n", "def f(x):\n    return x\n") == [PASS, FAIL]


def test_a_set_of_which_nothing_can_run_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds no task that can be used \(a: its tests import numpy, .*; b: "):
        load(tmp_path, "\n".join(row(name, test=f"import numpy\n{TEST}") for name in "ab"))


@pytest.mark.parametrize(
    ("entry_point", "program", "test", "verdict"),
    [
        (
            "check",
            "def check(n):\n    return n > 2\n",
            "def check(candidate):\n    assert check(3)\n    assert not candidate(2)\n",
            PASS,
        ),
        ("check", "def check(n):\n    return n\n", "def check(candidate):\n    assert not candidate(2)\n", FAIL),
        ("f", "def check(n):\n    return n\n\ndef f(n):\n    return 2 * check(n)\n", TEST, PASS),
        ("f", "check = abs\n\ndef f(n):\n    return 2 * check(n)\n", TEST, PASS),
        ("f", "from math import floor as check\n\ndef f(n):\n    return 2 * check(n)\n", TEST, PASS),
        ("f", "class check:\n    y = 2\n\ndef f(n):\n    check_answer = check.y\n    return n * check_answer\n", TEST, PASS),
        ("f", "def f(n):\n    def check(m):\n        return m\n    return 2 * check(n)\n", TEST, PASS),
        ("check", "def other(n):\n    return n\n", "def check(candidate):\n    assert check(3)\n", ERROR),
    ],
)
async def test_a_function_named_check_stays_the_answers_own(entry_point: str, program: str, test: str, verdict: Verdict) -> None:
    task = BenchmarkTask("a", f"def {entry_point}(n):\n", entry_point, "", test)
    assert await judge(task, program) == [verdict]


def test_humanevals_check_programs_are_what_they_were() -> None:
    for task in humaneval().values():
        own = task.prompt + task.canonical_solution
        assert task.own_program() == own
        assert task.check_program(own) == f"{own}\n\n{task.test}\n\ncheck({task.entry_point})\n"
    assert load_dataset("humaneval").sha256 == "924e453c51543110e7b963bacbe84cf1310b3abaf9d51ed210b117cf0815292b"


@pytest.mark.parametrize(
    ("prompt", "solution"),
    [
        ("def f(x):\n", "    return 2 * x\n"),
        ('def f(x):\n    """Doc."""\n', "  y = x\n  return x + y\n"),
        ('import math\n\ndef f(x):\n    """Doc."""\n', "\treturn g(x)\ndef g(x):\n\treturn 2 * math.floor(x)\n"),
        ('import math\n\ndef f(x):\n    """Doc."""\n', "def f(x):\n    return 2 * math.floor(x)\n"),
        ("import math\n\ndef f(x):\n", "def f(x):\n    return 2 * math.floor(x)\n"),
        ("def f(x):\n", "from __future__ import annotations\ndef f(x: Y):\n    return 2 * x\n"),
        ("def f(x):\n", "f = lambda x: 2 * x\n"),
    ],
)
async def test_a_sets_own_solution_is_a_body_or_a_whole_program(prompt: str, solution: str) -> None:
    task = BenchmarkTask("a", prompt, "f", solution, TEST)
    own = task.own_program()
    assert own is not None
    assert await judge(task, own) == [PASS]


@pytest.mark.parametrize("solution", ["", " \n", None, 5])
def test_a_set_without_a_solution_has_none(tmp_path: Path, solution: object) -> None:
    (task,) = load(tmp_path, row("a", canonical_solution=solution)).tasks.values()
    assert task.own_program() is None
