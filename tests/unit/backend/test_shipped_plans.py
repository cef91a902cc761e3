"""The searched plan files that are shipped are what the recordings beside them give."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from codecascade_build.paths import PLANS
from codecascade_build.recipes import load_recipe
from codecascade_build.render.llama_cpp import render
from codecascade_client.datasets.load import load_dataset
from codecascade_client.recording.record import RecordSettings, manifest_for
from codecascade_client.recording.reprice import reprice
from codecascade_client.recording.store import MANIFEST, open_recording, resume_recording
from codecascade_client.search.choose import PROBABILITY
from codecascade_client.search.frontier import WHOLE
from codecascade_client.search.infills import with_infills
from codecascade_client.search.search import Rules, plan_file, search
from codecascade_client.words import price_ratio


@pytest.mark.parametrize("prices", sorted((PLANS / "prices").iterdir()), ids=lambda prices: prices.stem)
def test_a_shipped_price_file_prices_the_recording(prices: Path) -> None:
    manifest = open_recording(PLANS / "recordings" / "qwen2.5-coder").manifest
    assert price_ratio(reprice(manifest, prices).prices) == {"one-to-3.5": "1 : 3.5", "one-to-ten": "1 : 10"}[prices.stem]


def test_the_shipped_recording_can_be_gone_on_with(tmp_path: Path) -> None:
    recipe = load_recipe("qwen2.5-coder")
    weights = {tier.name: tmp_path / tier.name for tier in recipe.tiers}
    rendered = render(recipe, "llama_cpp", weights, tmp_path)
    begun = open_recording(PLANS / "recordings" / "qwen2.5-coder")
    (tmp_path / "recording").mkdir()
    shutil.copy(begun.path / MANIFEST, tmp_path / "recording")
    settings = RecordSettings(*(begun.manifest.settings[name] for name in ("k", "test_lines", "seed")))
    now = manifest_for(rendered.deployment, load_dataset("humaneval"), settings)
    assert resume_recording(tmp_path / "recording", now).manifest == begun.manifest


@pytest.mark.parametrize("family", ["qwen2.5-coder"])
def test_a_shipped_plan_file_is_what_its_recordings_give(family: str) -> None:
    folders = [open_recording(path) for path in sorted((PLANS / "recordings").iterdir())]
    recordings = [folder.load() for folder in folders if folder.manifest.family == family]
    result = search(recordings, Rules(WHOLE, PROBABILITY, split_seed=0, splits=20))
    assert with_infills(plan_file(result), recordings, result.rules) == (PLANS / f"{family}.json").read_text(encoding="utf-8")
