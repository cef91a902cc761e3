"""A recipe is rendered into models that Triton can parse and a deployment file that the cascade can read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from codecascade.deployment import load_deployment
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
    return replace(whole, tiers=tuple(tier for tier in whole.tiers if tier.llama_cpp))


@pytest.fixture
def rendered(recipe: Recipe, tmp_path: Path) -> Rendered:
    return render(recipe, "llama_cpp", {tier.name: Path(f"/weights/{tier.name}.gguf") for tier in recipe.tiers}, tmp_path)


def config(rendered: Rendered, tier: str) -> model_config_pb2.ModelConfig:
    text = (rendered.repository / tier / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_the_repository_holds_the_tiers_and_nothing_else(recipe: Recipe, rendered: Rendered) -> None:
    assert {path.name for path in rendered.repository.iterdir()} == {tier.name for tier in recipe.tiers}


def test_every_tier_is_a_unary_python_model_of_the_tier_contract(recipe: Recipe, rendered: Rendered) -> None:
    for tier in recipe.tiers:
        parsed = config(rendered, tier.name)
        assert (parsed.name, parsed.backend, parsed.max_batch_size) == (tier.name, "python", 0)
        assert not parsed.model_transaction_policy.decoupled
        inputs = {tensor.name: (model_config_pb2.DataType.Name(tensor.data_type), list(tensor.dims)) for tensor in parsed.input}
        assert inputs == {
            "text_input": ("TYPE_STRING", [1]),
            "max_tokens": ("TYPE_INT32", [1]),
            "temperature": ("TYPE_FP32", [1]),
            "top_p": ("TYPE_FP32", [1]),
            "seed": ("TYPE_UINT64", [1]),
            "stop_words": ("TYPE_STRING", [-1]),
            "num_return_sequences": ("TYPE_INT32", [1]),
            "max_lines": ("TYPE_INT32", [1]),
        }
        assert {tensor.name for tensor in parsed.input if not tensor.optional} == {"text_input"}
        outputs = {tensor.name: (model_config_pb2.DataType.Name(tensor.data_type), list(tensor.dims)) for tensor in parsed.output}
        assert outputs == {
            "text_output": ("TYPE_STRING", [-1]),
            "completion_tokens": ("TYPE_INT32", [-1]),
            "line_tokens": ("TYPE_INT32", [-1]),
            "prompt_tokens": ("TYPE_INT32", [1]),
            "finish_reason": ("TYPE_STRING", [-1]),
        }


def test_the_runtime_s_limits_reach_the_model(recipe: Recipe, rendered: Rendered) -> None:
    for tier in recipe.tiers:
        assert tier.llama_cpp
        assert {key: value.string_value for key, value in config(rendered, tier.name).parameters.items()} == {
            "weights": f"/weights/{tier.name}.gguf",
            "context_tokens": str(tier.llama_cpp.context_tokens),
            "max_completion_tokens": str(tier.llama_cpp.max_completion_tokens),
            "slots": str(tier.llama_cpp.slots),
        }


def test_a_model_s_code_is_the_installed_package_s(recipe: Recipe, rendered: Rendered) -> None:
    for tier in recipe.tiers:
        source = (rendered.repository / tier.name / "1" / "model.py").read_text()
        assert source == "from codecascade.triton.models.llama_cpp import TritonPythonModel  # noqa: F401\n"


def test_the_cascade_reads_the_deployment(recipe: Recipe, rendered: Rendered) -> None:
    read = load_deployment(rendered.deployment)
    assert read.family == recipe.family
    assert list(read.tiers) == [tier.name for tier in recipe.tiers]
    assert read.plans.exists()
    for tier in recipe.tiers:
        assert tier.llama_cpp
        deployed = read.tiers[tier.name]
        assert (deployed.style, deployed.price_per_mtok) == (tier.style, tier.llama_cpp.price_per_mtok)
        assert deployed.prompt_price_per_mtok == tier.llama_cpp.prompt_price_per_mtok
        assert deployed.weights_sha256 == tier.llama_cpp.weights.sha256
        assert deployed.context_tokens == tier.llama_cpp.context_tokens
        assert deployed.max_completion_tokens == tier.llama_cpp.max_completion_tokens


def test_a_tier_that_left_the_recipe_leaves_the_repository(recipe: Recipe, rendered: Rendered) -> None:
    fewer = replace(recipe, tiers=recipe.tiers[:1])
    render(fewer, "llama_cpp", {recipe.tiers[0].name: Path("/weights")}, rendered.repository.parent)
    assert [path.name for path in rendered.repository.iterdir()] == [recipe.tiers[0].name]
    assert sorted(path.name for path in rendered.repository.parent.iterdir()) == [
        rendered.repository.name,
        rendered.deployment.name,
    ]


def test_rendering_the_same_again_leaves_the_repository_alone(recipe: Recipe, rendered: Rendered) -> None:
    before = rendered.repository.stat().st_ino
    render(
        recipe, "llama_cpp", {tier.name: Path(f"/weights/{tier.name}.gguf") for tier in recipe.tiers}, rendered.repository.parent
    )
    assert rendered.repository.stat().st_ino == before
    elsewhere = {tier.name: Path("/elsewhere.gguf") for tier in recipe.tiers}
    render(recipe, "llama_cpp", elsewhere, rendered.repository.parent)
    assert config(rendered, recipe.tiers[0].name).parameters["weights"].string_value == "/elsewhere.gguf"


def test_only_tiers_with_the_runtime_are_rendered(recipe: Recipe, rendered: Rendered) -> None:
    whole = load_recipe(recipe.family)
    assert len(whole.tiers) > len(recipe.tiers)
    assert set(settings(whole, "llama_cpp")) == {tier.name for tier in recipe.tiers}
    assert [tier["name"] for tier in deployment(whole, "llama_cpp")["tiers"]] == [tier.name for tier in recipe.tiers]


def test_a_family_without_the_runtime_is_named(recipe: Recipe, tmp_path: Path) -> None:
    bare = replace(recipe, tiers=(replace(recipe.tiers[0], llama_cpp=None),))
    with pytest.raises(BuildError, match=f"No tier of {recipe.family} has settings for the runtime llama_cpp"):
        render(bare, "llama_cpp", {}, tmp_path)
