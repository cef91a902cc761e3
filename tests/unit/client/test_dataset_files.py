import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from codecascade.requests import task_of
from codecascade.sandbox import SandboxPool
from codecascade.types import Verdict
from codecascade_build.paths import ROOT
from codecascade_client.datasets.humaneval import BenchmarkTask
from codecascade_client.datasets.load import load_dataset
from codecascade_client.errors import DatasetError

MBPP_HUMANEVAL_FORM = ROOT.parent / "shared" / "data" / "mbpp_sanitized.jsonl"

MBPP: dict[str, Any] = {
    "source_file": "x",
    "task_id": 7,
    "prompt": "Write a function to find the larger of two numbers.",
    "code": "def helper(x):\n  return x\n\ndef larger(a, b=0):\n  return helper(max(a, b))",
    "test_imports": ["import math"],
    "test_list": ["assert math.isclose(larger(1, 2), 2)", "assert larger(5) == 5"],
}
CALLED: dict[str, Any] = {
    "problem_id": 4,
    "difficulty": "introductory",
    "question": 'Given "x", give its double.\nA \\ and """quotes""" too.',
    "starter_code": "class Solution:\n    def double(self, x: int) -> int:",
    "input_output": json.dumps({"fn_name": "double", "inputs": [[1], [4]], "outputs": [[2], 8]}),
}
STDIN: dict[str, Any] = {
    "problem_id": 5,
    "difficulty": "introductory",
    "question": "Print the sum of the numbers on the line.",
    "starter_code": "",
    "input_output": json.dumps({"inputs": ["1 2\n", ["3 4"]], "outputs": ["3\n", ["7"]]}),
}


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


async def verdict(task: BenchmarkTask, program: str) -> Verdict:
    async with SandboxPool(workers=1) as pool:
        return await pool.run_program(task.check_program(program))


@pytest.mark.parametrize("as_array", [True, False])
async def test_mbpp_as_published_and_as_json_lines(tmp_path: Path, as_array: bool) -> None:
    path = write(tmp_path / "mbpp.json", [MBPP])
    if as_array:
        path.write_text(json.dumps([MBPP]))
    dataset = load_dataset(f"mbpp:{path}")
    (task,) = dataset.tasks.values()
    assert (dataset.name, task.task_id, task.entry_point) == ("mbpp", "MBPP/7", "larger")
    assert task.prompt == (
        'import math\ndef larger(a, b=0):\n    """\n    Write a function to find the larger of two numbers.\n    """\n'
    )
    assert task_of(task.prompt).entry_point == "larger"
    assert await verdict(task, "import math\n" + task.canonical_solution) is Verdict.PASS
    assert await verdict(task, task.prompt + "    return 0\n") is Verdict.FAIL


async def test_apps_calls_a_method_as_a_function(tmp_path: Path) -> None:
    dataset = load_dataset(f"apps:{write(tmp_path / 'test.jsonl', [CALLED, {**STDIN, 'difficulty': 'interview'}])}")
    (task,) = dataset.tasks.values()
    assert (task.task_id, task.entry_point) == ("APPS/4", "double")
    assert task.prompt.startswith("def double(x: int):\n")
    assert task_of(task.prompt).entry_point == "double"
    assert await verdict(task, task.prompt + "    return 2 * x\n") is Verdict.PASS
    assert await verdict(task, task.prompt + "    return x + 1\n") is Verdict.FAIL


async def test_apps_on_standard_input_is_asked_as_a_function_of_the_text(tmp_path: Path) -> None:
    (task,) = load_dataset(f"apps:{write(tmp_path / 'test.jsonl', [STDIN])}").tasks.values()
    assert task_of(task.prompt).entry_point == "solve"
    assert await verdict(task, task.prompt + "    return str(sum(map(int, text.split())))\n") is Verdict.PASS
    assert await verdict(task, task.prompt + "    return text\n") is Verdict.FAIL


def test_apps_as_a_folder_is_what_it_is_as_json_lines(tmp_path: Path) -> None:
    for number, record in ((4, CALLED), (5, STDIN)):
        problem = tmp_path / "test" / f"{number:04}"
        problem.mkdir(parents=True)
        (problem / "question.txt").write_text(record["question"])
        (problem / "input_output.json").write_text(record["input_output"])
        (problem / "metadata.json").write_text(json.dumps({"difficulty": record["difficulty"], "url": ""}))
        if record["starter_code"]:
            (problem / "starter_code.py").write_text(record["starter_code"])
    folder = load_dataset(f"apps:{tmp_path / 'test'}")
    lines = load_dataset(f"apps:{write(tmp_path / 'test.jsonl', [CALLED, STDIN])}")
    assert list(folder.tasks) == ["APPS/0004", "APPS/0005"]
    assert [task.prompt for task in folder.tasks.values()] == [task.prompt for task in lines.tasks.values()]


def parquet(path: Path, records: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(records), path)
    return path


MBPP_HUB = {**MBPP, "source_file": "Benchmark Questions Verification V2.ipynb"}
APPS_HUB = {"solutions": "[]", "url": "https://example.org/4"}


