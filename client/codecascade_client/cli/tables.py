"""What the command line prints about a trace, plans and evaluations."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codecascade.plans import PlanFile
from rich.text import Text

from codecascade_client.estimate import Estimate
from codecascade_client.live.evaluate import Result
from codecascade_client.terminal import console, new_table
from codecascade_client.words import dollars, limits_in_words


def print_trace(trace: Mapping[str, Any]) -> None:
    """Print what every tier did, and why, on stderr."""
    rows = new_table("tier", right=("answers", "given tests", "own tests", "log-prob", "decision", "tokens", "cost", "ms"))
    for step in trace["steps"]:
        given, own, log_prob = step["n_given_tests"], step["n_test_lines"], step.get("log_prob")
        rows.add_row(
            step["tier"],
            str(step["solutions"]),
            f"{round(step['score'] * given)} of {given}" if given else "–",
            f"{own}, score {step['score']:.3f}" if own else "–",
            "–" if log_prob is None else f"{log_prob:.2f}",
            step["decision"],
            str(step["completion_tokens"]),
            dollars(step["cost_usd"]),
            f"{step['wall_ms']:,.0f}",
        )
    rows.add_section()
    tokens = sum(trace["cost"]["completion_tokens"].values())
    rows.add_row("all", "", "", "", "", "", str(tokens), dollars(trace["cost"]["cost_usd"]), f"{trace['wall_ms']:,.0f}")
    out = console(sys.stderr)
    out.print(rows)
    for step in trace["steps"]:
        out.print(Text(f"{step['tier']}: {step['reason']}"))
    if trace["tested"]:
        out.print(Text(f"Tested: {trace['tested']}"))
    if trace["note"]:
        out.print(Text(f"Note: {trace['note']}"))


def print_plans(files: Sequence[tuple[Path, PlanFile]]) -> None:
    """Print the plans of every file on stdout."""
    out = console(sys.stdout)
    for path, file in files:
        rows = new_table("plan", "requests", "tier", right=("k", "test lines", "accepts"))
        for name, plan in file.plans.items():
            label = f"{name} (default)" if name == file.default else name
            for position, given in enumerate(plan.given_steps):
                rows.add_row(*(("", "") if position else (label, "with tests")), given.tier, str(given.draws), "", "all pass")
            start = ("", "without tests") if plan.given_steps else (label, "all")
            for steps, beginning in ((plan.steps, start), (plan.infill_steps, ("", "infills"))):
                for position, step in enumerate(steps):
                    threshold = "always accepts" if step is steps[-1] else limits_in_words(step)
                    shape = (step.tier, str(step.k), str(step.lines_per_sample), threshold)
                    rows.add_row(*(("", "") if position else beginning), *shape)
            rows.add_section()
        out.print(Text(f"{path}: family {file.family}; {file.provenance.get('method', 'no method named')}"))
        out.print(rows)


def print_results(results: Sequence[Result]) -> None:
    """Print the table and its totals on stdout."""
    rows = new_table("task", "answered by", "tests", right=("tiers asked", "score", "tokens", "cost", "seconds"))
    for result in results:
        rows.add_row(
            result.task_id,
            result.tier,
            result.verdict.name.lower(),
            str(len(result.asked)),
            f"{result.score:.3f}",
            str(result.tokens),
            dollars(result.cost_usd),
            f"{result.latency_s:.1f}",
        )
    out = console(sys.stdout)
    out.print(rows)
    for line in totals(results):
        out.print(Text(line))


def totals(results: Sequence[Result]) -> list[str]:
    """pass@1, who answered, how many escalated, and what it all cost."""
    passed = sum(result.passed for result in results)
    tiers = dict.fromkeys(tier for result in results for tier in result.asked)
    answered = {tier: sum(result.tier == tier for result in results) for tier in tiers}
    per_task = sum(result.cost_usd for result in results) / len(results)
    return [
        f"pass@1: {passed} of {len(results)} ({passed / len(results):.1%})",
        "answered by: " + ", ".join(f"{tier} {count}" for tier, count in answered.items()),
        f"escalated: {sum(len(result.asked) > 1 for result in results)} of {len(results)}",
        f"per task: {sum(result.tokens for result in results) / len(results):,.0f} tokens, {dollars(per_task)}, "
        f"{sum(result.latency_s for result in results) / len(results):.1f} s",
    ]


def comparison(promised: Estimate, measured: Estimate) -> str:
    """Both accuracies with their intervals, in a sentence."""
    between = "overlap" if measured.overlaps(promised) else "are apart"
    return f"promised on held-out tasks: {_percent(promised)}, seen: {_percent(measured)}; the intervals {between}"


def _percent(estimate: Estimate) -> str:
    return f"{estimate.mean:.1%} (95 %: {estimate.low:.1%} to {estimate.high:.1%})"
