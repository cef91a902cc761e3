"""What searched plans save on held-out tasks, and what each kind of evidence is worth in it.

python -m tests.bench.bench_savings PUBLISHED      the published samples, judged (`make bench-savings` makes the recording)
python -m tests.bench.bench_savings --own FOLDER…  our own recordings, at their prices and at those of plans/prices

For each of 20 seeded splits, plans are searched on 30 % of the tasks and measured on the others. A plan's saving is against the
cheapest reference that is at least as accurate on the same held-out tasks, which only hindsight knows. Plans that no reference
reaches have no saving. A plan that asks one tier for one answer is such a reference itself, so it is not counted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import numpy as np
from codecascade.errors import CascadeError
from codecascade.types import GivenStep, Plan
from codecascade_build.paths import PLANS
from codecascade_client.datasets.split import split
from codecascade_client.errors import RecordingError
from codecascade_client.recording.recording import StepOption
from codecascade_client.recording.reprice import reprice
from codecascade_client.recording.store import open_recording
from codecascade_client.replay.table import Table, joined, outcome, tabulate
from codecascade_client.search.choose import PROBABILITY, Bootstrap, choose, single, single_plans
from codecascade_client.search.frontier import PAPER as PAPER_GRID
from codecascade_client.search.frontier import WHOLE, Grid
from codecascade_client.search.offers import Offer, offers
from codecascade_client.search.savings import Held, saving
from codecascade_client.terminal import WIDE, console, new_table
from codecascade_client.words import price_ratio

SPLITS = 20
BANDS = (0.55, 0.65, 0.70, 0.75, 0.78, 0.80, 1.01)  # of held-out accuracy
SINGLE, SAME = "single models", "single models with the same evidence"


@dataclass(frozen=True)
class Mode:
    """What a search may use."""

    name: str
    grid: Grid
    given: bool = True  # the tests that come with requests

    def of(self, table: Table) -> Table:
        return table if self.given else replace(table, draws={})


PAPER, THETAS = Mode("paper's mode", PAPER_GRID, given=False), Mode("θ per tier", replace(WHOLE, log_probs=()), given=False)
ALL = Mode("all evidence", WHOLE)
LEFT_OUT = (
    Mode("without given tests", WHOLE, given=False),
    Mode("without log-probabilities", replace(WHOLE, log_probs=())),
    Mode("without own tests", replace(WHOLE, ks=(0,))),
)


@dataclass(frozen=True)
class Measured:
    """A plan on the held-out tasks of a split."""

    mode: str
    seed: int
    held: Held
    promised: float  # accuracy
    savings: dict[str, float | None]  # by reference


@dataclass(frozen=True)
class Named:
    """A named plan beside the largest tier alone, on the held-out tasks of a split."""

    mode: str
    plan: str
    saving: float
    accuracy: float
    accuracy_change: float
    best_single: float  # accuracy of the most accurate plan of one tier


@dataclass(frozen=True)
class Split:
    """What one split gives."""

    plans: list[Measured]
    named: list[Named]
    luck: (
        float  # validation minus held-out accuracy of single models, which nobody chose: how much easier the validation tasks are
    )


def main(arguments: Sequence[str]) -> int:
    try:
        return own([Path(folder) for folder in arguments[1:]]) if arguments[0] == "--own" else published(Path(arguments[0]))
    except CascadeError as error:
        print(error, file=sys.stderr)
        return 2


def published(folder: Path) -> int:
    table = tabulate(open_recording(folder).load())
    if table.undrawn:
        raise RecordingError(table.undrawn)
    splits = [split_of(table, seed, modes_of(table)) for seed in range(SPLITS)]
    report(table, splits)
    return 0


def own(folders: Sequence[Path]) -> int:
    """Every named plan beside the largest tier alone, at each file of prices."""
    opened = [open_recording(folder) for folder in folders]
    for prices in (None, *sorted((PLANS / "prices").iterdir())):
        priced = [replace(one, manifest=reprice(one.manifest, prices)) if prices else one for one in opened]
        table = joined([tabulate(one.load()) for one in priced])
        out, seeds = console(sys.stdout, WIDE), range(SPLITS)
        out.print(f"prices {price_ratio(priced[0].manifest.prices)}, {len(table.tasks)} tasks, {SPLITS} splits")
        rows = new_table("mode", "plan", right=("saved", "accuracy change", "highest accuracy", "of one tier"))
        for mode in modes_of(table):
            named = [beside for seed in seeds for beside in split_of(table, seed, [mode]).named]
            for name in dict.fromkeys(beside.plan for beside in named):
                of = [beside for beside in named if beside.plan == name]
                saved, change = fmean(one.saving for one in of), fmean(one.accuracy_change for one in of)
                best = fmean(one.accuracy for one in of), fmean(one.best_single for one in of)
                rows.add_row(mode.name, name, f"{saved:.1%}", f"{100 * change:+.1f} points", *(f"{share:.1%}" for share in best))
        out.print(rows)
    return 0


def modes_of(table: Table) -> list[Mode]:
    """The modes that differ on this recording."""
    known = not np.isnan(table.log_prob).all()
    return [PAPER, THETAS, ALL, *(mode for mode in LEFT_OUT if known or mode.grid.log_probs)]


def split_of(table: Table, seed: int, modes: Sequence[Mode]) -> Split:
    parts = split(table.tasks, seed)
    validation, test = table.only(tasks=parts.validation), table.only(tasks=parts.test)
    references = {name: [held(test, plan) for plan in plans] for name, plans in references_of(test).items()}
    plans: list[Measured] = []
    named: list[Named] = []
    for mode in modes:
        searched = mode.of(validation)
        offered = offers(searched, mode.grid)
        plans += [measured(mode.name, seed, offer, test, references) for offer in offered if counts(offer.plan)]
        chosen = choose(searched, offered, PROBABILITY, Bootstrap(len(searched.tasks), seed))
        named += [beside_largest(mode.name, choice.plan, test, references[SINGLE]) for choice in chosen]
    luck = fmean(held(validation, plan).accuracy - held(test, plan).accuracy for plan in single_plans(test))
    return Split(plans, named, luck)


def references_of(table: Table) -> dict[str, list[Plan]]:
    """Plans of one tier: of the paper's kind, and with every number of draws where tests come with a request."""
    singles = single_plans(table)
    recorded = min(len(draws.cost) for draws in table.draws.values())
    numbers = range(1, recorded + 1)
    same = [replace(plan, given_steps=(GivenStep(plan.steps[0].tier, number),)) for plan in singles for number in numbers]
    return {SINGLE: singles, SAME: same}


