"""What `make chaos` and tests/server/test_chaos.py do to a server under load, one Case each."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from codecascade.supervision.processes import descendants
from codecascade_build.server.process import RunningServer

from tests.server.faulty import PRICES, Case, Load, Site, entries
from tests.server.metrics import eventually
from tests.server.real_server import StartServer
from tests.server.scripted.garbled import GARBLED
from tests.server.scripted.repository import ScriptedTier, render, write_tier
from tests.server.stubs import kill_stub, stub_pid

CLIENTS = 200
SUPERVISION = ["--window-s=0.5", "--answer-s=1"]  # every restart counts as the first one, which does not wait
_TIMEOUT_S = 1.5  # of a tier
_KEPT = "the earlier plans stay in force"


def site(start_server: StartServer, folder: Path, with_far: bool = False) -> Site:
    """A server with the tiers small and large and the real sandbox, and perhaps two more that serve the tier `far`."""
    ledger = folder / "ledger"
    ledger.touch()
    tiers = [_tier(name, ledger) for name in ("small", "large")]
    far: tuple[RunningServer, ...] = ()
    if with_far:
        write_tier(folder / "far", _tier("far", ledger))
        far = tuple(start_server([folder / "far"], None, SUPERVISION) for _ in range(2))
        tiers.insert(1, _tier("far", ledger, url=f"ipv4:{','.join(server.grpc for server in far)}"))
    plans = {tier.name: _plan(tier.name) for tier in tiers if tier.name != "large"}
    rendered = render(folder / "repository", tiers, plans, default="small", real_sandbox=True)
    server = start_server(rendered.repositories, rendered.deployment, SUPERVISION)
    return Site(server, rendered.plans, ledger, far)


def _tier(name: str, ledger: Path, url: str | None = None) -> ScriptedTier:
    return ScriptedTier(
        name,
        delay_s=0.2,
        price_per_mtok=PRICES[name] * 1e6,
        timeout_s=_TIMEOUT_S if name == "small" else 60.0,
        ledger=ledger,
        url=url,
    )


def _plan(tier: str) -> dict[str, Any]:
    """One draw of a tier, tested; then one of `large`."""
    steps = [{"tier": tier, "k": 0, "accept_log_prob": -1.0}, {"tier": "large", "k": 0}]
    return {"steps": steps, "given_tests": [{"tier": tier, "draws": 1}, {"tier": "large", "draws": 1}]}


def killing(model: str) -> Case:
    async def strike(site: Site, load: Load) -> None:
        kill_stub(site.server, model)

    return Case(f"{model} killed", strike, dies=True)


async def _kill_zygotes(site: Site, load: Load) -> None:
    for zygote in descendants(stub_pid(site.server, "sandbox")):
        os.kill(zygote, signal.SIGKILL)


async def _kill_far(site: Site, load: Load) -> None:
    """Triton itself, which its supervisor starts again."""
    os.kill(descendants(site.far[0].process.pid)[0], signal.SIGKILL)


async def _hang(site: Site, load: Load) -> None:
    await load.ask("small: hang")


async def _stop(site: Site, load: Load) -> None:
    """The requests under way, and some more, are answered by the other tier."""
    kill_stub(site.server, "small", signal.SIGSTOP)
    await load.until(lambda: sum(one.tier == "large" for one in load.outcomes) >= 20)


async def _go_on(site: Site) -> None:
    kill_stub(site.server, "small", signal.SIGCONT)


async def _garble(site: Site, load: Load) -> None:
    for outputs in GARBLED.values():
        begun = len(load.outcomes)
        await load.until(lambda begun=begun: any(one.tier == "small" for one in load.outcomes[begun:]))  # type: ignore[misc]
        await load.ask(f"small garbles: {json.dumps(outputs)}")


async def _vanish(site: Site, load: Load) -> None:
    """They leave when the small tier has answered: wrongly, while the sandbox judges that, the large one stalls or they wait."""
    begun = len(entries(site.ledger))
    clients = [asyncio.create_task(load.ask("small: wrong", "large: stall", deadline_ms=60_000)) for _ in range(CLIENTS)]
    await eventually(lambda: len(entries(site.ledger)) >= begun + CLIENTS, within_s=50)
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)


def with_plans(name: str, written: Callable[[str], str]) -> Case:
    """written: what is written into the plan file in the place of its text."""
    before: list[str] = []

    async def strike(site: Site, load: Load) -> None:
        before[:] = [site.plans.read_text()]
        told = site.server.log_text().count(_KEPT)
        site.plans.write_text(written(before[0]))
        await eventually(lambda: site.server.log_text().count(_KEPT) > told, within_s=30)

    async def mend(site: Site) -> None:
        site.plans.write_text(before[0])

    return Case(f"plan file {name}", strike, mend)


async def _terminate(site: Site, load: Load) -> None:
    site.server.process.send_signal(signal.SIGTERM)


KILLED = [killing(model) for model in ("cascade", "small", "sandbox")]
ZYGOTES = Case("zygotes killed", _kill_zygotes)
HUNG = Case("small hangs", _hang)
STOPPED = Case("small stopped, goes on", _stop, _go_on, dies=True)  # going on, it may find a lock of Triton's broken, and abort
GARBAGE = Case("small answers garbage", _garble)
PLANS = [
    with_plans("half written", lambda text: text[: len(text) // 2]),
    with_plans("of another family", lambda text: text.replace('"family": "scripted"', '"family": "other"')),
    with_plans("with a tier that is not there", lambda text: text.replace('"tier": "small"', '"tier": "absent"')),
]
VANISHED = Case(f"clients vanish, {CLIENTS}", _vanish)
FAR = Case("one of two far Tritons killed", _kill_far, plan="far", probed=lambda site: site.far[0])
TERMINATED = Case("SIGTERM", _terminate, ends=True)
CASES = [*KILLED, ZYGOTES, FAR, HUNG, STOPPED, GARBAGE, *PLANS, VANISHED, TERMINATED]
WITHOUT_ROOM = [replace(killing("small"), name="disk full, small killed")]
"""For a server whose supervisor cannot write what it does."""
