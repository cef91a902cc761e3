import asyncio
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from codecascade_client.evidence.decisions import Decisions, decisions
from codecascade_client.evidence.measure import measure
from codecascade_client.recording.recording import SampleRecording
from codecascade_client.replay.table import tabulate
from codecascade_client.report.charts import acceptance, calibration, charts, chosen_places
from codecascade_client.report.evidence_tables import auroc_table, title
from codecascade_client.report.page import write_report
from codecascade_client.search.frontier import Grid
from codecascade_client.search.search import Rules, SearchResult, search
from codecascade_client.words import in_words

from tests.unit.client import synthetic_recordings as synthetic

VOID = {"meta", "br", "hr", "img"}


RULES = Rules(Grid((0.3, 0.7, 1.0)), 0.9, split_seed=0, splits=2)


@pytest.fixture(scope="module")
def recording() -> SampleRecording:
    return synthetic.recording(7, tasks=40)


@pytest.fixture(scope="module")
def result(recording: SampleRecording) -> SearchResult:
    return search([recording], RULES)


def written(result: SearchResult, recording: SampleRecording, folder: Path) -> Path:
    """The page."""
    held_out = result.held_out
    decided = asyncio.run(decisions(result.default_plan, [recording], held_out.tasks, held_out.runs))
    return write_report(result, measure(recording), decided, folder)


class Balanced(HTMLParser):
    """Fails on a tag that is closed out of order; keeps the text and what the page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(
    tmp_path: Path, result: SearchResult, recording: SampleRecording
) -> None:
    page = written(result, recording, tmp_path / "report")
    html = page.read_text()
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    assert [target for target in parser.loaded if not target.startswith("#")] == []
    assert "@import" not in html
    assert "<script" not in html
    text = " ".join(parser.text)
    for evaluated in (*result.frontier, *result.singles):
        assert in_words(evaluated.plan) in text
    assert all(choice.rule in text for choice, _ in result.choices)
    assert in_words(result.default_plan) in text
    for measured in measure(recording):
        assert title(measured) in text
        assert all(cell in text for row in auroc_table(measured).rows for cell in row)


def test_a_recording_of_scores_has_a_page_without_figures_about_evidence(tmp_path: Path, result: SearchResult) -> None:
    page = write_report(result, [], Decisions(result.default_plan, 0, (), ()), tmp_path)
    assert "tells right from wrong" not in page.read_text()
    assert not (tmp_path / "calibration.svg").exists()


def test_the_calibration_chart_says_what_was_not_recorded(recording: SampleRecording) -> None:
    (chart,) = calibration(measure(synthetic.without_log_probs(recording)))
    given, told = chart.figure.axes
    assert [text.get_text() for text in told.texts] == ["not recorded"]
    assert len(given.containers) == len(recording.manifest.tiers)
    assert not given.texts


def test_no_tier_is_left_out_of_a_chart_for_want_of_a_colour() -> None:
    many = synthetic.recording(7, tasks=9, prices_per_mtok={f"tier {n}": float(n) for n in range(1, 9)})
    assert len(calibration(measure(many))[0].figure.axes[0].containers) == 8
    found = search([many], Rules(Grid((1.0,)), 0.9, 0, 2))
    shown = next(chart for chart in charts(found) if chart.name == "acceptance")
    assert len(shown.figure.axes[0].lines) == 2 * len(found.validation.tiers) > 10


def test_the_charts_are_files_too(tmp_path: Path, result: SearchResult, recording: SampleRecording) -> None:
    written(result, recording, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [
            "report.html",
            *(f"{name}.{kind}" for name in ("acceptance", "calibration", "frontier", "saving") for kind in ("png", "svg")),
        ]
    )
    assert (tmp_path / "frontier.png").read_bytes().startswith(b"\x89PNG")


def test_chosen_plans_that_are_the_same_share_a_label(result: SearchResult) -> None:
    same = replace(result, choices=((result.choices[0]), (result.choices[1][0], result.choices[0][1])))
    assert list(chosen_places(same).values()) == [[choice.plan.name for choice, _ in result.choices[:2]]]


def test_the_same_result_gives_the_same_page(tmp_path: Path, result: SearchResult, recording: SampleRecording) -> None:
    pages = [written(result, recording, tmp_path / name) for name in "ab"]
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    recording = synthetic.recording(7, tasks=40, prices_per_mtok={"<b>tiny</b>": 1.0, "large & co": 9.0})
    page = written(search([recording], Rules(Grid((1.0,)), 0.9, 0, 2)), recording, tmp_path)
    assert not re.search(r"<b>tiny|large & co", page.read_text())


def test_acceptance_falls_with_the_threshold_and_counts_what_is_wrong() -> None:
    table = tabulate(synthetic.recording(7, tasks=40))
    option = next(option for option in table.options if (option.tier, option.k, option.lines_per_sample) == ("small", 3, 2))
    accepted, wrong = acceptance([table], option)
    assert np.all(np.diff(accepted) <= 0)
    index = table.of(option)
    perfect = table.accepts(index, 1.0)
    assert accepted[-1] == perfect.mean()
    assert wrong[-1] == pytest.approx(1 - table.correct[index][perfect].mean())
