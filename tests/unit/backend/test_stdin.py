"""Programs that read standard input: which prompts are such programs, and how they run."""

from __future__ import annotations

import io
import json
import sys
from threading import Thread
from typing import Any

import pytest
from codecascade.requests import task_of
from codecascade.texts.cases import Case
from codecascade.texts.stdin import TAKES_INPUT, case_lines, runnable, script_as_function
from codecascade.types import Candidate, Task

CASES = [json.dumps({"input": "3 4\n", "output": "7"}), json.dumps({"input": "1 1\n", "output": "2"})]
LINES = ["assert __same_output__(__printed__('3 4\\n'), '7')", "assert __same_output__(__printed__('1 1\\n'), '2')"]
SAMPLES = "-----Examples-----\nInput\n3 4\n\nOutput\n7\n\nInput\n1 1\n\nOutput\n2\n"
COMMENTED = "".join(f"# {line}".rstrip() + "\n" for line in SAMPLES.split("\n"))
DOCUMENTED = f'"""The sum of two numbers.\n\n{SAMPLES}"""\n'
WHOLE = "def solve(text: str) -> str:\n"


def lines(task: Task) -> list[str]:
    return [line.source for line in task.given_tests]


@pytest.mark.parametrize(
    ("prompt", "entry_point"),
    [
        ("import sys\n\n", None),
        ("# The sum of two numbers.\n", None),
        ("def total(a, b):\n    return a + b\n\n\n# read two numbers and print their total\n", None),
        ("def main():\n", "main"),
        ("def main(limit=5):\n    pass\n\n\nif __name__ == '__main__':\n    main()\n", "main"),
        ("def total(a, b):\n    pass\n\n\nprint(total(*map(int, input().split())))\n", "total"),
        ("class Sum:\n    def __init__(self, a):\n        self.a = a\n\n    def plus(self, b):\n", "Sum.plus"),
        ("def first[T](items: list[T]) -> T:\n    x = =\n", None),  # whatever Python this is
        ("Write a program that prints the sum of two numbers.", None),
    ],
)
def test_the_callers_cases_test_a_program_as_a_whole(prompt: str, entry_point: str | None) -> None:
    task = task_of(prompt, cases=CASES)
    assert (task.program, task.testable, task.entry_point, task.unusable_tests) == (True, True, entry_point, ())
    assert lines(task) == LINES
    assert task.tested == "the whole program"


@pytest.mark.parametrize(
    "prompt",
    [
        DOCUMENTED,
        DOCUMENTED.replace("\n", "\r\n"),
        DOCUMENTED + "import sys\n\n\ndef read():\n    return sys.stdin.read()\n\n\n# the answer\n",
        COMMENTED,
        "import sys\n" + COMMENTED + "\nn = 1\n",
        DOCUMENTED + "def main():\n",
        "def main():\n    " + DOCUMENTED.replace("\n", "\n    ").rstrip() + "\n",
        f"Write a program that adds.\n\nExample:\n{SAMPLES.split(chr(10), 1)[1]}\nUse Python.",
    ],
)
def test_the_samples_of_a_prompt_test_a_program_as_a_whole(prompt: str) -> None:
    task = task_of(prompt)
    assert (task.program, lines(task)) == (True, LINES)


@pytest.mark.parametrize(
    ("prompt", "tests"),
    [
        ("import sys\n", ()),
        (DOCUMENTED + "def add(a, b):\n", ()),  # it may be a helper of the program
        ("def main():\n    '''Reads.\n\n    >>> main()\n    7\n    '''\n" + COMMENTED, ()),
        (COMMENTED + "\ndef main():\n", ["assert main() == 7"]),
    ],
)
def test_other_prompts_are_tested_as_they_were(prompt: str, tests: list[str]) -> None:
    assert task_of(prompt, tests=tests).program is False


def test_tests_of_a_function_are_not_run_on_a_program() -> None:
    task = task_of("def main():\n", tests=["assert main() is None"], cases=CASES)
    assert (lines(task), task.unusable_tests) == (LINES, ("tests are not run: cases test the program as a whole",))


@pytest.mark.parametrize(
    ("prompt", "testable", "why"),
    [
        ("def add(a, b):\n", True, "nothing calls add"),
        ("import numpy\n", False, "the prompt imports numpy, not among the deployment's sandbox_modules"),
        ("int main() {\n", False, "the prompt is not Python: it is completed in its own language"),
    ],
)
def test_cases_that_would_say_nothing_are_not_run_and_it_is_said_why(prompt: str, testable: bool, why: str) -> None:
    task = task_of(prompt, cases=CASES)
    assert (task.program, task.testable, task.given_tests) == (False, testable, ())
    assert task.unusable_tests == (f"cases are not run: {why}",)


