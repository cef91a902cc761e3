"""What becomes of requests, money and probes while processes die, tiers hang and clients vanish.

    python -m tests.bench.chaos [--only WORD]

A real Triton with scripted tiers and the real sandbox, two more that serve one tier, ten requests a second, each with a
deadline. A case is a row. `refused`: nothing was spent, as while the server starts again; `told`: requests under way when their
server was killed, which got an error; `gone`: what these had cost, which no metrics tell any more. Exit code 1 if an answer is
wrong, a request has no answer a second after its deadline, an accepted one is lost, or money is not accounted for.
tests/server/faulty.py says how that is found, tests/server/faults.py what is done.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from codecascade_build.server.process import RunningServer, running
from codecascade_client.terminal import WIDE, console, new_table

from tests.server.faults import CASES, WITHOUT_ROOM, site
from tests.server.faulty import Case, Report, watched
from tests.server.real_server import StartServer, unpacked_server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose names have this word")
    options = parser.parse_args()
    reports = []
    with tempfile.TemporaryDirectory() as folder:
        for cases, report in ((CASES, None), (WITHOUT_ROOM, Path("/dev/full"))):
            if chosen := [case for case in cases if options.only in case.name]:
                reports += reports_of(chosen, Path(tempfile.mkdtemp(dir=folder)), report)
    show(reports)
    sys.exit(any(report.broken for report in reports))


def reports_of(cases: Sequence[Case], folder: Path, report: Path | None) -> list[Report]:
    """report: where the supervisors tell what they do; None: in the logs of their servers."""
    reports = []
    with starting(folder, report) as start:
        here = site(start, folder, with_far=any(case.plan == "far" for case in cases))
        for case in cases:
            reports.append(asyncio.run(watched(here, case)))
            print(f"{case.name}: {'; '.join(reports[-1].broken) or 'well'}", file=sys.stderr, flush=True)
    return reports


def show(reports: Sequence[Report]) -> None:
    right = ("requests", "refused", "told", "wrong", "late", "lost", "unaccounted", "unknown calls", "gone", "recovery")
    table = new_table("case", right=(*right, "probes"))
    for report in reports:
        counts = (report.kinds["refused"], report.kinds["told"], report.wrong, report.late, report.lost)
        table.add_row(
            report.case,
            str(report.kinds.total()),
            *map(str, counts),
            *(f"${report.unaccounted_usd:.6f}", f"{report.unknown_calls:g}", f"${report.gone_usd:.6f}"),
            "never" if report.recovery_s is None else f"{report.recovery_s:.2f} s",
        )
    out = console(sys.stdout, WIDE)
    out.print(table)
    for report in reports:
        out.print(f"{report.case}: {report.probes}")


@contextlib.contextmanager
def starting(folder: Path, report: Path | None) -> Iterator[StartServer]:
    """Starts servers that are stopped at the end."""
    numbers = itertools.count(1)
    with contextlib.ExitStack() as servers:
        told = servers.enter_context(report.open("w")) if report else None

        def start(repositories: Sequence[Path], deployment: Path | None = None, supervision: Sequence[str] = ()) -> RunningServer:
            log = folder / f"triton-{next(numbers)}.log"
            return servers.enter_context(
                running(unpacked_server(), repositories, log=log, deployment=deployment, supervision=supervision, report=told)
            )

        yield start


if __name__ == "__main__":
    main()
