import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from codecascade.types import Plan, PlanStep
from codecascade_client.recording.recording import StepOption, option_of
from codecascade_client.replay.table import Table, outcome, tabulate
from codecascade_client.search.frontier import PAPER, Grid, Point, pareto_frontier
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.client import synthetic_recordings as synthetic

FIVE = {"xs": 1.0, "s": 1.3, "m": 2.9, "l": 7.1, "xl": 11.3}


def enumerated(table: Table, grid: Grid) -> Iterator[Plan]:
    """Every plan of the grid, by the rules as they are written: subsets of tiers, k = 1 never last, k = 0 earlier only where
    its log-probability decides, which it may do for k = 1 too.
    """
    for size in range(1, len(table.tiers) + 1):
        for tiers in itertools.combinations(table.tiers, size):
            last = [PlanStep(o.tier, o.k, o.lines_per_sample) for o in grid.options(table, tiers[-1]) if o.k != 1]
            for steps in itertools.product(*(list(earlier(table, grid, tier)) for tier in tiers[:-1]), last):
                if not grid.shared or len({step.threshold for step in steps[:-1]}) <= 1:
                    yield Plan("p", steps)


def earlier(table: Table, grid: Grid, tier: str) -> Iterator[PlanStep]:
    limits = [None, *grid.log_probs]
    for option in grid.options(table, tier):
        for high, low in itertools.product(limits, limits):
            if high is None and (low is not None or option.k == 0):
                continue
            if high is not None and (option.k > 1 or (low is not None and (low >= high or option.k == 0))):
                continue
            for threshold in grid.thresholds if option.k else (0.0,):
                yield PlanStep(tier, option.k, option.lines_per_sample, threshold, high, low)


def brute_force(table: Table, grid: Grid) -> list[tuple[int, int]]:
    """(cost, correct) of the plans that no other dominates, each evaluated on its own."""
    points = set()
    for plan in enumerated(table, grid):
        result = outcome(table, plan)
        points.add((int(result.cost.sum()), int(result.correct.sum())))
    best: list[tuple[int, int]] = []
    for cost, correct in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or correct > best[-1][1]:
            best.append((cost, correct))
    return best


def as_pairs(points: list[Point]) -> list[tuple[int, int]]:
    return [(point.cost, point.correct) for point in points]


@given(seed=st.integers(0, 10**6), shared=st.booleans())
@settings(max_examples=25, deadline=None)
def test_the_frontier_is_that_of_an_enumeration(seed: int, shared: bool) -> None:
    recording = synthetic.recording(seed, tasks=5)
    table = tabulate(recording)
    grid = Grid((0.1, 0.5, 1.0), shared=shared, ks=(0, 1, 3), log_probs=() if shared else (-9.0, -4.0))
    frontier = pareto_frontier(table, grid)
    assert as_pairs(frontier) == brute_force(table, grid)
    for point in frontier:
        result = outcome(table, point.plan)
        assert int(result.correct.sum()) == point.correct
        assert int(result.cost.sum()) == point.cost
    assert grid.plans(table) == sum(1 for _ in enumerated(table, grid))


@given(seed=st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_five_tiers_are_searched_exactly_too(seed: int) -> None:
    recording = synthetic.recording(seed, tasks=4, prices_per_mtok=FIVE)
    table = tabulate(recording)
    assert table.tiers == tuple(FIVE)
    grid = Grid((0.3, 1.0), ks=(0, 3), lines_per_sample=(2,))
    assert as_pairs(pareto_frontier(table, grid)) == brute_force(table, grid)


def specialists() -> Table:
    """Five tiers; each is right on one task of its own, where it is sure, and wrong on the others, where it is not."""
    tiers = tuple(FIVE)
    options = tuple(StepOption(tier, k, 2 if k else 0) for tier in tiers for k in (0, 3))
    own = np.array([[[option.tier == tier for tier in tiers]] for option in options])
    tested = np.array([option.k > 0 for option in options])[:, None, None]
    return Table(
        tiers=tiers,
        runs=(0,),
        tasks=tuple(f"t/{tier}" for tier in tiers),
        options=options,
        agreement=np.where(own & tested, 18, 0),
        pairs=np.broadcast_to(np.where(tested, 18, 0), own.shape),
        cost=np.array([[[round(10e6 * FIVE[option.tier])] * len(tiers)] for option in options], np.int64),
        correct=own,
        cut=np.zeros(own.shape, np.bool_),
        whole=np.ones(own.shape, np.bool_),
        log_prob=np.full(own.shape, np.nan),
    )


def test_a_plan_of_five_steps_is_found_where_it_takes_five() -> None:
    table = specialists()
    frontier = pareto_frontier(table, Grid((1.0,)))
    assert as_pairs(frontier) == brute_force(table, Grid((1.0,)))
    assert [point.correct for point in frontier] == [1, 2, 3, 4, 5]
    assert [step.tier for step in frontier[-1].plan.steps] == list(FIVE)


def test_the_papers_grid_has_its_plans() -> None:
    """641 at each threshold in the published tables, less four that end with k = 1."""
    options = [(k, lines) for k in PAPER.ks or () for lines in ((0,) if k == 0 else PAPER.lines_per_sample or ())]
    not_last, last = len(options) - 1, len(options) - 2
    assert sum((not_last ** (size - 1)) * last * len(list(itertools.combinations("abc", size))) for size in (1, 2, 3)) == 637
    assert PAPER.shared
    assert PAPER.thresholds == (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0)


def test_of_thresholds_that_let_the_same_answers_pass_the_strictest_is_taken() -> None:
    recording = synthetic.recording(14, tasks=30)
    table = tabulate(recording)
    grid = Grid(tuple(n / 100 for n in range(1, 101)), ks=(0, 3))
    steps = {step for p in pareto_frontier(table, grid) for step in p.plan.steps[:-1]}
    assert any(step.threshold < 1 for step in steps)
    for step in steps:
        option = table.of(option_of(step))
        stricter = [t for t in grid.thresholds if t > step.threshold][:1]
        assert all((table.accepts(option, t) != table.accepts(option, step.threshold)).any() for t in stricter)


@pytest.mark.parametrize("tiers", [("small",), ("small", "large")])
def test_fewer_tiers_are_searched(tiers: tuple[str, ...]) -> None:
    recording = synthetic.recording(5)
    table = tabulate(recording).only(tiers=tiers)
    grid = Grid((0.5, 1.0))
    assert as_pairs(pareto_frontier(table, grid)) == brute_force(table, grid)