def test_a_case_that_is_too_long_is_left_out_and_it_is_said() -> None:
    long = json.dumps({"input": "1 " * 2_000, "output": "7"})
    task = task_of("import sys\n", cases=[CASES[0], long])
    said = "cases[1] has 4044 characters as a test line, must have 4000 or fewer"
    assert (task.program, lines(task), task.unusable_tests) == (True, LINES[:1], (said,))
    alone = task_of("import sys\n", cases=[long])
    assert (alone.program, alone.testable, alone.unusable_tests) == (False, False, (said.replace("[1]", "[0]"),))


def test_a_sample_that_is_too_long_is_left_out() -> None:
    long = f"# Sample Input\n# {'1 ' * 90}\n" + "# 1\n" * 2_000 + "# Sample Output\n# 7\n"
    task = task_of(COMMENTED + "\n" + long)
    assert (lines(task), task.unusable_tests) == (LINES, ())
    alone = task_of(long)
    assert (alone.program, alone.unusable_tests) == (False, ())


def test_a_function_of_the_whole_input_is_given_it() -> None:
    task = task_of(WHOLE, tests=["assert solve('2 2') == '4'"], cases=CASES)
    assert (task.program, task.unusable_tests) == (False, ())
    assert lines(task) == ["assert solve('2 2') == '4'", *(line.replace("__printed__", "solve") for line in LINES)]


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (f"Adds.\n\n    {TAKES_INPUT}\n\n    Example\n    Input: 3 4\n    Output: 7\n", 1),
        (f"Adds.\n\n    -----Input-----\n    Two numbers.\n\n    {SAMPLES.replace(chr(10), chr(10) + '    ')}\n", 2),
        ("Adds.\n\n    Example\n    Input: 3 4\n    Output: 7\n", 0),  # a function of a text, for all that is known
    ],
)
def test_its_samples_are_read_where_it_stands_for_a_program(said: str, read: int) -> None:
    task = task_of(f'{WHOLE}    """{said}    """\n')
    assert task.program is False
    assert lines(task) == [line.replace("__printed__", "solve") for line in LINES[:read]]


def run(source: str, text: str, name: str = "__printed__") -> str:
    names: dict[str, Any] = {"__name__": "candidate"}
    exec(source, names)
    return str(names[name](text))


@pytest.mark.parametrize(
    "program",
    [
        "a, b = map(int, input().split())\nprint(a + b)\n",
        "import sys\nprint(sum(map(int, sys.stdin.read().split())))\n",
        "import sys\nsys.stdout.write(str(sum(map(int, sys.stdin.readline().split()))))\nexit()\n",
        "print(sum(map(int, open(0).read().split())))\n",
        "print(sum(map(int, open(0, 'rb').read().split())), file=open('/dev/stdout', mode='w'))\n",
        "import sys\nsys.stdout.buffer.write(b'%d' % sum(map(int, sys.stdin.buffer.read().split())))\nraise SystemExit(1)\n",
        "from __future__ import annotations\ndef main():\n    print(sum(map(int, input().split())))\n\n"
        "if __name__ == '__main__':\n    main()\n",
    ],
)
def test_a_program_runs_anew_for_every_input(program: str) -> None:
    before = (sys.stdin, sys.stdout, Thread.start, Thread.join)
    source = runnable(task_of("import sys\n", cases=CASES), Candidate(program)).source
    assert [run(source, text).strip() for text in ("3 4\n", "1 1\n")] == ["7", "2"]
    assert (sys.stdin, sys.stdout, Thread.start, Thread.join) == before


@pytest.mark.parametrize("called", ["", "\n\nmain()\n", "\n\nif __name__ == '__main__':\n    main()\n"])
def test_a_function_that_nothing_calls_is_called_once(called: str) -> None:
    body = "    print(sum(map(int, input().split())))\n"
    source = runnable(task_of("def main():\n", cases=CASES), Candidate(f"def main():\n{body}{called}")).source
    assert run(source, "3 4\n") == "7\n"


def test_what_is_no_program_of_cases_runs_as_it_is() -> None:
    candidate = Candidate("def add(a, b):\n    return a + b\n")
    assert runnable(task_of("def add(a, b):\n"), candidate) is candidate


def test_a_program_that_does_not_parse_does_not_load() -> None:
    source = runnable(task_of("import sys\n", cases=CASES), Candidate("print((\n")).source
    with pytest.raises(SyntaxError):
        run(source, "")


def test_reading_beyond_the_end_is_an_error_as_it_is_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EOFError):
        run(script_as_function("input()\ninput()\n", "main"), "3 4\n", "main")
    monkeypatch.setattr(sys, "stdin", io.StringIO("more\n"))
    assert input() == "more"


def test_every_text_of_a_case_is_one_line() -> None:
    (line,), problems = case_lines([Case("'\n\u2028\0\"", "\\é\r\n")])
    assert problems == ()
    assert len(line.source.splitlines()) == 1
