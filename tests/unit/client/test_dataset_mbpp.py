"""MBPP, full and sanitized: what its headers and tests need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from codecascade.requests import task_of
from codecascade.types import Verdict
from codecascade_client.datasets.load import load_dataset

from tests.unit.client.dataset_records import judge, load, only_task

PASS, FAIL, ERROR = Verdict.PASS, Verdict.FAIL, Verdict.ERROR

FULL: dict[str, Any] = {
    "task_id": 12,
    "text": "Write a function to find the height of a tree.",
    "code": "class Node: \r\n\tdef __init__(self, x): \r\n\t\tself.x = x\r\n\t\tself.below = []\r\n"
    "def height(node): \r\n\treturn 1 + max(map(height, node.below), default=0)\r\n",
    "test_setup_code": "root = Node(1)\r\nroot.below.append(Node(2))",
    "test_list": ["assert (height(root)) == 2", "assert height(Node(0)) == 1"],
    "challenge_test_list": [],
}


async def test_full_mbpp_has_its_setup_and_the_classes_that_its_tests_use(tmp_path: Path) -> None:
    task = only_task("mbpp", tmp_path, FULL)
    assert task.entry_point == "height"
    assert task.prompt.startswith("class Node:\n")
    assert task.prompt.endswith('def height(node):\n    """\n    Write a function to find the height of a tree.\n    """\n')
    assert task_of(task.prompt).entry_point == "height"
    body = "    return 1 + max(map(height, node.below), default=0)\n"
    assert await judge(task, task.prompt + body, task.prompt + "    return 1\n") == [PASS, FAIL]
    own = task.own_program()
    assert own is not None
    assert await judge(task, own) == [PASS]


def test_full_mbpp_as_parquet_is_what_it_is_as_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "full" / "test-00000-of-00001.parquet"
    path.parent.mkdir()
    pq.write_table(pa.Table.from_pylist([{**FULL, "challenge_test_list": ["assert 1"]}]), path)
    assert load_dataset(f"mbpp:{path.parent}").sha256 == load("mbpp", tmp_path, [FULL]).sha256


@pytest.mark.parametrize(
    ("code", "above", "parameters"),
    [
        ("LIMIT = 3\ndef f(x, limit=LIMIT):\n    return limit", "LIMIT = 3\n", "x, limit=LIMIT"),
        ("import math\nA = 1\nB = [A + 2]\ndef f(x, b=B[0]):\n    return b", "A = 1\nB = [A + 2]\n", "x, b=B[0]"),
        (
            "from typing import *\nimport re\ndef f(x: List[int], y: Optional[int] = 3):\n    return y",
            "from typing import *\n",
            "x: List[int], y: Optional[int]=3",
        ),
        ("from typing import List as L\ndef f(x: L[int]):\n    return 3", "from typing import List as L\n", "x: L[int]"),
        (
            "def three():\n    return ONE + 2\nONE = 1\ndef f(x, y=three()):\n    return y",
            "def three():\n    return ONE + 2\nONE = 1\n",
            "x, y=three()",
        ),
        ("def f(x, *, key=lambda v: max(v, 3)):\n    return key(x)", "", "x, *, key=lambda v: max(v, 3)"),
        ("def f(x: Unknown):\n    return 3", "", "x: 'Unknown'"),
        ("max = 9\ndef f(x):\n    return 3", "", "x"),
    ],
)
async def test_a_header_has_what_its_defaults_and_annotations_need(
    tmp_path: Path, code: str, above: str, parameters: str
) -> None:
    record = {**FULL, "code": code, "test_setup_code": "", "test_list": ["assert f(2) == max(1, 3)"]}
    task = only_task("mbpp", tmp_path, record)
    assert task.prompt.startswith(f"{above}def f({parameters}):\n")
    if "max = 9" not in code:
        assert await judge(task, f"{task.prompt}    return 3\n", f"{task.prompt}    return x\n") == [PASS, FAIL]


async def test_imports_that_only_the_reference_has_are_given_where_tests_use_them(tmp_path: Path) -> None:
    code = "import sys, re\nimport math\ndef f(x):\n    return x"
    record = {**FULL, "code": code, "test_setup_code": "", "test_list": ["assert f(sys.maxsize) == sys.maxsize > math.pi"]}
    task = only_task("mbpp", tmp_path, {**record, "test_imports": ["import math"]})
    assert task.prompt.startswith("import math\nimport sys, re\ndef f(x):\n")
    assert await judge(task, f"{task.prompt}    return x\n") == [PASS]


@pytest.mark.parametrize(
    "test",
    [
        'assert f("""a\n    b\n\nc""") == 10',
        "assert f('''a\n\tb\nc''') == 6",
        'assert f(f"""{1 +\n2}\nb""") == 3',
        "assert f('a\\\n  b') == 4",
        "assert f('a\u2028b\x0cc\x85d') == 7",
        'assert f(\n"""a\n"""\n) == 2\n\n',
    ],
)
async def test_a_newline_in_a_tests_string_stays_what_it_is(tmp_path: Path, test: str) -> None:
    record = {**FULL, "code": "def f(x):\n    return len(x)", "test_setup_code": "", "test_list": [test, "assert f('') == 0"]}
    task = only_task("mbpp", tmp_path, record)
    assert await judge(task, "def f(x):\n    return len(x)\n", "def f(x):\n    return len(x) + 1\n") == [PASS, FAIL]


async def test_a_task_named_check_is_judged_like_any_other(tmp_path: Path) -> None:
    code = "def rev(n):\n    return int(str(n)[::-1])\ndef check(n):\n    return 2 * rev(n) == n + 1"
    tests = ["assert check(70) == False", "assert check(73) == True"]
    task = only_task("mbpp", tmp_path, {**FULL, "task_id": 56, "code": code, "test_setup_code": "", "test_list": tests})
    assert task.entry_point == "check"
    own = task.own_program()
    assert own is not None
    assert await judge(task, own, f"{task.prompt}    return True\n") == [PASS, FAIL]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"code": None}, "its code is None, it must be a text"),
        ({"code": "def f(x):\n    print x\n"}, "its code is not Python 3: "),
        ({"code": "x = 1\0"}, "its code is not Python 3: "),
        ({"text": None}, "'prompt' is missing"),
        ({"text": 5}, "its text is 5, it must be a text"),
        ({"test_list": []}, "it has no tests"),
        ({"test_list": None}, "its test_list is None, it must be a list of texts"),
        ({"test_list": ["assert height(root) =="]}, "its test_list is not Python 3: invalid syntax, line 1"),
        ({"test_list": ["assert depth(root) == 2"]}, "its tests call no function that its code defines"),
        ({"test_setup_code": "import numpy as np"}, "its tests import numpy, which the sandbox does not offer"),
        ({"test_imports": ["import numpy.linalg"]}, "its prompt imports numpy, which the sandbox does not offer"),
        ({"test_imports": "import math"}, "its test_imports is 'import math', it must be a list of texts"),
        (
            {"code": "def g():\n    return height(1)\nN = height(1)\ndef height(x, n=N):\n    return x"},
            "its header needs N, which is",
        ),
    ],
)
def test_an_odd_record_is_left_out_by_name(tmp_path: Path, fields: dict[str, Any], why: str) -> None:
    dataset = load("mbpp", tmp_path, [FULL, {**FULL, "task_id": 13, **fields}, {**FULL, "task_id": 14}])
    assert list(dataset.tasks) == ["MBPP/12", "MBPP/14"]
    assert list(dataset.left_out) == ["MBPP/13"]
    assert why in dataset.left_out["MBPP/13"]


def test_many_tasks_that_are_left_out_are_one_line(tmp_path: Path) -> None:
    odd = [{**FULL, "task_id": number, "test_list": []} for number in range(20, 1_300)]
    sentence = load("mbpp", tmp_path, [FULL, *odd]).left_out_sentence
    why = "it has no tests"
    assert sentence == f"mbpp: 1,280 tasks are left out (MBPP/20: {why}; MBPP/21: {why}; MBPP/22: {why}; … and 1,277 more)"
