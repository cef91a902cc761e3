from collections import Counter

import pytest
from codecascade_client.datasets.humaneval import BenchmarkTask, humaneval
from codecascade_client.datasets.infills import KINDS, infills
from codecascade_client.datasets.load import Dataset, load_dataset

SOLUTION = '''\
    """What it does."""
    # how
    low = min(a, b)

    high = max(a, b)
    if low == high:
        return 0
    return high - low
'''
TASK = BenchmarkTask("t/0", "def gap(a, b):\n", "gap", SOLUTION, "def check(candidate):\n    assert candidate(1, 3) == 2\n")
ONE_LINE = BenchmarkTask("t/1", "def one():\n", "one", "    return 1\n", TASK.test)


@pytest.fixture(scope="module")
def of_humaneval() -> Dataset:
    return load_dataset("infill:humaneval")


def test_recordings_stay_usable_because_the_infills_are_the_same_everywhere(of_humaneval: Dataset) -> None:
    assert of_humaneval.name == "infill:humaneval"
    assert of_humaneval.sha256 == "39ca8b24452343123127f98b6f939df93fcadb46cbbe2088094307263b3073d5"


def test_an_infill_is_a_solution_in_three_parts(of_humaneval: Dataset) -> None:
    programs = {task_id: task.own_program() for task_id, task in humaneval().items()}
    for infill in of_humaneval.tasks.values():
        assert infill.own_program() == infill.prompt + infill.canonical_solution + infill.suffix == programs[infill.source]


def test_what_is_taken_out_is_below_the_prompt(of_humaneval: Dataset) -> None:
    prompts = {task_id: task.prompt for task_id, task in humaneval().items()}
    assert all(infill.prompt.startswith(prompts[infill.source]) for infill in of_humaneval.tasks.values())


def test_any_first_part_has_all_kinds(of_humaneval: Dataset) -> None:
    for size in (60, 150, 300):
        kinds = Counter(infill.kind for infill in list(of_humaneval.tasks.values())[:size])
        assert set(kinds) == set(KINDS)
        assert min(kinds.values()) > size / 6


def test_a_tier_sees_the_two_texts_and_not_what_is_between_them(of_humaneval: Dataset) -> None:
    infill = of_humaneval.tasks["HumanEval/3/single-line"]
    task = of_humaneval.task(infill.task_id)
    assert (task.prompt, task.suffix, task.entry_point) == (infill.prompt, infill.suffix, "below_zero")
    assert (task.infill, task.one_line) == (True, True)
    assert not of_humaneval.task("HumanEval/1/multi-line").one_line


def test_lines_are_lines_of_code_without_their_indentation() -> None:
    lines = {"low = min(a, b)", "high = max(a, b)", "if low == high:", "return 0", "return high - low"}
    made = infills({f"t/{n}": BenchmarkTask(f"t/{n}", TASK.prompt, "gap", SOLUTION, TASK.test) for n in range(40)})
    middles = {kind: {infill.canonical_solution for infill in made.values() if infill.kind == kind} for kind in KINDS}
    assert middles["single-line"] == lines
    for middle in middles["multi-line"]:
        written = [line.strip() for line in middle.split("\n") if line.strip()]
        assert 2 <= len(written) < len(lines)
        assert set(written) <= lines
    for middle in middles["random-span"]:
        assert middle in SOLUTION


def test_a_span_over_several_lines_ends_with_its_last_line() -> None:
    made = infills({f"t/{n}": BenchmarkTask(f"t/{n}", TASK.prompt, "gap", SOLUTION, TASK.test) for n in range(40)})
    spans = [infill for infill in made.values() if infill.kind == "random-span"]
    assert any("\n" in span.canonical_solution for span in spans)
    assert all(span.suffix.startswith("\n") for span in spans if "\n" in span.canonical_solution)


def test_a_solution_gives_the_kinds_that_it_is_long_enough_for() -> None:
    assert {infill.kind for infill in infills({"t/1": ONE_LINE}).values()} == {"single-line", "random-span"}


def test_a_task_without_a_solution_that_parses_gives_none() -> None:
    broken = BenchmarkTask("t/2", "def f(:\n", "f", "    return 1\n", TASK.test)
    unsolved = BenchmarkTask("t/3", TASK.prompt, "gap", "", TASK.test)
    assert infills({"t/2": broken, "t/3": unsolved}) == {}


def test_an_infill_is_judged_by_the_tests_of_its_task(of_humaneval: Dataset) -> None:
    infill = of_humaneval.tasks["HumanEval/3/single-line"]
    program = infill.check_program(infill.prompt + infill.canonical_solution + infill.suffix)
    assert program.endswith("check(below_zero)\n")
    assert humaneval()[infill.source].test in program
