"""Which tiers of a family fit on which GPUs, with how large a KV cache, in which servers: before anything is built.

docs/placement.md explains the search and what is assumed, gpu_plan/memory.py the arithmetic.
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

from codecascade_build.engine.steps import EngineBuild
from codecascade_build.errors import BuildError
from codecascade_build.gpu_plan.plan import GpuPlan, Wishes, parse_fleet, plan_gpus
from codecascade_build.gpu_plan.tables import document, print_plan
from codecascade_build.paths import PLANS, VAR
from codecascade_build.recipes import load_recipe
from codecascade_build.render.gpu import render_engines

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
) -> None:
    if gpus is None:
        raise BuildError("--gpus is missing: a number, an x and a kind of GPU, as in 2xa100.")
    fleet = parse_fleet(gpus)
    planned = plan_gpus(load_recipe(family), fleet, wishes(family, plan, tier or (), reach or (), tokens or (), speed or ()))
    if as_json:
        print(json.dumps(document(planned), indent=2))
    else:
        print_plan(planned, Console(highlight=False, width=None if sys.stdout.isatty() else _PLAIN_WIDTH))
    if render:
        for path in render_plan(planned):
            print(f"Written: {path}", file=sys.stderr)


def render_plan(plan: GpuPlan, into: Path | None = None) -> Iterator[Path]:
    """Writes into/SERVER/, each server's models and deployment, and into/deployment.json for the cascade. Raises BuildError."""
    kind = plan.fleet.kind
    into = into or VAR / "placement" / f"{plan.family}-{plan.fleet.count}x{kind.name}"
    recipe = load_recipe(plan.family)
    build = EngineBuild(plan.family, kind, tuple(tier.on_gpu(kind.name) for tier in recipe.choose([t.name for t in plan.tiers])))
    tiers: dict[str, dict[str, Any]] = {}
    for server in plan.servers:
        (into / server.name).mkdir(parents=True, exist_ok=True)
        copies = {copy.tier: copy for copy in server.copies}
        engines = {tier.name: build.rendered(tier, copies[tier.name]) for tier in build.tiers if tier.name in copies}
        rendered = render_engines(recipe, kind.name, engines, into / server.name)
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
    """The address at which the cascade asks a tier; the name has to resolve to all servers that hold its copies."""
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


def _plan_reach(path: Path, plan: str) -> dict[str, float]:
    """The reach that a searched plan file measured, on held-out tasks if it has them."""
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
