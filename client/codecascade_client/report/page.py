"""One self-contained HTML page about a search result, and its charts as files."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from codecascade_client.evidence.decisions import Decisions
from codecascade_client.evidence.measure import Measured
from codecascade_client.files import write_whole
from codecascade_client.report import evidence_tables, tables
from codecascade_client.report.charts import Chart, calibration, charts
from codecascade_client.search.search import SearchResult, provenance

_DPI = 144
_TEMPLATE = "page.html"


def write_report(result: SearchResult, evidence: Sequence[Measured], decisions: Decisions, folder: Path) -> Path:
    """`report.html`, and every chart as SVG and PNG beside it. Raises WriteFailed.

    evidence: nothing where the recording holds no answers. decisions: of the result's default plan on the held-out tasks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn, calibrated = charts(result), calibration(evidence)
    for chart in (*drawn, *calibrated):
        write_whole(folder / f"{chart.name}.svg", _svg(chart).encode())
        write_whole(folder / f"{chart.name}.png", _png(chart))
    page = folder / "report.html"
    evidence_part = _evidence_part(evidence, calibrated)
    write_whole(page, _page(result, drawn, {**_decisions_part(decisions), **evidence_part}).encode())
    return page


def _page(result: SearchResult, drawn: Sequence[Chart], evidence: Mapping[str, Any]) -> str:
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
        charts=_inlined(drawn),
        splits=result.rules.splits,
        savings=tables.savings_table(result),
        frontier=tables.plans_table(result.frontier),
        singles=tables.plans_table(result.singles),
        provenance=json.dumps(provenance(result), indent=1, ensure_ascii=False),
        **evidence,
    )


def _decisions_part(decisions: Decisions) -> dict[str, Any]:
    return {
        "default_plan": evidence_tables.decided_title(decisions),
        "decided": evidence_tables.decided_table(decisions),
        "decided_in_words": evidence_tables.DECISIONS_IN_WORDS,
        "spent": evidence_tables.spent_table(decisions),
    }


def _evidence_part(evidence: Sequence[Measured], calibrated: Sequence[Chart]) -> dict[str, Any]:
    return {
        "evidence": [(evidence_tables.title(measured), evidence_tables.tables(measured)) for measured in evidence],
        "auroc_in_words": evidence_tables.AUROC_IN_WORDS,
        "calibration_in_words": evidence_tables.CALIBRATION_IN_WORDS,
        "calibration": _inlined(calibrated),
    }


def _inlined(drawn: Sequence[Chart]) -> list[dict[str, str]]:
    return [{"title": chart.title, "text": chart.text, "svg": _inline(_svg(chart))} for chart in drawn]


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
