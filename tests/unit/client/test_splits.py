import random

import pytest
from codecascade.errors import InvalidRequest
from codecascade_client.datasets.split import split

HUMANEVAL = [f"HumanEval/{n}" for n in range(164)]


@pytest.mark.parametrize("seed", [0, 7, 42])
def test_the_papers_split_is_reproduced(seed: int) -> None:
    random.seed(seed)
    validation = random.sample(range(164), 49)
    drawn = split(HUMANEVAL, seed)
    assert set(drawn.validation) == {f"HumanEval/{n}" for n in validation}
    assert len(drawn.validation) == 49
    assert sorted(drawn.validation + drawn.test) == sorted(HUMANEVAL)


def test_both_sides_keep_the_order_of_the_dataset() -> None:
    drawn = split(HUMANEVAL, seed=3)
    assert [HUMANEVAL.index(task) for task in drawn.test] == sorted(HUMANEVAL.index(task) for task in drawn.test)


@pytest.mark.parametrize("tasks", [[], ["a"], ["a", "b", "c"]])
def test_an_empty_side_is_refused(tasks: list[str]) -> None:
    with pytest.raises(InvalidRequest, match=f"a split of {len(tasks)} tasks at 0.3 leaves a side empty"):
        split(tasks, seed=0)
