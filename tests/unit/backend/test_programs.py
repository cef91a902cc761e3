"""Programs out of what models write."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from codecascade.texts.programs import candidate
from codecascade.texts.prompts import STYLES, solution_prompt
from codecascade.types import Task
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.backend.model_texts import ADD, HOSTILE, MODEL_TEXT

BARE = Task("def add(a, b):\n", "add")
WHOLE = "def add(a, b):\n    return a + b\n"


def program(completion: str, task: Task = ADD, style: str = "chatml") -> str:
    return candidate(task, solution_prompt(style, task), completion).source


def run(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "candidate"}
    exec(compile(source, "<candidate>", "exec"), names)
    return names


def defines_add(source: str) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == "add" for node in ast.parse(source).body)


@pytest.mark.parametrize("style", ["base", "chatml"])
def test_a_body_continues_the_prompt(style: str) -> None:
    assert program("    return a + b\n", style=style) == ADD.prompt + "    return a + b\n"


@pytest.mark.parametrize("task", [ADD, BARE])
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "completion",
    [
        "    return a + b",
        "return a + b",
        "return a + b\n",
        "c = a + b\nreturn c",
        "c = a + b\n    return c\n",
        "\treturn a + b\n",
        "\tif a:\n\t\treturn a + b\n\treturn b\n",
        "    if a:\n\treturn a + b\n    return b\n",
        "    c = a + b\n\treturn c\n",
        "return a + b\nreturn a + (",
        WHOLE + "\n\ndef other(x):\n    return [x",
        "    return a + b\r\n",
        "    return a + b\n\nThis adds the numbers.",
        "    return a + b\n\n\ndef other(x):\n    return [x",
        "    return a + b\n\n\nprint(add(1, 2)",
        WHOLE,
        "\n\n" + WHOLE,
        "    def add(a, b):\n        return a + b\n",
        WHOLE.replace("\n", "\r\n"),
        WHOLE + "\nassert add(1, 2) == 4\n",
        WHOLE + "\nif __name__ == '__main__':\n    print(add(int(input()), 2))\n",
        WHOLE + "\na = int(input())\nprint(add(a, 1))\n",
        WHOLE + "\ntotal = add(1, 2)\nfor digit in str(total.real):\n    print(digit, undefined)\n",
        WHOLE + "\ndef check():\n    assert add(1, 2) == 4\n\ncheck()\n",
        "```python\n" + WHOLE + "```",
        "```python\n" + WHOLE,
        "```\n" + WHOLE + "```\n",
        "Sure! Here it is:\n\n```python\n" + WHOLE + "```\n\nIt adds.",
        "```bash\npip install x\n```\n```python\n" + WHOLE + "```\n```text\n3\n```",
        "```python\nprint(1)\n```\nand\n```python\n" + WHOLE + "```",
        "```python\n    return a + b\n```",
        "```bash\npip install x\n```\n```python\n    return a + b\n```",
        "def helper(x):\n    return x\n\n\n" + WHOLE.replace("a + b", "helper(a) + b"),
        WHOLE.replace("a + b", "helper(a) + b") + "\n\ndef helper(x):\n    return x\n",
    ],
)
def test_the_function_is_found_however_it_is_written(task: Task, style: str, completion: str) -> None:
    assert run(program(completion, task, style))["add"](1, 2) == 3


@pytest.mark.parametrize("after", ["This adds.\n", "\nFor example:\n```python\nprint(add(1, 2))\n```\n", "```python\n"])
def test_an_answer_that_begins_in_a_code_block_ends_with_it(after: str) -> None:
    assert program("    return a + b\n```\n" + after) == ADD.prompt + "    return a + b\n"


def test_a_function_that_is_assigned_is_not_taken_for_usage() -> None:
    assert run(program("add = lambda a, b: a + b\nprint(add(1, 2, 3))\n"))["add"](1, 2) == 3


def test_a_completion_goes_on_in_the_middle_of_a_line() -> None:
    assert run(program(" a + b\n", Task("def add(a, b):\n    return", "add")))["add"](1, 2) == 3


def test_the_prompts_own_helpers_stay_when_the_model_writes_a_whole_program() -> None:
    task = Task("def twice(x):\n    return 2 * x\n\n\ndef four(x):\n    '''Four times x.'''\n", "four")
    result = run(program("```python\ndef four(x):\n    return twice(twice(x))\n```", task, "alpaca"))
    assert result["four"](3) == 12


def test_a_truncated_body_keeps_the_statements_that_are_whole() -> None:
    assert program("    if a:\n        return a + b\n    for i in range(") == ADD.prompt + "    if a:\n        return a + b\n"


@pytest.mark.parametrize("completion", ["", "I cannot help with that.", "```", "    (((", "\0", "\ud800", "{" * 500])
@pytest.mark.parametrize("style", STYLES)
def test_where_there_is_no_code_the_candidate_is_the_prompt_with_an_empty_body(completion: str, style: str) -> None:
    assert program(completion, style=style) == ADD.prompt + "    pass\n"


def test_top_level_code_stays_where_there_is_no_function_to_test() -> None:
    assert program("print(sys.argv)\n", Task("import sys\n")) == "import sys\nprint(sys.argv)\n"


def test_a_prompt_that_is_not_python_is_answered_with_the_models_code_alone() -> None:
    task = Task("Write a function that adds.")
    assert program(WHOLE + "```\nDone.", task) == WHOLE
    assert program("```python\n" + WHOLE + "```\nDone.", task) == WHOLE
    assert program("function add(a, b) {}", task) == "function add(a, b) {}\n"


@given(st.sampled_from([ADD, BARE]), st.sampled_from(STYLES), MODEL_TEXT)
def test_any_text_gives_a_program_that_parses_and_defines_the_entry_point(task: Task, style: str, completion: str) -> None:
    answer = candidate(task, solution_prompt(style, task), completion)
    assert (answer.problem or "").startswith("needs Python") or defines_add(answer.source)


STATEMENT = st.sampled_from(
    [
        "    x = a\n",
        "    if a:\n        return b\n",
        "    # why\n",
        "\n",
        "    def inner(c):\n        return c\n",
        "    '''\ntext\n'''\n",
    ]
)


@given(st.sampled_from([ADD, BARE]), st.sampled_from(["base", "chatml"]), st.lists(STATEMENT).map("".join))
def test_a_clean_body_is_kept_as_it_is(task: Task, style: str, statements: str) -> None:
    body = statements + "    return a + b\n"
    assert program(body, task, style) == task.prompt + body


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("style", STYLES)
def test_hostile_text_still_gives_a_program(name: str, style: str) -> None:
    assert defines_add(program(HOSTILE[name], style=style))


@pytest.mark.parametrize(
    ("statements", "kept"),
    [
        ("print(add(1, 2))", ""),
        ("add(1, 2)", ""),
        ("result = add(1, 2)\nprint(result)", ""),
        ("# Try it:\nx = 3\nprint(add(x, 1))", ""),
        ("add = add(1, 2)", ""),
        ("Done", ""),
        ("Note: done", ""),
        ("n = int(input())\nLIMIT = n", ""),
        ("def test():\n    assert add(1, 2) == 4\n\n\ntest()", "def test():\n    assert add(1, 2) == 4"),
        ("import sys\nsys.setrecursionlimit(10_000)", "import sys\nsys.setrecursionlimit(10_000)"),
        ("TABLE[1] = 2", "TABLE[1] = 2"),
        ("TABLE.update({1: add(0, 0)})", "TABLE.update({1: add(0, 0)})"),
        ("for i in range(3):\n    TABLE[i] = i", "for i in range(3):\n    TABLE[i] = i"),
        ("add.calls = 0", "add.calls = 0"),
        ("add = wrapped(add)", "add = wrapped(add)"),
        ("LIMIT = 5", "LIMIT = 5"),
        ("print('ready'); TABLE[2] = 3", "print('ready'); TABLE[2] = 3"),
    ],
)
def test_only_what_tries_the_function_out_goes(statements: str, kept: str) -> None:
    start = ADD.prompt + "    return TABLE.get(a, a + b)\n\n\nTABLE = {}\n\n\ndef wrapped(function):\n    return function\n"
    source = program(f"{start[len(ADD.prompt) :]}\n\n{statements}\n")
    assert source == (f"{start}\n\n{kept}\n" if kept else start)


@pytest.mark.parametrize("line", ["the sum = a + b", "return the sum", "the sum += a", "import the module"])
def test_broken_code_is_no_prose(line: str) -> None:
    completion = f"    c = a\n    {line}\n    return c + b\n"
    assert program(completion) == ADD.prompt + "    c = a\n"
