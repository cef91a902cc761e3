"""One self-contained HTML page about a search result, and its charts as files."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from codecascade_client.files import write_whole
from codecascade_client.report.charts import Chart, charts
from codecascade_client.search.savings import MeanSaving
from codecascade_client.search.search import Evaluated, SearchResult, prices_in_words, provenance
from codecascade_client.words import in_words, interval, percent

_DPI = 144
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #111827; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
p.note { color: #4b5563; }
svg { width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; white-space: nowrap; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #e5e7eb; }
th.figure, td.figure { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: #f3f4f6; padding: 1rem; overflow-x: auto; font-size: 12px; }
"""


def write_report(result: SearchResult, folder: Path) -> Path:
    """`report.html`, and every chart as SVG and PNG beside it. Raises RecordingError if it cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = charts(result)
    for chart in drawn:
        write_whole(folder / f"{chart.name}.svg", _svg(chart).encode())
        write_whole(folder / f"{chart.name}.png", _png(chart))
    page = folder / "report.html"
    write_whole(page, _page(result, drawn).encode())
    return page


def _page(result: SearchResult, drawn: Sequence[Chart]) -> str:
    family = escape(result.manifest.family)
    dataset = escape(str(result.manifest.dataset["name"]))
    sections = "".join(
        f'<h2>{escape(chart.title)}</h2>\n<p class="note">{escape(chart.text)}</p>\n{_inline(_svg(chart))}\n' for chart in drawn
    )
    weak = "".join(
        f"<p>Tier {escape(tier)} is left out: it is right in {accuracy:.1%} of the validation tasks.</p>\n"
        for tier, accuracy in result.weak.items()
    )
    rules = "".join(
        f"<li><b>{escape(choice.plan.name)}</b>: {escape(choice.rule)} (probability {choice.probability:.2f})</li>\n"
        for choice, _ in result.choices
    )
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>codecascade: {family} on {dataset}</title><style>{_STYLE}</style></head>
<body>
<h1>{family} on {dataset}</h1>
<p class="note">{result.plans_searched:,} plans searched on {len(result.validation.tasks)} validation tasks;
measured on {len(result.held_out.tasks)} held-out tasks, {len(result.held_out.runs)} sampled runs.</p>
{weak}{_plans([found for _, found in result.choices])}
<ul>{rules}</ul>
<h2>Prices</h2>
<p class="note">{escape(prices_in_words(result))}. Which plans pay depends on this ratio: where the larger tier is many times
as dear, a plan can afford more solutions and tests of the smaller one. The same recording can be searched at other prices
(<code>--prices FILE</code>), for instance those of the machines that are to serve it.</p>
{_prices(result)}
{sections}
<h2>What the chosen plans save</h2>
<p class="note">Mean of {result.rules.splits} seeded splits of the recorded tasks: chosen on the validation tasks of each,
measured on the others. The paper's way compares with the mean cost of the single-tier plans within ±0.5 points of accuracy; the
last column with the cheapest single-tier plan that is at least as accurate on the same tasks. In brackets: the splits in which
there was one.</p>
{_savings(result.savings.items())}
<h2>Frontier</h2>
{_plans(result.frontier)}
<h2>Single tiers</h2>
{_plans(result.singles)}
<h2>How this was measured</h2>
<p class="note">Every tier answered every task once per run; each plan was replayed from that recording, by the rules of the
cascade. Cost is what the tokens read and written and the sandbox's CPU time cost at the prices above.</p>
<pre>{escape(json.dumps(provenance(result), indent=1, ensure_ascii=False))}</pre>
</body>
</html>
"""


def _plans(plans: Iterable[Evaluated]) -> str:
    rows = [
        (
            found.plan.name,
            in_words(found.plan),
            f"{1e3 * found.validation.cost_usd.mean:.4f}",
            percent(found.validation.accuracy.mean),
            f"{1e3 * found.held_out.cost_usd.mean:.4f}",
            percent(found.held_out.accuracy.mean),
            interval(found.held_out.accuracy),
        )
        for found in plans
    ]
    return _table(("plan", "steps"), ("validation $/1000", "accuracy", "held out $/1000", "accuracy", "95 %"), rows)


def _prices(result: SearchResult) -> str:
    prices = result.manifest.prices
    rows = [(name, f"{price.price_per_mtok:g}", f"{price.prompt_price_per_mtok:g}") for name, price in prices.tiers.items()]
    sandbox = f'<p class="note">Sandbox: {prices.sandbox_price_per_cpu_s:g} $ per CPU second.</p>'
    return _table(("tier",), ("$ per 1M generated tokens", "$ per 1M prompt tokens"), rows) + sandbox


def _savings(savings: Iterable[tuple[str, MeanSaving]]) -> str:
    rows = [
        (
            name,
            percent(saving.against_reference),
            "–" if saving.accuracy_change is None else f"{100 * saving.accuracy_change:+.1f}",
            f"{percent(saving.against_mean)} ({saving.against_mean_splits})",
            f"{percent(saving.against_cheapest)} ({saving.against_cheapest_splits})",
        )
        for name, saving in savings
    ]
    heads = ("against its reference", "points of accuracy", "the paper's way (splits)", "against the cheapest as good (splits)")
    return _table(("plan",), heads, rows)


def _table(left: Sequence[str], right: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    heads = "".join(f"<th>{escape(head)}</th>" for head in left)
    heads += "".join(f'<th class="figure">{escape(head)}</th>' for head in right)
    body = "".join(
        "<tr>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[: len(left)])
        + "".join(f'<td class="figure">{escape(cell)}</td>' for cell in row[len(left) :])
        + "</tr>\n"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead>\n<tbody>\n{body}</tbody></table></div>'


def _svg(chart: Chart) -> str:
    text = io.StringIO()
    chart.figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _inline(svg: str) -> str:
    """Without the XML prologue, which has no place inside HTML."""
    return svg[svg.index("<svg") :]


def _png(chart: Chart) -> bytes:
    image = io.BytesIO()
    chart.figure.savefig(image, format="png", dpi=_DPI)
    return image.getvalue()
