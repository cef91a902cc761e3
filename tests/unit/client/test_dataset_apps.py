"""APPS: what its own harness provides, how it compares, and records that are no task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from codecascade.requests import task_of
from codecascade.sandbox import SandboxPool
from codecascade.sandbox.pool import MAX_SOURCE_BYTES
from codecascade.types import Candidate, Verdict
from codecascade_client.datasets.load import load_dataset
from codecascade_client.recording.judge import Sources

from tests.unit.client.dataset_records import judge, load, only_task

PASS, FAIL, ERROR = Verdict.PASS, Verdict.FAIL, Verdict.ERROR


def called(inputs: Any, outputs: Any, starter: str = "", **fields: Any) -> dict[str, Any]:
    tests = {"fn_name": "f", "inputs": inputs, "outputs": outputs}
    return {**printed(inputs, outputs), "starter_code": starter, "input_output": json.dumps(tests), **fields}


def printed(inputs: Any, outputs: Any, **fields: Any) -> dict[str, Any]:
    return {
        "problem_id": 3,
        "difficulty": "introductory",
        "question": "A question.",
        "starter_code": "",
        "input_output": json.dumps({"inputs": inputs, "outputs": outputs}),
        **fields,
    }


@pytest.mark.parametrize(
    ("parameters", "header"),
    [
        ("self, x: List[int]", "from typing import List\ndef f(x: List[int]):\n"),
        ("self, x: Optional[Dict[str, int]] = None", "def f(x: Optional[Dict[str, int]]=None):\n"),
        ("self, x: collections.deque", "import collections\ndef f(x: collections.deque):\n"),
        ("self, x: 'ListNode'", "def f(x: 'ListNode'):\n"),
        ("self, x: ListNode", "def f(x: 'ListNode'):\n"),
        ("self, x: Optional[TreeNode], *, k: ListNode = None", "def f(x: 'Optional[TreeNode]', *, k: 'ListNode'=None):\n"),
        ("self, x: float = inf", None),
    ],
)
async def test_a_header_runs_whatever_its_annotations_name(tmp_path: Path, parameters: str, header: str | None) -> None:
    record = called([[[4]]], [[4]], f"class Solution:\n    def f({parameters}) -> ListNode:")
    if header is None:
        other = called([[1]], [1], problem_id=4)
        assert load("apps", tmp_path, [record, other]).left_out == {
            "APPS/3": "a default of its parameters needs 'inf', which nothing defines"
        }
        return
    task = only_task("apps", tmp_path, record)
    assert header in task.prompt
    exec(task.prompt, {})  # a cascade runs it without the harness's imports
    assert task_of(task.prompt).entry_point == "f"
    assert await judge(task, f"{task.prompt}    return x\n", f"{task.prompt}    return 5\n") == [PASS, FAIL]


async def test_a_header_sees_what_its_starter_code_defines(tmp_path: Path) -> None:
    starter = "N = 3\nM = N + 1\nclass Pair:\n    a: Optional[int] = None\n\ndef f(x: Pair, y=M):"
    task = only_task("apps", tmp_path, called([[1]], [4], starter))
    assert task.prompt.startswith("from typing import Optional\nN = 3\nM = N + 1\nclass Pair:\n")
    assert await judge(task, f"{task.prompt}    return y\n") == [PASS]


@pytest.mark.parametrize(
    ("starter", "parameters"),
    [
        ("class Solution:\n    def f(self, x: int) -> int:", "x: int"),
        ("class Solution:\n    def f(self, x: int) -> int:\n        \n", "x: int"),
        ("class Solution:\n\tdef f(self, x):\n\t\t", "x"),
        ('class Solution(object):\n    def f(self, x):\n        """\n        :type x: int\n        """\n', "x"),
        ("def f(x):\n    # your code here", "x"),
        ("def f(x): # your code here: now", "x"),
        ("def f(\n    x,\n    y=2\n):\n", "x, y=2"),
        ("\ufeffdef f(x):\n\tpass", "x"),
        ("def g(x):\n    return x\n\ndef f(*x, **y):\n\t", "*x, **y"),
        ("# def f(x):", "*arguments"),
        ("", "*arguments"),
    ],
)
def test_a_header_is_read_from_starter_code_without_a_body(tmp_path: Path, starter: str, parameters: str) -> None:
    task = only_task("apps", tmp_path, called([[1]], [1], starter))
    assert f"def f({parameters}):\n" in task.prompt


async def test_an_answer_sees_the_names_that_the_harness_imports(tmp_path: Path) -> None:
    task = only_task("apps", tmp_path, called([[[3, 1, 1]]], [[1, 2]]))
    names = "def f(x):\n    heapify(x)\n    Counter(x), math.pi, gcd(2, 4), list(product(x)), random.random, itertools.count\n"
    rest = "    return [heappop(x), lru_cache(None)(lambda: 2)()]\n"
    own = "def gcd(a, b):\n    return 1\n\ndef f(x):\n    return [gcd(4, 8), 2]\n"
    future = "from __future__ import annotations\n\ndef f(x: Undefined) -> List[int]:\n    return [1, 2]\n"
    documented = f'"""A module."""\n{future}'
    assert await judge(task, names + rest, own, future, documented) == [PASS] * 4


@pytest.mark.parametrize(
    ("given", "wanted", "body", "verdict"),
    [
        ([1], [[1, 2]], "return (1, 2)", PASS),
        ([1], [1, 2], "return (1, 2)", PASS),
        ([1], [[[1, 2], [3, 4]]], "return [(1, 2), (3, 4)]", PASS),
        ([1], [[[1, 2], [3, 4]]], "return ((1, 2), (3, 4))", PASS),
        ([1], [[1, 2]], "return (2, 1)", FAIL),
        ([1], [7, 8], "return 7", PASS),  # the harness looks at the first element alone
        ([1], [], "return ()", PASS),
        ([1], None, "return None", PASS),
        ([1], [1.0], "return 1", PASS),
        ([1], [0.1], "return 0.1000001", FAIL),
        ([{"1": 2}], [2], "return x[1]", PASS),
        ([{"a": 2}], [2], "return x['a']", PASS),
        ([{"1": 2, "a": 3}], [2], "return x['1']", PASS),
        ([1], {"1": "one"}, "return {1: 'one'}", PASS),
        ([1], [{"1": "one"}], "return {1: 'one'}", PASS),
        ([1], [{"1": "one"}], "return {'1': 'one'}", FAIL),
        ([float("inf")], [float("-inf")], "return -x", PASS),
        ([float("inf")], [float("-inf")], "return x", FAIL),
        ([[float("nan")]], [True], "return x[0] != x[0]", PASS),
        ([10**5000 + 7], [-(10**5000)], "return 7 - x", PASS),
        ([10**5000 + 7], [-(10**5000)], "return 8 - x", FAIL),
        (["\ud800é\u2028"], [3], "return len(x)", PASS),
        ([True, False], [None], "return None if x else 1", ERROR),  # two arguments for one parameter
    ],
)
async def test_a_result_is_compared_as_the_harness_does(
    tmp_path: Path, given: Any, wanted: Any, body: str, verdict: Verdict
) -> None:
    record = called([], [])
    record["input_output"] = f'{{"fn_name": "f", "inputs": [{in_json(given)}], "outputs": [{in_json(wanted)}]}}'
    task = only_task("apps", tmp_path, record)
    assert await judge(task, f"def f(x):\n    {body}\n") == [verdict]


def in_json(value: Any) -> str:
    """JSON, with integers beyond Python's limit for texts."""
    if isinstance(value, list):
        return "[" + ", ".join(map(in_json, value)) + "]"
    if isinstance(value, int) and abs(value) >= 10**4000:
        rest = abs(value) % 10**1000
        assert abs(value) == 10**5000 + rest
        return ("-" if value < 0 else "") + "1" + "0" * 4000 + str(rest).zfill(1000)
    return json.dumps(value)


