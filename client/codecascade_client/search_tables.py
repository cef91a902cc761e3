"""What `search` prints: plans with their held-out results, and what they save."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from codecascade_client.estimates import Estimate
from codecascade_client.plan_search import Evaluated, SearchResult
from codecascade_client.reprice import price_ratio
from codecascade_client.selection import in_words
from codecascade_client.tables import new_table

_WIDTH = 180  # of output that goes to a file or a pipe


def print_search(result: SearchResult) -> None:
    """On stdout."""
    out = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
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


def prices_in_words(result: SearchResult) -> str:
    """The ratio that decides which plans pay, and where it is from."""
    prices = result.manifest.prices
    charged = ["generated tokens"]
    charged += ["prompt tokens"] if any(price.prompt_price_per_mtok for price in prices.tiers.values()) else []
    charged += ["the sandbox's CPU time"] if prices.sandbox_price_per_cpu_s else []
    return (
        f"prices of {result.rules.prices_from or 'the recording'}: a generated token costs {price_ratio(prices)} "
        f"({', '.join(prices.tiers)}); charged: {', '.join(charged)}"
    )


def interval(estimate: Estimate) -> str:
    return f"{estimate.low:.1%} to {estimate.high:.1%}"


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _where(defined: int, splits: int) -> str:
    """In how many splits there was something to compare with, if not in all."""
    return "" if defined == splits else f" ({defined} of {splits} splits)"
