"""`codecascade drift`: is traffic still what the plan file promises?"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from codecascade.drift import COST, REACH, Drift, Promise, how_many_tests
from codecascade.plans import PlanFile, load_plans

from codecascade_client.live.drift import PlanDrift, Totals, drifts_of, grown, promised, read_totals
from codecascade_client.terminal import console, new_table
from codecascade_client.words import dollars, percent

DRIFTED = 3


def drift(
    plans: Annotated[Path, typer.Argument(help="The plan file that the servers run with.", show_default=False)],
    metrics: Annotated[
        list[str] | None,
        typer.Option(help="A server's /metrics: a URL, or a file that holds them. Repeatable: they are added up."),
    ] = None,
    since: Annotated[
        list[Path] | None, typer.Option(help="An earlier /metrics of each, in the same order: count only what came after.")
    ] = None,
    plan: Annotated[list[str] | None, typer.Option(help="Test this plan only, repeatable; default: every searched one.")] = None,
    rate: Annotated[float, typer.Option(help="The chance of a false alarm, of all tests and readings together.")] = 0.01,
    every: Annotated[float | None, typer.Option(help="Read again every so many seconds, until there is an alarm.", min=1)] = None,
) -> None:
    """Test whether traffic is still what a plan file promises. Exit code 3: it is not.

    Tested are the share of requests that asks each tier, how many of its answers are accepted, come with given tests and pass
    everything, and whether requests and tiers cost more. The tests are sequential: read them as often as you like; --rate
    is the chance that any of them ever alarms while nothing has changed.
    """
    sources = metrics or ["http://127.0.0.1:8002/metrics"]
    if not 0 < rate < 1:
        raise typer.BadParameter(f"--rate is {rate}, must be above 0 and below 1")
    if since and len(since) != len(sources):
        raise typer.BadParameter(f"--since is there {len(since)} times, must be as often as --metrics, {len(sources)} times")
    file = load_plans(plans)
    promises = promised(file, plan)
    began = [read_totals(str(earlier)) for earlier in since] if since else [Totals() for _ in sources]
    raise typer.Exit(DRIFTED if _watch(file, promises, sources, began, rate, every) else 0)


def _watch(
    file: PlanFile, promises: Mapping[str, Promise], sources: Sequence[str], last: list[Totals], rate: float, every: float | None
) -> bool:
    """Read, test and print, once or until there is an alarm. Whether there was one."""
    tests = sum(how_many_tests(promise, file.plans[plan].tiers) for plan, promise in promises.items())
    alarm, counted = math.log10(tests / rate), Totals()
    while True:
        now = [read_totals(source) for source in sources]
        for before, after in zip(last, now, strict=True):
            counted.update(grown(before, after))  # not +=, which drops zeros
        last = now
        found = drifts_of(promises, counted)
        _print(found, alarm, rate)
        drifted = any(drift.log10_e >= alarm for plan in found for drift in plan.drifts)
        if drifted or every is None:
            return drifted
        time.sleep(every)


def _print(found: Sequence[PlanDrift], alarm: float, rate: float) -> None:
    out = console(sys.stdout)
    if not found:
        out.print("No plan that promises something has answered a request yet.")
        return
    rows = new_table("plan", "tested", right=("promised", "seen", "requests", "log10 e", ""))
    for plan in found:
        for drift in plan.drifts:
            verdict = "drifted" if drift.log10_e >= alarm else "holds"
            rows.add_row(plan.plan, *_row(drift), f"{plan.requests:,}", f"{drift.log10_e:.1f}", verdict)
    out.print(rows)
    out.print(
        f"A test alarms from log10 e = {alarm:.1f} on: together they raise a false alarm with a chance of {rate:g} at most."
    )


_WORDS = {
    REACH: "requests that ask {}",
    "accepted": "of them accepted",
    "given_tests": "of them with given tests",
    "full_score": "of them pass every test",
}


def _row(drift: Drift) -> tuple[str, str, str]:
    if drift.what == COST:
        return "cost there" if drift.tier else "cost of a request", dollars(drift.promised), dollars(drift.seen)
    return _WORDS[drift.what].format(drift.tier), percent(drift.promised), percent(drift.seen)