@pytest.mark.parametrize(
    ("wanted", "printed_text", "verdict"),
    [
        ("1 2\n3\n", "1 2\n3", PASS),
        ("1 2\n3\n", "  1 2  \n3\n\n", PASS),
        (["1 2", "3"], "1 2\n3\n", PASS),
        ("a\nb\n", "a\n\nb\n", PASS),
        ("1 2\n3\n", "1\n2\n3\n", FAIL),  # other lines
        ("0.333333333\n", "0.33333334\n", PASS),
        ("0.5 0.25\n", "0.5001 0.25\n", PASS),  # to three places
        ("0.5 0.25\n", "0.51 0.25\n", FAIL),
        ("inf\n", "Infinity\n", PASS),
        ("1000000000\n", "1000000001\n", PASS),  # relatively close
        ("YES\nNO\n", "NO\nYES\n", PASS),  # sets of lines: hendrycks/apps #27
        ("YES\n", "NO\n", FAIL),
        ("", "", PASS),
        ("1\n", "", FAIL),
    ],
)
async def test_printed_text_is_compared_as_the_harness_does(
    tmp_path: Path, wanted: Any, printed_text: str, verdict: Verdict
) -> None:
    task = only_task("apps", tmp_path, printed(["x"], [wanted]))
    assert await judge(task, f"def solve(text):\n    return {printed_text!r}\n") == [verdict]


