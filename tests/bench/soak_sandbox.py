"""Judges half a million candidates, a twentieth of them hostile, and checks what they leave behind. `make soak-sandbox` runs it.

CANDIDATES=n in the environment sets another number. Exits with 1 if anything is left behind or a verdict is wrong.
"""

from __future__ import annotations

import asyncio
import os
import sys

from rich.progress import Progress

from tests.sandbox.soak import soak

GROWTH = 1.1


def main() -> int:
    total = int(os.environ.get("CANDIDATES", "500000"))
    workers = len(os.sched_getaffinity(0))
    with Progress() as progress:
        bar = progress.add_task("candidates", total=total)
        soaked = asyncio.run(soak(total, workers, lambda done: progress.update(bar, completed=done)))
    before, after = soaked.before, soaked.after
    complaints = list(soaked.wrong[:20])
    for name in ("processes", "descriptors", "files"):
        if getattr(before, name) != getattr(after, name):
            complaints.append(f"{name}: {getattr(before, name)} before, {getattr(after, name)} after")
    for name in ("rss_kb", "zygotes_rss_kb"):
        if getattr(after, name) > GROWTH * getattr(before, name):
            complaints.append(f"{name}: {getattr(before, name)} before, {getattr(after, name)} after")
    if soaked.zygotes > workers:
        complaints.append(f"{soaked.zygotes - workers} zygotes were replaced")
    print(
        f"{soaked.candidates} candidates in {soaked.wall_s:.0f} s, {soaked.candidates / soaked.wall_s:.0f}/s on {workers} workers"
    )
    print(f"before: {before}\nafter:  {after}")
    print(*complaints or ["no wrong verdict, nothing left behind"], sep="\n")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
