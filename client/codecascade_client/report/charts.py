"""Charts of a search result, as measured on held-out tasks, unless a chart says otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter, StrMethodFormatter
from numpy.typing import NDArray

from codecascade_client.evidence.calibration import Bin
from codecascade_client.evidence.kinds import GIVEN, MEAN
from codecascade_client.evidence.measure import Measured
from codecascade_client.recording.recording import StepOption
from codecascade_client.replay.table import Table
from codecascade_client.search.search import Evaluated, SearchResult
from codecascade_client.words import counted

matplotlib.rcParams.update({"svg.hashsalt": "codecascade", "svg.fonttype": "none", "font.size": 10, "axes.grid": True})
matplotlib.rcParams.update({"grid.color": "#e5e7eb", "axes.edgecolor": "#9ca3af", "axes.axisbelow": True})

_BLUE, _ORANGE, _GREY = "#2563eb", "#d97706", "#6b7280"
_TIER_COLOURS = ("#0d9488", "#2563eb", "#9333ea", "#d97706", "#dc2626", "#475569")
_THRESHOLDS = np.linspace(0.05, 1.0, 39)
_BY_GIVEN_TESTS = ("some fail", "none given", "all pass")
_QUARTERS = ("lowest\nquarter", "second", "third", "highest\nquarter")
_GREEDY, _SELF_TESTING = "single tier, greedy", "single tier, best of k by its own tests"


@dataclass(frozen=True)
class Chart:
    """A figure and its words."""

    name: str  # of its files
    title: str
    text: str  # what it shows, in a sentence or two
    figure: Figure


def charts(result: SearchResult) -> list[Chart]:
    parts = f"{len(result.held_out.tasks)} held-out tasks, {counted(len(result.held_out.runs), 'sampled run')}"
    return [
        Chart(
            "frontier",
            "Accuracy against cost",
            f"The plans of the frontier, found on {len(result.validation.tasks)} validation tasks and measured on {parts}. "
            "Bars are 95 % bootstrap intervals over tasks.",
            _frontier(result),
        ),
        Chart(
            "saving",
            "Saving at equal accuracy",
            f"Each frontier plan's cost against the cheapest single-tier plan that is at least as accurate on the same {parts}. "
            "Below zero the single tier is cheaper. Plans that no single tier reaches are left out.",
            _saving(result),
        ),
        Chart(
            "acceptance",
            "Acceptance against θ",
            "What every tier accepts at a threshold, at its largest k and l, and how much of that is wrong. On all tasks.",
            _acceptance([result.validation, result.held_out]),
        ),
    ]


def calibration(everything: Sequence[Measured]) -> list[Chart]:
    """Nothing if no greedy answer is judged."""
    greedy = [measured for measured in everything if measured.answers and not measured.sampled]
    text = (
        "Greedy answers to all recorded tasks, by what is known of them when a cascade decides: whether they pass the tests that "
        "come with their task, and which quarter of the answers the mean log-probability of their tokens is in. "
        "Bars are 95 % Wilson intervals."
    )
    return [Chart("calibration", "How often answers are right", text, _calibration(greedy))] if greedy else []


def _frontier(result: SearchResult) -> Figure:
    figure, axes = _new("cost, $ per 1,000 requests", "accuracy")
    greedy = [single for single in result.singles if single.plan.steps[0].k == 0]
    sampled = [single for single in result.singles if single.plan.steps[0].k > 0]
    _points(axes, sampled, _SELF_TESTING, "o", _GREY)
    _points(axes, greedy, _GREEDY, "s", "#111827")
    _points(axes, result.frontier, "cascade frontier", "D", _BLUE, bars=True)
    for place, names in chosen_places(result).items():
        axes.annotate(", ".join(names), place, xytext=(6, -12), textcoords="offset points", color=_ORANGE, weight="bold")
        axes.plot(*place, "D", color=_ORANGE, zorder=4)
    for single in greedy:
        axes.annotate(single.plan.steps[0].tier, _place(single), xytext=(6, 6), textcoords="offset points")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.legend(loc="lower right", frameon=False)
    return figure


def chosen_places(result: SearchResult) -> dict[tuple[float, float], list[str]]:
    """(held-out cost of 1,000 requests, accuracy) → the chosen plans at that place. Several rules often choose the same plan."""
    places: dict[tuple[float, float], list[str]] = {}
    for choice, evaluated in result.choices:
        places.setdefault(_place(evaluated), []).append(choice.plan.name)
    return places


def _place(evaluated: Evaluated) -> tuple[float, float]:
    """Held-out cost of 1,000 requests, and accuracy."""
    return 1e3 * evaluated.held_out.cost_usd.mean, evaluated.held_out.accuracy.mean


def _saving(result: SearchResult) -> Figure:
    figure, axes = _new("accuracy", "saving")
    accuracies, savings = [], []
    for point in result.frontier:
        accuracy = point.held_out.accuracy.mean
        as_good = [one.held_out.cost_usd.mean for one in result.singles if one.held_out.accuracy.mean >= accuracy - 1e-12]
        if as_good:
            accuracies.append(accuracy)
            savings.append(1 - point.held_out.cost_usd.mean / min(as_good))
    axes.axhline(0, color=_GREY, linewidth=1)
    axes.plot(accuracies, savings, "D", color=_BLUE)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


def _acceptance(tables: Sequence[Table]) -> Figure:
    figure, axes = _new("threshold θ", "share")
    for colour, tier in zip(cycle(_TIER_COLOURS), tables[0].tiers, strict=False):
        options = [option for option in tables[0].options if option.tier == tier and option.k > 0]
        option = max(options, key=lambda option: (option.k, option.lines_per_sample), default=None)
        if option is not None:
            accepted, wrong = acceptance(tables, option)
            axes.plot(_THRESHOLDS, accepted, color=colour, label=f"{tier} k={option.k} l={option.lines_per_sample}: accepted")
            axes.plot(_THRESHOLDS, wrong, color=colour, linestyle="--", label="of these wrong")
    axes.set_ylim(0, 1)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def acceptance(tables: Sequence[Table], option: StepOption) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per threshold: the share of cells accepted, and the wrong share of those (nan if none is accepted)."""
    index = tables[0].of(option)
    accepted = np.array([[table.accepts(index, t).sum() for t in _THRESHOLDS] for table in tables], np.float64).sum(axis=0)
    wrong = [[(table.accepts(index, t) & ~table.correct[index]).sum() for t in _THRESHOLDS] for table in tables]
    cells = sum(table.correct[index].size for table in tables)
    with np.errstate(invalid="ignore"):
        return accepted / cells, np.array(wrong, np.float64).sum(axis=0) / accepted


