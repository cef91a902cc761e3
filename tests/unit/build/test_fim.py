"""Which models are asked for what stands between two texts."""

from dataclasses import replace
from pathlib import Path

import pytest
from codecascade.deployment import Tier, load_deployment
from codecascade_build.errors import BuildError
from codecascade_build.recipes import families, load_recipe, read_recipe

from tests.unit.build.test_recipes import GOOD
from tests.unit.build.test_render import rendered_into

TAUGHT = {"qwen2.5-coder": "qwen2.5-coder", "wizardcoder": "starcoder", "wizardcoder-python": None, "codegen-mono": None}


def test_every_family_says_whether_its_models_were_taught_to() -> None:
    assert {family: {tier.fim for tier in load_recipe(family).tiers} for family in families()} == {
        family: {fim} for family, fim in TAUGHT.items()
    }


def test_the_cascade_reads_it_from_the_deployment(tmp_path: Path) -> None:
    whole = load_recipe("qwen2.5-coder")
    recipe = replace(whole, tiers=tuple(tier for tier in whole.tiers if tier.llama_cpp))
    deployed = load_deployment(rendered_into(tmp_path, recipe).deployment)
    assert {tier.fim for tier in deployed.tiers.values()} == {"qwen2.5-coder"}


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(GOOD.replace('style = "chatml"', 'style = "chatml"\nfim = "other"'))
    with pytest.raises(BuildError, match="fim 'other' is not one of qwen"):
        read_recipe(path)
    with pytest.raises(ValueError, match="tier 'a' has fim 'other', allowed are qwen"):
        Tier("a", "chatml", 100, 10, 1.0, fim="other")
