"""A tier of the LLM API as it is rendered, with the fake of TensorRT-LLM's package where Python finds it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from codecascade_build.paths import ROOT
from codecascade_build.recipes import load_recipe
from codecascade_build.render.gpu import EngineTier, render_engines

from tests.fake_tensorrt_llm.counting import END_TOKENS

FAKE = ROOT / "tests" / "fake_tensorrt_llm"
TIER = "qwen2.5-coder-0.5b"


def repository(checkpoint: Path, into: Path) -> Path:
    """The rendered tier, with the fake where Python finds it."""
    recipe = load_recipe("qwen2.5-coder")
    (small, *_) = recipe.tiers
    assert small.checkpoint
    counting = replace(small, checkpoint=replace(small.checkpoint, end_tokens=END_TOKENS))
    placed = EngineTier(engine=checkpoint, tokenizer=checkpoint, gpu_device_ids=(0,), kv_cache_tokens=8192)
    rendered = render_engines(replace(recipe, tiers=(counting,)), "h100", {TIER: placed}, into, runtime="llm_api")
    model = rendered.repository / TIER / "1" / "model.py"
    model.write_text(f"import sys\n\nsys.path.insert(0, {str(FAKE)!r})\n" + model.read_text())
    return rendered.repository
