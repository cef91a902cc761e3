"""What the command line prints about a trace, plans and evaluations."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from codecascade.plans import PlanFile
from rich.console import Console
from rich.table import Table
from rich.text import Text

_PLAIN_WIDTH = 120  # of output that goes to a file or a pipe


def console(stream: TextIO) -> Console:
    """A console that wraps nothing at 80 columns when nobody looks."""
    return Console(file=stream, highlight=False, width=None if stream.isatty() else _PLAIN_WIDTH)


def print_trace(trace: Mapping[str, Any]) -> None:
    """What each tier did and why it was left, on stderr."""
    rows = new_table("tier", right=("solutions", "test lines", "score", "θ", "decision", "tokens", "cost", "ms"))
    for step in trace["steps"]:
        tested = step["k"] > 0 and step["solutions"] > 0
        rows.add_row(
            step["tier"],
            str(step["solutions"]),
            str(step["test_lines"]),
            f"{step['score']:.3f}" if tested else "–",
            f"{step['threshold']:g}" if tested else "–",
            step["decision"],
            str(step["completion_tokens"]),
            dollars(step["price_usd"]),
            f"{step['wall_ms']:,.0f}",
        )
    rows.add_section()
    tokens = sum(trace["cost"]["completion_tokens"].values())
    rows.add_row("all", "", "", "", "", "", str(tokens), dollars(trace["cost"]["price_usd"]), f"{trace['wall_ms']:,.0f}")
    out = console(sys.stderr)
    out.print(rows)
    for step in trace["steps"]:
        out.print(Text(f"{step['tier']}: {step['reason']}"))
    if trace["note"]:
        out.print(Text(f"Note: {trace['note']}"))


def print_plans(files: Sequence[tuple[Path, PlanFile]]) -> None:
    """On stdout."""
    out = console(sys.stdout)
    for path, file in files:
        rows = new_table("plan", "tier", right=("k", "test lines", "θ"))
        for name, plan in file.plans.items():
            label = f"{name} (default)" if name == file.default else name
            for position, step in enumerate(plan.steps):
                last = position == len(plan.steps) - 1
                threshold = "always accepts" if last else f"{step.threshold:g}"
                rows.add_row("" if position else label, step.tier, str(step.k), str(step.test_lines), threshold)
            rows.add_section()
        out.print(Text(f"{path}: family {file.family}; {file.provenance.get('method', 'no method named')}"))
        out.print(rows)


def dollars(usd: float) -> str:
    """Per-request prices are tiny: in millionths of a dollar."""
    return f"{usd * 1e6:,.1f} µ$"


def new_table(*left: str, right: Sequence[str] = ()) -> Table:
    """A plain table: columns of text on the left, then columns of figures."""
    rows = Table(box=None, pad_edge=False)
    for name in left:
        rows.add_column(name, no_wrap=True)
    for name in right:
        rows.add_column(name, justify="right", no_wrap=True)
    return rows
