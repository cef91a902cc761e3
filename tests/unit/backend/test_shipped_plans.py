"""The searched plan files that are shipped are what the recordings beside them give."""

from __future__ import annotations

from pathlib import Path

import pytest
from codecascade_build.paths import PLANS
from codecascade_client.recording.reprice import reprice
from codecascade_client.recording.store import open_recording
from codecascade_client.search.choose import PROBABILITY
from codecascade_client.search.frontier import WHOLE
from codecascade_client.search.infills import with_infills
from codecascade_client.search.search import Rules, plan_file, search
from codecascade_client.words import price_ratio


@pytest.mark.parametrize("prices", sorted((PLANS / "prices").iterdir()), ids=lambda prices: prices.stem)
def test_a_shipped_price_file_prices_the_recording(prices: Path) -> None:
    manifest = open_recording(PLANS / "recordings" / "qwen2.5-coder").manifest
    assert price_ratio(reprice(manifest, prices).prices) == {"one-to-3.5": "1 : 3.5", "one-to-ten": "1 : 10"}[prices.stem]


@pytest.mark.parametrize("family", ["qwen2.5-coder"])
def test_a_shipped_plan_file_is_what_its_recordings_give(family: str) -> None:
    folders = [open_recording(path) for path in sorted((PLANS / "recordings").iterdir())]
    recordings = [folder.load() for folder in folders if folder.manifest.family == family]
    result = search(recordings, Rules(WHOLE, PROBABILITY, split_seed=0, splits=20))
    assert with_infills(plan_file(result), recordings, result.rules) == (PLANS / f"{family}.json").read_text(encoding="utf-8")