def test_mbpp_as_parquet_is_what_it_is_as_json_lines(tmp_path: Path) -> None:
    other = {**MBPP_HUB, "task_id": 3, "test_imports": []}
    lines = load_dataset(f"mbpp:{write(tmp_path / 'mbpp.jsonl', [MBPP, other])}")
    one = load_dataset(f"mbpp:{parquet(tmp_path / 'both.parquet', [MBPP_HUB, other])}")
    parquet(tmp_path / "sanitized" / "train-00000-of-00001.parquet", [other])
    parquet(tmp_path / "sanitized" / "test-00000-of-00001.parquet", [MBPP_HUB])
    folder = load_dataset(f"mbpp:{tmp_path / 'sanitized'}")
    assert list(folder.tasks) == ["MBPP/7", "MBPP/3"], "file by file"
    assert lines.sha256 == one.sha256 == folder.sha256


def test_apps_as_parquet_is_what_it_is_as_json_lines(tmp_path: Path) -> None:
    rows = [{**APPS_HUB, **record} for record in (CALLED, STDIN, {**CALLED, "problem_id": 6, "difficulty": "competition"})]
    loaded = load_dataset(f"apps:{parquet(tmp_path / 'apps' / '0000.parquet', rows)}")
    assert list(loaded.tasks) == ["APPS/4", "APPS/5"]
    assert loaded.sha256 == load_dataset(f"apps:{write(tmp_path / 'apps.jsonl', [CALLED, STDIN])}").sha256
    assert loaded.sha256 == load_dataset(f"apps:{tmp_path / 'apps'}").sha256


@pytest.mark.parametrize("untested", ["", json.dumps({"inputs": [], "outputs": []})])
def test_an_apps_problem_that_nothing_tests_is_left_out(tmp_path: Path, untested: str) -> None:
    rows = [{**APPS_HUB, **record} for record in (CALLED, {**STDIN, "input_output": untested})]
    assert list(load_dataset(f"apps:{parquet(tmp_path / 'a.parquet', rows)}").tasks) == ["APPS/4"]


def test_parquet_that_cannot_be_used_is_refused_in_one_sentence(tmp_path: Path) -> None:
    truncated = tmp_path / "cut.parquet"
    truncated.write_bytes(parquet(tmp_path / "whole.parquet", [MBPP_HUB]).read_bytes()[:-9])
    other = parquet(tmp_path / "other.parquet", [{"task_id": 1, "code": "def f(): pass", "test_list": ["assert f()"]}])
    for number in range(2):
        parquet(tmp_path / "twice" / f"{number}.parquet", [MBPP_HUB])
    for path, sentence in (
        (truncated, "cannot be read: Parquet magic bytes not found"),
        (other, "holds no task that can be used (MBPP/1: 'prompt' is missing)"),
        (tmp_path / "twice", "task 'MBPP/7' is there twice"),
        (tmp_path / "no.parquet", "No such file or directory"),
    ):
        with pytest.raises(DatasetError) as refused:
            load_dataset(f"mbpp:{path}")
        assert sentence in str(refused.value)
        assert "\n" not in str(refused.value)


def test_the_datasets_hash_follows_what_is_asked_and_what_is_right(tmp_path: Path) -> None:
    plain = load_dataset(f"mbpp:{write(tmp_path / 'a.json', [MBPP])}").sha256
    assert load_dataset(f"mbpp:{write(tmp_path / 'b.json', [MBPP])}").sha256 == plain
    assert load_dataset(f"mbpp:{write(tmp_path / 'c.json', [{**MBPP, 'test_list': ['assert larger(1) == 1']}])}").sha256 != plain
    assert load_dataset(f"mbpp:{write(tmp_path / 'd.json', [{**MBPP, 'prompt': 'Otherwise.'}])}").sha256 != plain


@pytest.mark.parametrize(
    ("form", "records", "sentence"),
    [
        ("mbpp", [{"task_id": 1}], "'code' is missing"),
        ("mbpp", [{**MBPP, "code": "def ("}], "(MBPP/7: its code is not Python 3: invalid syntax, line 1)"),
        ("mbpp", [{**MBPP, "test_list": ["assert other(1)"]}], "its tests call no function that its code defines"),
        (
            "apps",
            [{**CALLED, "input_output": "{"}],
            "holds no task that can be used (APPS/4: its input_output is not JSON: Expecting",
        ),
        ("apps", [{**CALLED, "difficulty": "interview"}], "holds no task"),
    ],
)
def test_a_record_of_another_form_is_refused(tmp_path: Path, form: str, records: list[dict[str, Any]], sentence: str) -> None:
    path = write(tmp_path / "records.jsonl", records)
    with pytest.raises(DatasetError) as refused:
        load_dataset(f"{form}:{path}")
    assert sentence in str(refused.value)
    with pytest.raises(DatasetError, match="nowhere cannot be read: No such file or directory"):
        load_dataset(f"{form}:nowhere")


@pytest.mark.skipif(not MBPP_HUMANEVAL_FORM.is_file(), reason="this copy of MBPP is not part of this repository")
def test_mbpp_in_humanevals_form_is_read_as_it_is() -> None:
    dataset = load_dataset(str(MBPP_HUMANEVAL_FORM))
    assert (dataset.name, len(dataset.tasks)) == ("mbpp_sanitized", 427)
