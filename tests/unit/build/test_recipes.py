"""Recipes are checked when they are read, and the error names what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from codecascade.plans import load_plans
from codecascade_build.errors import BuildError
from codecascade_build.fetch.package_index import Wheel
from codecascade_build.paths import PLANS
from codecascade_build.recipes import PackageIndex, families, load_recipe, read_recipe

GOOD = """
format = 1
family = "tiny"

[[tiers]]
name = "tiny-1b"
style = "chatml"

[tiers.llama_cpp]
price_per_mtok = 0.5
context_tokens = 2048
max_completion_tokens = 512
slots = 2

[tiers.llama_cpp.weights]
file = "tiny.gguf"
bytes = 1000
sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
"""
TIER = GOOD[GOOD.index("[[tiers]]") :]
CHECKPOINT = """
[tiers.checkpoint]
repository = "someone/tiny-1b"
revision = "main"
end_tokens = ["</s>"]

[tiers.checkpoint.architecture]
model_class = "LLaMAForCausalLM"
layers = 2
hidden = 64
heads = 4
kv_heads = 2
head_dim = 16
intermediate = 128
vocab = 1000
positions = 2048
"""
GPU = f"""{CHECKPOINT}
[tiers.gpu]
price_per_mtok = 0.1
dtype = "float16"
max_batch_size = 8
max_input_tokens = 1024
context_tokens = 2048
max_completion_tokens = 512
kv_cache_tokens = 4096

