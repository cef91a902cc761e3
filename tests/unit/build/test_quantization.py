"""Which models can be quantised and cut how, and on which GPUs."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
from codecascade_build.errors import BuildError
from codecascade_build.gpus import GPUS, gpu
from codecascade_build.quantization import check_parallelism, check_settings
from codecascade_build.recipes import Architecture, Quantization, families, load_recipe

NOT_FOR_STARCODER = "TensorRT-LLM has no quantization {} for GPTForCausalLM; it has none, int8."


def architecture(name: str) -> Architecture:
    (checkpoint,) = (tier.checkpoint for family in families() for tier in load_recipe(family).tiers if tier.name == name)
    assert checkpoint
    return checkpoint.architecture


@pytest.mark.parametrize("kind", GPUS)
@pytest.mark.parametrize("family", families())
def test_every_recipe_can_be_built_as_it_says(family: str, kind: str) -> None:
    for tier in load_recipe(family).tiers:
        check_settings(architecture(tier.name), tier.on_gpu(kind).settings, gpu(kind))


@pytest.mark.parametrize(
    ("name", "kind", "quantization", "sentence"),
    [
        ("codegen-2b-mono", "l40s", "fp8", None),
        ("codegen-2b-mono", "a100", "fp8", "quantization fp8 needs SM 89; A100 80 GB has SM 80."),
        ("codegen-2b-mono", "rtx3090", "int4_awq", None),
        ("wizardcoder-15b", "a100", "int8", None),
        ("wizardcoder-15b", "h100", "fp8", NOT_FOR_STARCODER.format("fp8")),
        ("wizardcoder-15b", "h100", "int4_awq", NOT_FOR_STARCODER.format("int4_awq")),
    ],
)
def test_a_quantization_has_to_fit_the_model_and_the_gpu(
    name: str, kind: str, quantization: Quantization, sentence: str | None
) -> None:
    (tier,) = (tier for family in families() for tier in load_recipe(family).tiers if tier.name == name)
    settings = replace(tier.on_gpu(kind).settings, quantization=quantization)
    with pytest.raises(BuildError, match=f"^{sentence}$") if sentence else nullcontext():
        check_settings(architecture(name), settings, gpu(kind))


LLAMA = replace(architecture("wizardcoder-python-34b"), heads=48, kv_heads=48)


@pytest.mark.parametrize(
    ("shape", "parts", "quantization", "problem"),
    [
        ("wizardcoder-python-7b", 2, "int4_awq", None),
        ("wizardcoder-python-7b", 4, "int4_awq", "intermediate 11008 ÷ 4 = 2752 is none; possible here: 1, 2."),
        ("wizardcoder-python-7b", 4, "fp8", None),
        ("wizardcoder-python-34b", 8, "none", None),
        ("wizardcoder-15b", 8, "none", None),  # its one key head is repeated
        ("wizardcoder-3b", 4, "none", "22 heads cannot be shared evenly; possible here: 1, 2."),
        ("qwen2.5-coder-0.5b", 2, "none", None),
        ("qwen2.5-coder-0.5b", 2, "int4_awq", "heads × head_dim 896 ÷ 2 = 448 is none; possible here: 1."),
        ("qwen2.5-coder-7b", 8, "none", "28 heads cannot be shared evenly; possible here: 1, 2, 4."),
        ("qwen2.5-coder-1.5b", 4, "none", None),  # its two key heads are repeated
        ("codegen-16b-mono", 8, "none", None),
        ("codegen-16b-mono", 16, "none", "24 heads cannot be shared evenly; possible here: 1, 2, 4, 8."),
        (replace(LLAMA, kv_heads=6), 4, "none", "6 kv_heads can be neither shared nor repeated evenly; possible here: 1, 2."),
        (replace(LLAMA, intermediate=22_018), 4, "none", "intermediate 22018 cannot be shared evenly; possible here: 1, 2."),
        (replace(architecture("codegen-6b-mono"), vocab=50_295), 2, "none", "does not pad it for GPT-J; possible here: 1."),
        (replace(LLAMA, vocab=32_001), 2, "none", None),  # padded for the others
        (replace(LLAMA, hidden=2880), 1, "int4_awq", "hidden 2880 ÷ 1 = 2880 is none; possible here: none."),
    ],
)
def test_models_can_be_cut_so_and_no_other_way(
    shape: Architecture | str, parts: int, quantization: Quantization, problem: str | None
) -> None:
    """shape: or the name of a published model."""
    with pytest.raises(BuildError, match=f"^tensor_parallel {parts}: .*{problem}$") if problem else nullcontext():
        check_parallelism(architecture(shape) if isinstance(shape, str) else shape, parts, quantization)