def counts(plan: Plan) -> bool:
    """Whether the plan is more than one answer of one tier."""
    if plan.given_steps:
        return [step.draws for step in plan.given_steps] != [1]
    return [step.k for step in plan.steps] != [0]


def held(table: Table, plan: Plan) -> Held:
    result = outcome(table, plan)
    return Held(result.cost_usd, result.accuracy)


def measured(mode: str, seed: int, offer: Offer, test: Table, references: dict[str, list[Held]]) -> Measured:
    plan = held(test, offer.plan)
    savings = {name: saving(plan, None, reference).against_cheapest for name, reference in references.items()}
    return Measured(mode, seed, plan, float(offer.right.mean()), savings)


def beside_largest(mode: str, plan: Plan, test: Table, singles: Sequence[Held]) -> Named:
    alone, chosen = held(test, single(StepOption(test.tiers[-1], 0, 0))), held(test, plan)
    best = max(one.accuracy for one in singles)
    saved, change = 1 - chosen.cost_usd / alone.cost_usd, chosen.accuracy - alone.accuracy
    return Named(mode, plan.name, saved, chosen.accuracy, change, best)


def report(table: Table, splits: Sequence[Split]) -> None:
    plans = [plan for one in splits for plan in one.plans]
    heads = [f"{low:.2f}–{high:.2f}" if high <= 1 else f"{low:.2f}+" for low, high in pairwise(BANDS)]
    rows = new_table("saving of", "against the cheapest as good of", right=(*heads, "mean", "loss"))
    modes = list(dict.fromkeys(plan.mode for plan in plans))
    for mode in modes:
        for reference in (SINGLE, SAME):
            rows.add_row(mode, reference, *figures([plan for plan in plans if plan.mode == mode], reference))
    given = int(table.given.sum())
    out = console(sys.stdout, WIDE)
    out.print(f"{given} of {len(table.tasks)} tasks come with tests; {SPLITS} splits; plans in brackets")
    out.print(rows)
    for mode in modes:
        named = [plan for one in splits for plan in one.named if (plan.mode, plan.plan) == (mode, "balanced")]
        change, saved = fmean(plan.accuracy_change for plan in named), fmean(plan.saving for plan in named)
        print(f"`balanced` of {mode} against {table.tiers[-1]} alone: {100 * saved:.1f} % saved at {100 * change:+.1f} points")
    luck = fmean(one.luck for one in splits)
    print(f"validation minus held-out accuracy of single models, which is luck: {100 * luck:+.2f} points")
    print(f"promised minus achieved of {PAPER.name}: {100 * gap(plans, PAPER.name):+.2f} points")
    own = [plan for plan in plans if plan.mode == ALL.name]
    best = [max(plan.held.accuracy for plan in own if plan.seed == seed) for seed in range(SPLITS)]
    alone = [next(plan.best_single for plan in one.named) for one in splits]
    print(f"highest held-out accuracy: {100 * fmean(best):.1f} %, of single models: {100 * fmean(alone):.1f} %")
    print(f"mean saving against single models: {100 * mean_saving(own, SINGLE):.1f} %")
    print(f"against single models with the same evidence: {100 * mean_saving(own, SAME):.1f} %")
    print(f"promised minus achieved: {100 * gap(plans, ALL.name):+.2f} points")


def figures(plans: Sequence[Measured], reference: str) -> list[str]:
    """Mean savings: by band, and of all; and the share of plans that lose."""
    saved = [(plan.held.accuracy, value) for plan in plans if (value := plan.savings[reference]) is not None]
    bands = [[value for accuracy, value in saved if low <= accuracy < high] for low, high in pairwise(BANDS)]
    loss = sum(value < 0 for _, value in saved) / len(saved)
    shares = [f"{100 * fmean(values):.0f} % ({len(values)})" if values else "–" for values in bands]
    return [*shares, f"{100 * mean_saving(plans, reference):.1f} %", f"{100 * loss:.0f} %"]


def mean_saving(plans: Sequence[Measured], reference: str) -> float:
    """The mean of the splits' means."""
    return fmean(fmean(values) for values in by_split(plans, reference) if values)


def by_split(plans: Sequence[Measured], reference: str) -> Iterator[list[float]]:
    for seed in range(SPLITS):
        yield [value for plan in plans if plan.seed == seed and (value := plan.savings[reference]) is not None]


def gap(plans: Sequence[Measured], mode: str) -> float:
    return fmean(plan.promised - plan.held.accuracy for plan in plans if plan.mode == mode)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
