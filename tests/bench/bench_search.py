"""Finds the exact frontier of at least 10⁸ plans of the published recording, and compares with a plain enumeration in numpy.

    python -m tests.bench.bench_search FOLDER      FOLDER: published runs

The enumeration computes the cells that each step accepts once, then sums every combination of a first step, a second step and
their thresholds over all cells, for all last steps together. The whole enumeration would take too long, so it runs for a few
first steps, drawn with a seed, and the total time follows from their share. No plan that it finds may be better than the
frontier.
"""

from __future__ import annotations

import random
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from codecascade.errors import CascadeError
from codecascade.prices import usd
from codecascade_client.recording.published import import_published
from codecascade_client.replay.table import Table, tabulate
from codecascade_client.search.frontier import Grid, Point, pareto_frontier

GRID = Grid(tuple(step / 600 for step in range(1, 601)))
AT_LEAST_PLANS = 10**8
ALLOWED_S = 20.0
ALLOWED_BYTES = 2 * 10**9
ENUMERATED_STEPS = 3  # first steps (option and threshold) that the enumeration runs


@dataclass(frozen=True)
class Enumeration:
    plans: int
    seconds: float
    share: float  # enumerated part of the grid's first steps
    behind: bool  # no plan is better than the frontier


def main(folder: Path) -> int:
    try:
        with tempfile.TemporaryDirectory() as scratch:
            recording = import_published(folder, Path(scratch) / "recording", stages=True).load()
    except CascadeError as error:
        print(error, file=sys.stderr)
        return 2
    table = tabulate(recording)
    plans = GRID.plans(table)
    started = time.perf_counter()
    frontier = pareto_frontier(table, GRID)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"{plans:,} plans ({len(table.tiers)} tiers, {len(GRID.thresholds)} thresholds per step, {table.correct[0].size} cells)"
    )
    print(f"search:      {seconds:8.2f} s, {plans / seconds:,.0f} plans/s, peak memory {peak / 1e6:,.0f} MB")
    cheapest, dearest = (1e3 * usd(point.cost) / table.correct[0].size for point in (frontier[0], frontier[-1]))
    print(f"frontier:    {len(frontier)} plans, {cheapest:.3f} to {dearest:.3f} $ per 1,000")
    slow = enumerate_some(table, frontier)
    print(
        f"enumeration: {slow.seconds / slow.share:8.0f} s for all ({slow.plans:,} three-tier plans took {slow.seconds:.2f} s, "
        f"{slow.share:.2%} of the first steps), {slow.plans / slow.seconds:,.0f} plans/s"
    )
    good = plans >= AT_LEAST_PLANS and seconds <= ALLOWED_S and peak <= ALLOWED_BYTES and slow.behind
    print("as promised" if good else "NOT as promised")
    return 0 if good else 1


def enumerate_some(table: Table, frontier: list[Point]) -> Enumeration:
    """Enumerate plans over all three tiers for some of the first steps."""
    cells = table.correct[0].size
    cost, correct = table.cost.reshape(-1, cells), table.correct.reshape(-1, cells)
    small, medium, large = ([table.of(option) for option in GRID.options(table, tier)] for tier in table.tiers)
    first = [(o, t) for o in small if table.options[o].k > 0 for t in GRID.thresholds]
    second = [(o, table.accepts(o, t).ravel()) for o in medium if table.options[o].k > 0 for t in GRID.thresholds]
    last = [o for o in large if table.options[o].k != 1]
    best = np.array([[point.cost, point.correct] for point in frontier])
    chosen = random.Random(0).sample(first, ENUMERATED_STEPS)
    behind = True
    started = time.perf_counter()
    for a, threshold in chosen:
        accepted_a = table.accepts(a, threshold).ravel()
        paid_a, right_a = cost[a].sum(), correct[a][accepted_a].sum()
        for b, accepted in second:
            goes_on = ~accepted_a & ~accepted
            paid_b = paid_a + cost[b][~accepted_a].sum()
            right_b = right_a + correct[b][~accepted_a & accepted].sum()
            paid = paid_b + cost[last][:, goes_on].sum(axis=1)
            right = right_b + correct[last][:, goes_on].sum(axis=1)
            reachable = best[np.searchsorted(best[:, 0], paid, side="right") - 1, 1]
            behind &= bool((right <= reachable).all())
    seconds = time.perf_counter() - started
    return Enumeration(len(chosen) * len(second) * len(last), seconds, len(chosen) / len(first), behind)


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
