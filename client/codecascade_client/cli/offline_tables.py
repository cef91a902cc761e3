"""What `search` prints: plans with their held-out results, and what they save."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from codecascade_client.live.bench import PlanBench
from codecascade_client.replay.plans import ReplayedPlan
from codecascade_client.search.search import Evaluated, SearchResult, prices_in_words
from codecascade_client.terminal import WIDE, console, new_table
from codecascade_client.words import in_words, interval, percent


def print_search(result: SearchResult) -> None:
    """On stdout."""
    out = console(sys.stdout, WIDE)
    out.print(
        Text(
            f"{result.plans_searched:,} plans on {len(result.validation.tasks)} validation tasks; "
            f"held out: {len(result.held_out.tasks)} tasks, {len(result.held_out.runs)} runs, 95 % intervals"
        )
    )
    out.print(Text(prices_in_words(result)))
    for title, plans in (
        ("frontier", result.frontier),
        ("single tiers", result.singles),
        ("chosen", [found for _, found in result.choices]),
    ):
        _print_plans(out, title, plans)
    for choice, _ in result.choices:
        out.print(Text(f"{choice.plan.name}: {choice.rule} (probability {choice.probability:.2f})"))
    _print_savings(out, result)


def _print_plans(out: Console, title: str, plans: Iterable[Evaluated]) -> None:
    rows = new_table(title, "steps", right=("validation $/1000", "accuracy", "held out $/1000", "accuracy", "95 %"))
    for found in plans:
        rows.add_row(
            found.plan.name,
            in_words(found.plan),
            f"{1e3 * found.validation.cost_usd.mean:.4f}",
            f"{found.validation.accuracy.mean:.1%}",
            f"{1e3 * found.held_out.cost_usd.mean:.4f}",
            f"{found.held_out.accuracy.mean:.1%}",
            interval(found.held_out.accuracy),
        )
    out.print(rows)


def _print_savings(out: Console, result: SearchResult) -> None:
    rows = new_table(
        f"saving, mean of {result.rules.splits} splits",
        right=("against its reference", "accuracy change", "the paper's way", "against the cheapest as good"),
    )
    for name, saving in result.savings.items():
        rows.add_row(
            name,
            percent(saving.against_reference),
            "–" if saving.accuracy_change is None else f"{100 * saving.accuracy_change:+.1f} points",
            percent(saving.against_mean) + _where(saving.against_mean_splits, saving.splits),
            percent(saving.against_cheapest) + _where(saving.against_cheapest_splits, saving.splits),
        )
    out.print(rows)


def _where(defined: int, splits: int) -> str:
    """In how many splits there was something to compare with, if not in all."""
    return "" if defined == splits else f" ({defined} of {splits} splits)"


def print_replayed(found: Sequence[ReplayedPlan]) -> None:
    """On stdout."""
    rows = new_table("plan", "steps", "answered by", right=("answers", "accuracy", "$/1000"))
    for each in found:
        answered = ", ".join(f"{tier} {count / each.cells:.0%}" for tier, count in each.answered_by.items())
        figures = (str(each.cells), f"{each.right / each.cells:.1%}", f"{1e3 * each.cost_usd:.4f}")
        rows.add_row(each.plan.name, in_words(each.plan), answered, *figures)
    console(sys.stdout, WIDE).print(rows)


def print_bench(results: Sequence[PlanBench]) -> None:
    """On stdout."""
    out = console(sys.stdout, WIDE)
    rows = new_table(
        "plan", right=("tasks", "pass@1", "95 %", "promised", "kept", "$/1000", "promised", "tokens", "p50 s", "p95 s", "p99 s")
    )
    for found in results:
        accuracy, cost = _promised(found)
        rows.add_row(
            found.plan,
            str(found.tasks),
            f"{found.accuracy.mean:.1%}",
            interval(found.accuracy),
            accuracy,
            "–" if found.kept is None else ("yes" if found.kept else "no"),
            f"{found.usd_per_1000:.4f}",
            cost,
            f"{found.tokens:,.0f}",
            *(f"{found.latency_s[percent]:.1f}" for percent in (50, 95, 99)),
        )
    out.print(rows)
    use = new_table("plan", "tier", right=("asked", "accepted", "of these wrong"))
    for found in results:
        for tier, counts in found.tiers.items():
            use.add_row(found.plan, tier, str(counts.asked), str(counts.accepted), str(counts.accepted_wrong))
    out.print(use)


def _promised(found: PlanBench) -> tuple[str, str]:
    if found.promised is None:
        return "–", "–"
    accuracy, cost = found.promised["accuracy"], found.promised["usd_per_1000"]
    return f"{accuracy['low']:.1%} to {accuracy['high']:.1%}", f"{cost['mean']:.4f}"
