"""A search result as rows of text: what the terminal prints and the page shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from codecascade_client.search.choose import Choice
from codecascade_client.search.savings import MeanSaving
from codecascade_client.search.search import Evaluated, SearchResult
from codecascade_client.words import counted, in_words, interval, percent, price_ratio


@dataclass(frozen=True, slots=True)
class TextTable:
    """Columns of text, then columns of figures."""

    left: tuple[str, ...]  # heads of the columns of text
    right: tuple[str, ...]  # heads of the columns of figures
    rows: tuple[tuple[str, ...], ...]  # a cell for every head


def extent(result: SearchResult) -> str:
    """How much was searched and measured."""
    given = f" and {result.chains_searched} for requests that come with tests" if result.chains_searched else ""
    return (
        f"{result.plans_searched:,} plans{given} searched on {len(result.validation.tasks)} validation tasks; measured on "
        f"{len(result.held_out.tasks)} held-out tasks, {counted(len(result.held_out.runs), 'sampled run')}, with 95 % intervals"
    )


def excluded(result: SearchResult) -> list[str]:
    """A sentence for every tier that is too weak, and one if no plan for requests that come with tests could be searched."""
    unsearched = [f"no plans for requests that come with tests: {result.validation.undrawn}"] if result.validation.undrawn else []
    return unsearched + [
        f"tier {tier} is left out: it is right in {accuracy:.1%} of the validation tasks"
        for tier, accuracy in result.weak.items()
    ]


def rule(choice: Choice) -> str:
    """The rule that a plan was chosen by."""
    return f"{choice.rule} (probability {choice.probability:.2f})"


def prices_in_words(result: SearchResult) -> str:
    """The price ratio, where it is from, and what else is charged."""
    prices = result.manifest.prices
    charged = ["generated tokens"]
    charged += ["prompt tokens"] if any(price.prompt_price_per_mtok for price in prices.tiers.values()) else []
    charged += ["the sandbox's CPU time"] if prices.sandbox_price_per_cpu_s else []
    return (
        f"Prices of {result.rules.prices_from or 'the recording'}: a generated token costs {price_ratio(prices)} "
        f"({', '.join(prices.tiers)}); charged: {', '.join(charged)}"
    )


def plans_table(plans: Iterable[Evaluated]) -> TextTable:
    """Expected is the accuracy that was promised on the validation tasks, corrected for the choice among many plans."""
    return TextTable(
        left=("plan", "steps"),
        right=("validation $/1000", "accuracy", "expected", "held out $/1000", "accuracy", "95 %"),
        rows=tuple(
            (
                evaluated.plan.name,
                in_words(evaluated.plan),
                f"{1e3 * evaluated.validation.cost_usd.mean:.4f}",
                percent(evaluated.validation.accuracy.mean),
                percent(evaluated.expected.accuracy.mean if evaluated.expected else None),
                f"{1e3 * evaluated.held_out.cost_usd.mean:.4f}",
                percent(evaluated.held_out.accuracy.mean),
                interval(evaluated.held_out.accuracy),
            )
            for evaluated in plans
        ),
    )


def chosen_table(result: SearchResult) -> TextTable:
    return plans_table(evaluated for _, evaluated in result.choices)


def dataset_table(result: SearchResult) -> TextTable:
    """The chosen plans on the held-out tasks of each dataset. No rows if there is one dataset."""
    return TextTable(
        left=("plan", "dataset"),
        right=("held out $/1000", "accuracy", "95 %", *(f"asks {tier}" for tier in result.held_out.tiers)),
        rows=tuple(
            (
                choice.plan.name,
                name,
                f"{1e3 * measured.cost_usd.mean:.4f}",
                percent(measured.accuracy.mean),
                interval(measured.accuracy),
                *(percent(measured.reach.get(tier, 0.0)) for tier in result.held_out.tiers),
            )
            for choice, evaluated in result.choices
            for name, measured in evaluated.by_dataset.items()
        ),
    )


def prices_table(result: SearchResult) -> TextTable:
    prices = result.manifest.prices
    return TextTable(
        left=("tier",),
        right=("$ per 1M generated tokens", "$ per 1M prompt tokens"),
        rows=tuple(
            (name, f"{price.price_per_mtok:g}", f"{price.prompt_price_per_mtok:g}") for name, price in prices.tiers.items()
        ),
    )


def savings_table(result: SearchResult) -> TextTable:
    return TextTable(
        left=("plan",),
        right=("against its reference", "accuracy change", "the paper's way", "against the cheapest as good"),
        rows=tuple((name, *_saving(saving)) for name, saving in result.savings.items()),
    )


def _saving(saving: MeanSaving) -> tuple[str, str, str, str]:
    return (
        percent(saving.against_reference),
        "–" if saving.accuracy_change is None else f"{100 * saving.accuracy_change:+.1f} points",
        percent(saving.against_mean) + _where(saving.against_mean_splits, saving.splits),
        percent(saving.against_cheapest) + _where(saving.against_cheapest_splits, saving.splits),
    )


def _where(compared: int, splits: int) -> str:
    """The number of splits that have a plan to compare with, unless all have one."""
    return "" if compared == splits else f" ({compared} of {splits} splits)"
