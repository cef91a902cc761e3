"""A recipe is rendered into models that Triton can parse and a deployment file that the cascade can read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from codecascade.deployment import load_deployment
from codecascade.tiers.contract import INPUTS, OUTPUTS
from codecascade_build.errors import BuildError
from codecascade_build.recipes import Recipe, families, load_recipe
from codecascade_build.render.llama_cpp import deployment, render, settings
from codecascade_build.render.repository import Rendered
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

ON_A_CPU = [family for family in families() if any(tier.llama_cpp for tier in load_recipe(family).tiers)]


@pytest.fixture(params=ON_A_CPU)
def recipe(request: pytest.FixtureRequest) -> Recipe:
    """Without the tiers that only a GPU can run."""
    whole = load_recipe(request.param)
    return replace(
        whole, tiers=tuple(tier for tier in whole.tiers if tier.llama_cpp), sandbox_modules=("numpy",), max_prompt_bytes=1000
    )


def rendered_into(folder: Path, recipe: Recipe, weights: str = "/weights") -> Rendered:
    return render(recipe, "llama_cpp", {tier.name: Path(f"{weights}/{tier.name}.gguf") for tier in recipe.tiers}, folder)


@pytest.fixture
def rendered(recipe: Recipe, tmp_path: Path) -> Rendered:
    return rendered_into(tmp_path, recipe)


def config(rendered: Rendered, tier: str) -> model_config_pb2.ModelConfig:
    text = (rendered.repository / tier / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_every_tier_is_a_unary_python_model_of_the_tier_contract(recipe: Recipe, rendered: Rendered) -> None:
    assert {path.name for path in rendered.repository.iterdir()} == {tier.name for tier in recipe.tiers}
    for tier in recipe.tiers:
        assert tier.llama_cpp
        parsed = config(rendered, tier.name)
        assert (parsed.name, parsed.backend, parsed.max_batch_size) == (tier.name, "python", 0)
        assert not parsed.model_transaction_policy.decoupled
        assert [tensor.name for tensor in parsed.input] == [tensor.name for tensor in INPUTS]
        assert [tensor.name for tensor in parsed.output] == [tensor.name for tensor in OUTPUTS]
        assert {tensor.name for tensor in parsed.input if not tensor.optional} == {"text_input"}
        source = (rendered.repository / tier.name / "1" / "model.py").read_text()
        assert source == "from codecascade.triton.models.llama_cpp import TritonPythonModel  # noqa: F401\n"
        assert {key: value.string_value for key, value in config(rendered, tier.name).parameters.items()} == {
            "weights": f"/weights/{tier.name}.gguf",
            "context_tokens": str(tier.llama_cpp.context_tokens),
            "max_completion_tokens": str(tier.llama_cpp.max_completion_tokens),
            "slots": str(tier.llama_cpp.slots),
        }


def test_the_cascade_reads_the_deployment(recipe: Recipe, rendered: Rendered) -> None:
    read = load_deployment(rendered.deployment)
    assert read.family == recipe.family
    assert list(read.tiers) == [tier.name for tier in recipe.tiers]
    assert read.plans.exists()
    assert (read.sandbox_modules, read.max_prompt_bytes) == (("numpy",), 1000)
    for tier in recipe.tiers:
        assert tier.llama_cpp
        deployed = read.tiers[tier.name]
        assert (deployed.style, deployed.price_per_mtok) == (tier.style, tier.llama_cpp.price_per_mtok)
        assert deployed.prompt_price_per_mtok == tier.llama_cpp.prompt_price_per_mtok
        assert deployed.max_in_flight == tier.llama_cpp.slots
        assert deployed.weights_sha256 == tier.llama_cpp.weights.sha256
        assert deployed.context_tokens == tier.llama_cpp.context_tokens
        assert deployed.max_completion_tokens == tier.llama_cpp.max_completion_tokens


def test_rendering_again_changes_what_is_different_and_leaves_the_same_alone(
    recipe: Recipe, rendered: Rendered, tmp_path: Path
) -> None:
    first = recipe.tiers[0].name
    before = rendered.repository.stat().st_ino
    rendered_into(tmp_path, recipe)
    assert rendered.repository.stat().st_ino == before
    rendered_into(tmp_path, replace(recipe, tiers=recipe.tiers[:1]), "/elsewhere")
    assert config(rendered, first).parameters["weights"].string_value == f"/elsewhere/{first}.gguf"
    assert [path.name for path in rendered.repository.iterdir()] == [first]
    assert sorted(tmp_path.iterdir()) == [rendered.repository, rendered.deployment]


def test_only_tiers_with_the_runtime_are_rendered(recipe: Recipe, rendered: Rendered) -> None:
    whole = load_recipe(recipe.family)
    assert len(whole.tiers) > len(recipe.tiers)
    assert set(settings(whole, "llama_cpp")) == {tier.name for tier in recipe.tiers}
    assert [tier["name"] for tier in deployment(whole, "llama_cpp")["tiers"]] == [tier.name for tier in recipe.tiers]


def test_a_family_without_the_runtime_is_named(recipe: Recipe, tmp_path: Path) -> None:
    bare = replace(recipe, tiers=(replace(recipe.tiers[0], llama_cpp=None),))
    with pytest.raises(BuildError, match=f"No tier of {recipe.family} has settings for the runtime llama_cpp"):
        render(bare, "llama_cpp", {}, tmp_path)
