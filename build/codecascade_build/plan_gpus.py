"""Which tiers of a family fit on which GPUs, with how large a KV cache, in which servers: before anything is built.

docs/placement.md says how it is worked out and what is assumed.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from codecascade.errors import CascadeError
from codecascade.plans import load_plans
from rich.console import Console

from codecascade_build.engine.steps import Places
from codecascade_build.errors import BuildError
from codecascade_build.gpu_plan.plan import Fleet, GpuPlan, Server, Wishes, parse_fleet, plan_gpus
from codecascade_build.gpu_plan.tables import document, markdown, print_plan
from codecascade_build.paths import PLANS, VAR
from codecascade_build.recipes import families, load_recipe
from codecascade_build.render.gpu import EngineTier, render_engines

FLEETS = ("1xh100", "2xa100", "8xrtx3090", "4xl40s")
GRPC_PORT = 8001
_PLAIN_WIDTH = 160

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def command(
    gpus: Annotated[str | None, typer.Option(help="A number, an x and a kind: 1xh100, 2xa100, 4xl40s, 8xrtx3090.")] = None,
    family: Annotated[str, typer.Option(help="The model family: a recipe in build/families.")] = "qwen2.5-coder",
    plan: Annotated[str | None, typer.Option(help="Only the tiers of this plan of plans/FAMILY.json, and its reach.")] = None,
    tier: Annotated[list[str] | None, typer.Option(help="Only this tier, repeatable; default: all.", show_default=False)] = None,
    reach: Annotated[
        list[str] | None, typer.Option(help="TIER=SHARE of requests that it sees, 0 to 1, repeatable.", show_default=False)
    ] = None,
    tokens: Annotated[
        list[str] | None, typer.Option(help="TIER=TOKENS that it generates for a request, repeatable.", show_default=False)
    ] = None,
    speed: Annotated[
        list[str] | None, typer.Option(help="TIER=TOKENS_PER_S of one copy, repeatable.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")] = False,
    render: Annotated[bool, typer.Option("--render", help="Write the Triton models and the deployment file too.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help=f"Markdown of all families on {', '.join(FLEETS)}, as in docs/placement.md.")
    ] = False,
) -> None:
    if everything:
        print(all_tables(), end="")
        return
    if gpus is None:
        raise BuildError("--gpus is missing: a number, an x and a kind of GPU, as in 2xa100.")
    fleet = parse_fleet(gpus)
    found = plan_gpus(load_recipe(family), fleet, wishes(family, plan, tier or (), reach or (), tokens or (), speed or ()))
    if as_json:
        print(json.dumps(document(found), indent=2))
    else:
        print_plan(found, Console(highlight=False, width=None if sys.stdout.isatty() else _PLAIN_WIDTH))
    if render:
        for path in render_plan(found):
            print(f"Written: {path}", file=sys.stderr)


def all_tables() -> str:
    """Every family on every one of FLEETS: its table, or the sentence that says why it does not fit."""
    parts = []
    for family in families():
        for gpus in FLEETS:
            fleet = parse_fleet(gpus)
            parts.append(f"### {family} on {fleet}\n\n{_table(family, fleet)}\n")
    return "\n".join(parts)


def _table(family: str, fleet: Fleet) -> str:
    try:
        return markdown(plan_gpus(load_recipe(family), fleet, Wishes()))
    except BuildError as error:
        return f"**Refused.** {error}"


def render_plan(plan: GpuPlan, into: Path | None = None) -> Iterator[Path]:
    """into/SERVER/: each server's models and deployment. into/deployment.json: the whole, for the cascade. Raises BuildError."""
    into = into or VAR / "placement" / f"{plan.family}-{plan.fleet.count}x{plan.fleet.kind.name}"
    recipe = load_recipe(plan.family)
    tiers: dict[str, dict[str, Any]] = {}
    for server in plan.servers:
        (into / server.name).mkdir(parents=True, exist_ok=True)
        rendered = render_engines(recipe, plan.fleet.kind.name, _engines(plan, server), into / server.name)
        yield rendered.repository
        yield rendered.deployment
        whole = json.loads(rendered.deployment.read_text())
        tiers |= {tier["name"]: tier for tier in whole["tiers"]}
    alone = len(plan.servers) == 1
    urls = {tier.name: {} if alone else {"url": url_of(tier.name)} for tier in plan.tiers}
    together = whole | {"tiers": [tiers[name] | url for name, url in urls.items()]}
    (into / "deployment.json").write_text(json.dumps(together, indent=2) + "\n")
    yield into / "deployment.json"


def url_of(tier: str) -> str:
    """Where the cascade looks for a tier: a name that has to resolve to the servers that hold its copies."""
    return f"{tier.replace('.', '-')}:{GRPC_PORT}"


def wishes(
    family: str,
    plan: str | None,
    tiers: Sequence[str] = (),
    reach: Sequence[str] = (),
    tokens: Sequence[str] = (),
    speed: Sequence[str] = (),
) -> Wishes:
    """The options as they were typed, checked. Raises BuildError."""
    path = PLANS / f"{family}.json"
    try:
        chosen = load_plans(path).choose(plan) if plan else None
    except CascadeError as error:
        raise BuildError(f"--plan {plan}: {error}.") from error
    return Wishes(
        plan=chosen,
        plan_reach=_plan_reach(path, chosen.name) if chosen else {},
        tiers=tuple(tiers),
        reach=_figures("--reach", reach, most=1.0),
        tokens=_figures("--tokens", tokens),
        speed=_figures("--speed", speed),
    )


def _engines(plan: GpuPlan, server: Server) -> dict[str, EngineTier]:
    """Where `make engines` puts them."""
    recipe, places = load_recipe(plan.family), Places()
    engines = {}
    for copy in server.copies:
        tier = next(tier for tier in recipe.tiers if tier.name == copy.tier)
        assert tier.checkpoint, "a placed tier has one"
        engine = places.engine(recipe, tier, plan.fleet.kind)
        engines[tier.name] = EngineTier(engine, places.download(tier.checkpoint), copy.gpus, copy.kv_cache_tokens)
    return engines


def _plan_reach(path: Path, plan: str) -> dict[str, float]:
    """What a searched plan file measured: on held-out tasks, where it has it."""
    entry = json.loads(path.read_text(encoding="utf-8"))["plans"][plan]
    for part in ("held_out", "validation"):
        if "reach" in entry.get(part, {}):
            return dict(entry[part]["reach"])
    return {}


def _figures(option: str, texts: Sequence[str], most: float = math.inf) -> dict[str, float]:
    figures = {}
    for text in texts:
        tier, _, figure = text.rpartition("=")
        try:
            value = float(figure)
        except ValueError:
            value = math.nan
        if not tier or not 0 < value <= most or value == math.inf:
            allowed = f"a figure over 0, at most {most:g}" if most < math.inf else "a figure over 0"
            raise BuildError(f"{option} is {text!r}; a tier, = and {allowed} are needed.")
        figures[tier] = value
    return figures


def main() -> None:
    try:
        app()
    except BuildError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
