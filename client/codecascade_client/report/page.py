"""One self-contained HTML page about a search result, and its charts as files."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from codecascade_client.files import write_whole
from codecascade_client.report import tables
from codecascade_client.report.charts import Chart, charts
from codecascade_client.search.search import SearchResult, provenance

_DPI = 144
_TEMPLATE = "page.html"


def write_report(result: SearchResult, folder: Path) -> Path:
    """`report.html`, and every chart as SVG and PNG beside it. Raises WriteFailed."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = charts(result)
    for chart in drawn:
        write_whole(folder / f"{chart.name}.svg", _svg(chart).encode())
        write_whole(folder / f"{chart.name}.png", _png(chart))
    page = folder / "report.html"
    write_whole(page, _page(result, drawn).encode())
    return page


def _page(result: SearchResult, drawn: Sequence[Chart]) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(_TEMPLATE).render(
        title=f"{result.manifest.family} on {result.manifest.dataset['name']}",
        extent=tables.extent(result),
        excluded=tables.excluded(result),
        chosen=tables.chosen_table(result),
        by_dataset=tables.dataset_table(result),
        rules=[(choice.plan.name, tables.rule(choice)) for choice, _ in result.choices],
        prices_in_words=tables.prices_in_words(result),
        prices=tables.prices_table(result),
        sandbox_price=f"{result.manifest.prices.sandbox_price_per_cpu_s:g}",
        charts=[{"title": chart.title, "text": chart.text, "svg": _inline(_svg(chart))} for chart in drawn],
        splits=result.rules.splits,
        savings=tables.savings_table(result),
        frontier=tables.plans_table(result.frontier),
        singles=tables.plans_table(result.singles),
        provenance=json.dumps(provenance(result), indent=1, ensure_ascii=False),
    )


def _svg(chart: Chart) -> str:
    text = io.StringIO()
    chart.figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _inline(svg: str) -> str:
    """The SVG without its XML prologue, which HTML does not allow."""
    return svg[svg.index("<svg") :]


def _png(chart: Chart) -> bytes:
    image = io.BytesIO()
    chart.figure.savefig(image, format="png", dpi=_DPI)
    return image.getvalue()
