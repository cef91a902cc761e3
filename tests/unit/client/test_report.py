import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from codecascade_client.replay.table import tabulate
from codecascade_client.report.charts import acceptance, chosen_places
from codecascade_client.report.page import write_report
from codecascade_client.search.frontier import Grid
from codecascade_client.search.search import Rules, SearchResult, search
from codecascade_client.words import in_words

from tests.unit.client import synthetic_recordings as synthetic

VOID = {"meta", "br", "hr", "img"}


@pytest.fixture(scope="module")
def result() -> SearchResult:
    return search([synthetic.recording(7, tasks=40)], Rules(Grid((0.3, 0.7, 1.0)), 0.9, split_seed=0, splits=2))


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


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(tmp_path: Path, result: SearchResult) -> None:
    page = write_report(result, tmp_path / "report")
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


def test_the_charts_are_files_too(tmp_path: Path, result: SearchResult) -> None:
    write_report(result, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["report.html", *(f"{name}.{kind}" for name in ("acceptance", "frontier", "saving") for kind in ("png", "svg"))]
    )
    assert (tmp_path / "frontier.png").read_bytes().startswith(b"\x89PNG")


def test_chosen_plans_that_are_the_same_share_a_label(result: SearchResult) -> None:
    same = replace(result, choices=((result.choices[0]), (result.choices[1][0], result.choices[0][1])))
    assert list(chosen_places(same).values()) == [[choice.plan.name for choice, _ in result.choices[:2]]]


def test_the_same_result_gives_the_same_page(tmp_path: Path, result: SearchResult) -> None:
    assert write_report(result, tmp_path / "a").read_bytes() == write_report(result, tmp_path / "b").read_bytes()


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    recording = synthetic.recording(7, tasks=40, prices_per_mtok={"<b>tiny</b>": 1.0, "large & co": 9.0})
    page = write_report(search([recording], Rules(Grid((1.0,)), 0.9, 0, 2)), tmp_path)
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
