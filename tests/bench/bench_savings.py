"""What plans searched on the published runs save on held-out tasks: the paper's mode, and plans that use the tests in prompts.

python -m tests.bench.bench_savings RECORDING      RECORDING: the published samples, judged (`make bench-savings` makes it)

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

from codecascade.errors import CascadeError
from codecascade.types import GivenStep, Plan
from codecascade_client.datasets.split import split
from codecascade_client.recording.recording import StepOption
from codecascade_client.recording.store import open_recording
from codecascade_client.replay.table import Table, outcome, tabulate
from codecascade_client.search.choose import PROBABILITY, Bootstrap, choose, single, single_plans
from codecascade_client.search.frontier import WHOLE
from codecascade_client.search.offers import Offer, offers
from codecascade_client.search.savings import Held, saving
from codecascade_client.terminal import WIDE, console, new_table

SPLITS = 20
BANDS = (0.55, 0.65, 0.70, 0.75, 0.78, 0.80, 1.01)  # of held-out accuracy
PAPER, GIVEN = "paper's mode", "given tests"
SINGLE, SAME = "single models", "single models with the same evidence"


@dataclass(frozen=True)
class Measured:
    """A plan on the held-out tasks of a split."""

    mode: str
    seed: int
    held: Held
    promised: float  # accuracy
    savings: dict[str, float | None]  # by reference


@dataclass(frozen=True)
class Balanced:
    """The plan `balanced` beside the largest tier alone, on the held-out tasks of a split."""

    mode: str
    saving: float
    accuracy_change: float


@dataclass(frozen=True)
class Split:
    """What one split gives."""

    plans: list[Measured]
    balanced: list[Balanced]
    luck: (
        float  # validation minus held-out accuracy of single models, which nobody chose: how much easier the validation tasks are
    )


def main(folder: Path) -> int:
    try:
        table = tabulate(open_recording(folder).load())
    except CascadeError as error:
        print(error, file=sys.stderr)
        return 2
    if table.undrawn:
        print(table.undrawn, file=sys.stderr)
        return 2
    splits = [split_of(table, seed) for seed in range(SPLITS)]
    report(table, splits)
    return 0


def split_of(table: Table, seed: int) -> Split:
    parts = split(table.tasks, seed)
    validation, test = table.only(tasks=parts.validation), table.only(tasks=parts.test)
    references = {name: [held(test, plan) for plan in plans] for name, plans in references_of(test).items()}
    plans: list[Measured] = []
    named: list[Balanced] = []
    for mode, searched in ((PAPER, replace(validation, draws={})), (GIVEN, validation)):
        offered = offers(searched, WHOLE)
        plans += [measured(mode, seed, offer, test, references) for offer in offered if counts(offer.plan)]
        chosen = choose(searched, offered, PROBABILITY, Bootstrap(len(searched.tasks), seed))
        named.append(beside_largest(mode, next(choice.plan for choice in chosen if choice.plan.name == "balanced"), test))
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


def beside_largest(mode: str, plan: Plan, test: Table) -> Balanced:
    alone, chosen = held(test, single(StepOption(test.tiers[-1], 0, 0))), held(test, plan)
    return Balanced(mode, 1 - chosen.cost_usd / alone.cost_usd, chosen.accuracy - alone.accuracy)


def report(table: Table, splits: Sequence[Split]) -> None:
    plans = [plan for one in splits for plan in one.plans]
    heads = [f"{low:.2f}–{high:.2f}" if high <= 1 else f"{low:.2f}+" for low, high in pairwise(BANDS)]
    rows = new_table("saving of", "against the cheapest as good of", right=(*heads, "mean", "loss"))
    for mode, reference in ((PAPER, SINGLE), (GIVEN, SINGLE), (GIVEN, SAME)):
        rows.add_row(mode, reference, *figures([plan for plan in plans if plan.mode == mode], reference))
    given = int(table.given.sum())
    out = console(sys.stdout, WIDE)
    out.print(f"{given} of {len(table.tasks)} tasks come with tests; {SPLITS} splits; plans in brackets")
    out.print(rows)
    for mode in (PAPER, GIVEN):
        named = [plan for one in splits for plan in one.balanced if plan.mode == mode]
        change, saved = fmean(plan.accuracy_change for plan in named), fmean(plan.saving for plan in named)
        print(f"`balanced` of {mode} against {table.tiers[-1]} alone: {100 * saved:.1f} % saved at {100 * change:+.1f} points")
    luck = fmean(one.luck for one in splits)
    print(f"validation minus held-out accuracy of single models, which is luck: {100 * luck:+.2f} points")
    print(f"promised minus achieved of {PAPER}: {100 * gap(plans, PAPER):+.2f} points")
    own = [plan for plan in plans if plan.mode == GIVEN]
    print(f"mean saving against single models: {100 * mean_saving(own, SINGLE):.1f} %")
    print(f"against single models with the same evidence: {100 * mean_saving(own, SAME):.1f} %")
    print(f"promised minus achieved: {100 * gap(plans, GIVEN):+.2f} points")


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
    raise SystemExit(main(Path(sys.argv[1])))