[tiers.gpu.on.l40s]
quantization = "fp8"
"""


def read(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "tiny.toml"
    path.write_text(text)
    return read_recipe(path)


@pytest.mark.parametrize("family", families())
def test_every_shipped_recipe_is_valid_and_of_its_own_name(family: str) -> None:
    recipe = load_recipe(family)
    assert recipe.family == family
    for chosen in ([tier.llama_cpp for tier in recipe.tiers], [tier.gpu for tier in recipe.tiers]):
        prices = [settings.price_per_mtok for settings in chosen if settings]
        assert prices == sorted(prices), "tiers go from small to large"
    sizes = [tier.checkpoint.architecture.parameters for tier in recipe.tiers if tier.checkpoint]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("family", families())
def test_every_shipped_plan_names_tiers_of_its_recipe(family: str) -> None:
    tiers = {tier.name for tier in load_recipe(family).tiers}
    plans = load_plans(PLANS / f"{family}.json")
    assert {tier for plan in plans.plans.values() for tier in plan.tiers} <= tiers


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("slots = 2", "slots = 2\ntemprature = 1", "tiers.0.llama_cpp.temprature is not a known key"),
        ("slots = 2", "", "tiers.0.llama_cpp.slots is missing"),
        ("slots = 2", "slots = 0", "tiers.0.llama_cpp.slots is 0: should be greater than 0"),
        ("slots = 2", 'slots = "two"', "tiers.0.llama_cpp.slots is 'two': should be a valid integer"),
        ("price_per_mtok = 0.5", "price_per_mtok = -1", "price_per_mtok is -1: should be greater than or equal to 0"),
        ("price_per_mtok = 0.5", "price_per_mtok = nan", "price_per_mtok is nan: should be a finite number"),
        ("completion_tokens = 512\nslots", "completion_tokens = 2048\nslots", "2048 leaves no room in context_tokens 2048"),
        ('style = "chatml"', 'style = "poem"', "style 'poem' is not one of base, alpaca, chatml"),
        ("tiny.gguf", "../tiny.gguf", "tiers.0.llama_cpp.weights.file is '../tiny.gguf'"),
        ("bytes = 1000", "bytes = ", "cannot be read"),
        ("format = 1", "format = 2", "format is 2: should be 1"),
        ("[tiers.llama_cpp]", "[tiers.tensorrt]", "tiers.0.tensorrt is not a known key"),
        ('family = "tiny"', "", "family is missing"),
        ('name = "tiny-1b"', 'name = "tiny/1b"', "tiers.0.name is 'tiny/1b'"),
        (GPU, TIER, "tiers tiny-1b, tiny-1b do not all have their own name"),
        (CHECKPOINT, "", "tier 'tiny-1b' has settings for a GPU, but no checkpoint"),
        ("kv_heads = 2", "kv_heads = 3", "heads 4 cannot share kv_heads 3 evenly"),
        ("positions = 2048", "positions = 1024", "context_tokens 2048 is more than the model's positions 1024"),
        ("kv_cache_tokens = 4096", "kv_cache_tokens = 2047", "kv_cache_tokens 2047 cannot hold one sequence of 2048"),
        ("max_input_tokens = 1024", "max_input_tokens = 2048", "max_input_tokens 2048 leaves no room in context_tokens 2048"),
        ('"fp8"', '"fp7"', "quantization is 'fp7'"),
        ("LLaMAForCausalLM", "MambaForCausalLM", "model_class is 'MambaForCausalLM'"),
        ('end_tokens = ["</s>"]', "end_tokens = []", "end_tokens"),
        ("float16", "float32", "dtype is 'float32'"),
    ],
)
def test_what_is_wrong_is_named(right: str, wrong: str, complaint: str, tmp_path: Path) -> None:
    assert right in GOOD + GPU
    with pytest.raises(BuildError) as failed:
        read(tmp_path, (GOOD + GPU).replace(right, wrong))
    assert complaint in str(failed.value)
    assert str(tmp_path / "tiny.toml") in str(failed.value)


def test_a_family_without_a_recipe_is_refused() -> None:
    with pytest.raises(BuildError, match=r"There is no recipe for the family 'tiny'; there are .*qwen2.5-coder"):
        load_recipe("tiny")


def test_parts_of_the_package_index_are_named_in_their_order() -> None:
    hashes = tuple(f"{part:064}" for part in range(1, 12))
    parts = PackageIndex("model-part{part}", "0.2.0", "model_part{part}/part{part:02}.bin", hashes)
    assert parts.wheels()[9:] == (
        Wheel("model-part10", "0.2.0", f"{10:064}"),
        Wheel("model-part11", "0.2.0", f"{11:064}"),
    )
    assert parts.members()[8:10] == ("model_part9/part09.bin", "model_part10/part10.bin")


@pytest.mark.parametrize("template", ["model", "model-{prt}", "model-{part", "model-{part!x}"])
def test_a_template_that_cannot_be_filled_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match="is not a template over"):
        PackageIndex(template, "1", "{part}", ("0" * 64,))


# As the models' publishers state them (Qwen2.5's to the unit, the others rounded).
PARAMETERS = {
    "qwen2.5-coder-0.5b": 494_032_768,
    "qwen2.5-coder-1.5b": 1_543_714_304,
    "qwen2.5-coder-3b": 3_085_938_688,
    "qwen2.5-coder-7b": 7_615_616_512,
    "qwen2.5-coder-14b": 14_770_033_664,
    "qwen2.5-coder-32b": 32_763_876_352,
    "wizardcoder-python-7b": 6.74e9,
    "wizardcoder-python-13b": 13.02e9,
    "wizardcoder-python-34b": 33.74e9,
    "wizardcoder-15b": 15.5e9,
    "codegen-6b-mono": 7.06e9,
    "codegen-16b-mono": 16.03e9,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_parameters_follow_from_the_architecture(name: str) -> None:
    (checkpoint,) = [tier.checkpoint for family in families() for tier in load_recipe(family).tiers if tier.name == name]
    assert checkpoint
    assert checkpoint.architecture.parameters == pytest.approx(PARAMETERS[name], rel=0 if name.startswith("qwen") else 2e-3)


def test_a_kind_of_gpu_has_settings_of_its_own(tmp_path: Path) -> None:
    (tier,) = read(tmp_path, GOOD + GPU).tiers
    assert (tier.name, tier.style, tier.llama_cpp.context_tokens) == ("tiny-1b", "chatml", 2048)
    assert (tier.gpu.on_gpu("l40s").quantization, tier.gpu.on_gpu("l40s").tensor_parallel) == ("fp8", 1)
    assert tier.gpu.on_gpu("h100").quantization == "none"
    with pytest.raises(BuildError, match=r"^Tier tiny-1b has no settings for a GPU in its recipe\.$"):
        read(tmp_path, GOOD).tiers[0].on_gpu("h100")