def _calibration(everything: Sequence[Measured]) -> Figure:
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    given, told = figure.subplots(1, 2, sharey=True, width_ratios=(3, 4))
    _label(given, "given tests", "accuracy")
    _label(told, "mean log-probability", "")
    _shares(given, {_series(measured): measured.by_given_tests for measured in everything}, _BY_GIVEN_TESTS, GIVEN.missing)
    _shares(told, {_series(measured): measured.by_log_probability for measured in everything}, _QUARTERS, MEAN.missing)
    given.set_ylim(-0.02, 1.02)
    figure.legend(*given.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return figure


def _series(measured: Measured) -> str:
    return f"{measured.tier}, {measured.dataset}"


def _shares(axes: Axes, bins: Mapping[str, Sequence[Bin]], names: Sequence[str], missing: str) -> None:
    """bins: by tier and dataset. names: of the bins, in their order. missing: why no tier has bins, in words."""
    for place, (tier, colour) in enumerate(zip(bins, cycle(_TIER_COLOURS), strict=False)):
        aside = 0.12 * (place - (len(bins) - 1) / 2)
        shares = [(x + aside, each.share) for x, each in enumerate(bins[tier]) if each.share]
        mean = [share.mean for _, share in shares]
        bars = [share.mean - share.low for _, share in shares], [share.high - share.mean for _, share in shares]
        axes.errorbar([x for x, _ in shares], mean, bars, fmt="o", color=colour, elinewidth=1, markersize=5, label=tier)
    if not any(bins.values()):
        axes.text(0.5, 0.5, missing, transform=axes.transAxes, ha="center", color=_GREY)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.5, len(names) - 0.5)


def _new(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.subplots()
    _label(axes, x, y)
    return figure, axes


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.spines[["top", "right"]].set_visible(False)


def _points(axes: Axes, plans: Sequence[Evaluated], label: str, marker: str, colour: str, *, bars: bool = False) -> None:
    cost, accuracy = zip(*map(_place, plans), strict=True) if plans else ((), ())
    if bars:
        estimates = [evaluated.held_out.accuracy for evaluated in plans]
        low = [estimate.mean - estimate.low for estimate in estimates]
        high = [estimate.high - estimate.mean for estimate in estimates]
        axes.errorbar(cost, accuracy, (low, high), fmt="none", ecolor=colour, elinewidth=0.7, alpha=0.35)
    axes.plot(cost, accuracy, marker, color=colour, markersize=5, label=label)