async def test_the_samples_of_a_question_are_given_tests_and_compared_alike(tmp_path: Path) -> None:
    question = "Halve n.\n\n-----Input-----\nn\n\n-----Output-----\nIts half.\n\n-----Examples-----\nInput\n1\n\nOutput\n0.5\n"
    task = only_task("apps", tmp_path, printed(["3\n"], ["1.5\n"], question=question))
    (given,) = task_of(task.prompt).given_tests
    recorded = load_dataset(f"apps:{tmp_path / 'apps.jsonl'}").task(task.task_id)
    assert Sources(recorded, (), {}).given == (given,), "a recording is judged by the tests that a live request has"
    assert given.source == "assert __same_output__(solve('1\\n'), '0.5')"
    programs = [f"{task.prompt}    return str(int(text) {sign} 2)\n" for sign in ("/", "//")]
    async with SandboxPool(workers=1) as pool:
        matrix = await pool.run([Candidate(program) for program in programs], [given])
    assert matrix.verdicts.tolist() == [[PASS], [FAIL]]
    assert await judge(task, *programs) == [PASS, FAIL]


async def test_integers_of_any_length_are_read_and_printed(tmp_path: Path) -> None:
    task = only_task("apps", tmp_path, printed(["1" * 6000], ["2" * 6000]))
    right, wrong = "def solve(text):\n    return str(2 * int(text))\n", "def solve(text):\n    return '2'\n"
    assert await judge(task, right, wrong) == [PASS, FAIL]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"input_output": None}, "it has no tests"),
        ({"input_output": " "}, "it has no tests"),
        ({"input_output": "[1]"}, "its input_output is [1], it must be a JSON object"),
        ({"input_output": '{"inputs": null, "outputs": []}'}, "its inputs are None, they must be a list"),
        ({"input_output": '{"inputs": ["1"]}'}, "its outputs are None, they must be a list"),
        (printed(["1", "2"], ["1"]), "it has 2 inputs and 1 outputs, there must be as many of both"),
        (printed(["1", None], ["1", "2"]), "one of its inputs is None, it must be a text or a list of lines"),
        (printed(["1"], [5]), "one of its outputs is 5, it must be a text or a list of lines"),
        (called([[1], 5], [1, 1]), "one of its inputs is 5, it must be a list of arguments"),
        (
            {"input_output": '{"fn_name": "a b", "inputs": [[1]], "outputs": [1]}'},
            "its fn_name is 'a b', it must be a function's name",
        ),
        (called([[1]], [1], "class Solution:\n    def f(self, x):\n        print x\n"), "its starter code is not Python 3: "),
        (called([[1]], [1], "def f((a, b), c):"), "its starter code is not Python 3: "),
        ({"question": None}, "its question is None, it must be a text"),
        ({"question": "\ud800"}, "it holds half of a surrogate pair, which no program can"),
        ({"difficulty": None}, None),
        (printed(["x" * MAX_SOURCE_BYTES], ["1"]), "each of its tests has more than 49,536 bytes"),
        ({"question": "é" * (MAX_SOURCE_BYTES // 2)}, "the sandbox takes 65,536"),
    ],
)
def test_an_odd_record_is_left_out_by_name(tmp_path: Path, fields: dict[str, Any], why: str | None) -> None:
    odd = {**printed(["1"], ["1"]), **fields, "problem_id": 8}
    dataset = load("apps", tmp_path, [printed(["1"], ["1"]), odd, printed(["1"], ["1"], problem_id=9)])
    assert list(dataset.tasks) == ["APPS/3", "APPS/9"]
    assert list(dataset.left_out) == (["APPS/8"] if why else []), "other difficulties are not asked for"
    assert why is None or why in dataset.left_out["APPS/8"]


def test_a_record_without_a_number_is_named_by_its_place(tmp_path: Path) -> None:
    path = tmp_path / "apps.jsonl"
    path.write_text("\n".join((json.dumps(printed(["1"], ["1"])), "{", '"text"', '{"difficulty": "introductory"}')))
    dataset = load_dataset(f"apps:{path}")
    assert list(dataset.tasks) == ["APPS/3"]
    assert list(dataset.left_out) == ["line 2", "line 3", "line 4"]
    assert dataset.left_out["line 3"] == "not a JSON object, but 'text'"
    assert dataset.left_out["line 4"] == "'input_output' is missing"
    assert dataset.left_out_sentence is not None
    assert dataset.left_out_sentence.startswith("apps: 3 tasks are left out (line 2: not a JSON object (Expecting")


def test_a_folder_that_lacks_a_file_is_left_out_by_name(tmp_path: Path) -> None:
    files = {
        "question.txt": "\ufeffWhat?",
        "input_output.json": json.dumps({"inputs": ["1"], "outputs": ["1"]}),
        "metadata.json": '{"difficulty": "introductory"}',
    }
    for number, missing in enumerate((None, *files)):
        folder = tmp_path / f"{number:04}"
        folder.mkdir()
        for name, text in files.items():
            if name != missing:
                (folder / name).write_text(text, encoding="utf-8")
    (tmp_path / "notes").mkdir()
    dataset = load_dataset(f"apps:{tmp_path}")
    assert list(dataset.tasks) == ["APPS/0000"]
    assert "\ufeff" not in dataset.tasks["APPS/0000"].prompt
    assert dataset.left_out == {f"APPS/{number:04}": f"it has no {name}" for number, name in enumerate(files, start=1)}


async def test_tests_are_counted_in_bytes_and_as_many_run_as_fit(tmp_path: Path) -> None:
    text = "é" * 4_000  # 16,000 bytes as a literal
    task = only_task("apps", tmp_path, printed(["x" * MAX_SOURCE_BYTES, text, "2", text, "3"], ["1", "1", "1", "1", "0"]))
    assert task.tests_left_out == 3
    right, wrong = "def solve(text):\n    return '1'\n", "def solve(text):\n    return str(len(text) // 4000)\n"
    assert await judge(task, right, wrong) == [PASS, FAIL]


async def test_the_first_solution_that_python_3_reads_is_the_tasks_own(tmp_path: Path) -> None:
    reading = "n = int(input())\nfor _ in range(n):\n    print(sum(map(int, input().split())))\nexit()\n"
    main = "import sys\nif __name__ == '__main__':\n    print(sum(map(int, open(0).read().split()[1:])))\n"
    method = "class Solution:\n    def f(self, x: List[int]) -> int:\n        return max(x)\n"
    function = "def f(x):\n    return max(x)\n"
    records = [
        printed(["2\n1 2\n3 4\n"], ["3\n7\n"], solutions=json.dumps(["print 1", reading])),
        printed(["2\n1 2\n"], ["3\n"], solutions=[main], problem_id=4),
        called([[[1, 5]]], [5], solutions=json.dumps([method]), problem_id=5),
        called([[[1, 5]]], [5], solutions=json.dumps([function]), problem_id=6),
        printed(["1"], ["1"], solutions="", problem_id=7),
        printed(["1"], ["1"], solutions="no JSON", problem_id=8),
    ]
    tasks = list(load("apps", tmp_path, records).tasks.values())
    own = [task.own_program() for task in tasks]
    assert own[4:] == [None, None]
    for task, program in zip(tasks[:4], own, strict=False):
        assert program is not None
        assert await judge(task, program) == [PASS], task.task_id
