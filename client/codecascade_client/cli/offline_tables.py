"""What the offline commands print: plans with their held-out results and savings, replayed plans, and plans run live."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from codecascade_client.evidence.measure import Measured
from codecascade_client.live.bench import PlanBench
from codecascade_client.replay.plans import ReplayedPlan
from codecascade_client.report import evidence_tables, tables
from codecascade_client.search.certify import in_a_sentence
from codecascade_client.search.search import SearchResult
from codecascade_client.terminal import WIDE, console, new_table
from codecascade_client.words import in_words, interval


def print_search(result: SearchResult) -> None:
    """Print the result's tables on stdout."""
    out = console(sys.stdout, WIDE)
    out.print(Text(tables.extent(result)))
    out.print(Text(tables.prices_in_words(result)))
    _print_table(out, "frontier", tables.plans_table(result.frontier))
    _print_table(out, "single tiers", tables.plans_table(result.singles))
    _print_table(out, "chosen", tables.chosen_table(result))
    if len(result.manifests) > 1:
        _print_table(out, "chosen", tables.dataset_table(result))
    for choice, evaluated in result.choices:
        out.print(Text(f"{choice.plan.name}: {tables.rule(choice)}; {in_a_sentence(evaluated.certified)}"))
    _print_table(out, f"saving, mean of {result.rules.splits} splits", tables.savings_table(result))


def _print_table(out: Console, title: str, table: tables.TextTable) -> None:
    """title: the head of the first column."""
    rows = new_table(title, *table.left[1:], right=table.right)
    for row in table.rows:
        rows.add_row(*map(Text, row))
    out.print(rows)


def print_evidence(everything: Sequence[Measured]) -> None:
    """Print two tables for each tier's greedy answers and for its sampled ones on stdout."""
    out = console(sys.stdout)
    for measured in everything:
        out.print(Text(evidence_tables.title(measured)))
        for table in evidence_tables.tables(measured):
            _print_table(out, table.left[0], table)
            out.print()
    for words in (evidence_tables.AUROC_IN_WORDS, evidence_tables.CALIBRATION_IN_WORDS):
        out.print(Text(f"{words}."))


def print_replayed(plans: Sequence[ReplayedPlan]) -> None:
    """Print a table on stdout."""
    rows = new_table("plan", "steps", "answered by", right=("answers", "accuracy", "$/1000"))
    for replayed in plans:
        answered = ", ".join(f"{tier} {count / replayed.cells:.0%}" for tier, count in replayed.answered_by.items())
        figures = (str(replayed.cells), f"{replayed.right / replayed.cells:.1%}", f"{1e3 * replayed.cost_usd:.4f}")
        rows.add_row(replayed.plan.name, in_words(replayed.plan), answered, *figures)
    console(sys.stdout, WIDE).print(rows)


def print_bench(benches: Sequence[PlanBench]) -> None:
    """Print a table on stdout."""
    out = console(sys.stdout, WIDE)
    rows = new_table(
        "plan", right=("tasks", "pass@1", "95 %", "promised", "kept", "$/1000", "promised", "tokens", "p50 s", "p95 s", "p99 s")
    )
    for bench in benches:
        accuracy, cost = _promised(bench)
        rows.add_row(
            bench.plan,
            str(bench.tasks),
            f"{bench.accuracy.mean:.1%}",
            interval(bench.accuracy),
            accuracy,
            "–" if bench.kept is None else ("yes" if bench.kept else "no"),
            f"{bench.usd_per_1000:.4f}",
            cost,
            f"{bench.tokens:,.0f}",
            *(f"{bench.latency_s[percent]:.1f}" for percent in (50, 95, 99)),
        )
    out.print(rows)
    use = new_table("plan", "tier", right=("asked", "accepted", "of these wrong"))
    for bench in benches:
        for tier, counts in bench.tiers.items():
            use.add_row(bench.plan, tier, str(counts.asked), str(counts.accepted), str(counts.accepted_wrong))
    out.print(use)


def _promised(bench: PlanBench) -> tuple[str, str]:
    """Accuracy and cost."""
    if bench.promised is None:
        return "–", "–"
    accuracy, cost = bench.promised["accuracy"], bench.promised["usd_per_1000"]
    return f"{accuracy['low']:.1%} to {accuracy['high']:.1%}", f"{cost['mean']:.4f}"
