"""A tier of the engine runtime as build/engine_models renders it, with the stand-in in the place of TensorRT-LLM's model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from engine_models import EngineTier, render_engines
from google.protobuf import text_format
from paths import WRITTEN_MODELS
from recipes import load_recipe
from render import Rendered
from tritonclient.grpc import model_config_pb2

TIER = "qwen2.5-coder-0.5b"
GPU = "h100"
_HERE = Path(__file__).parent


def render_with_stand_in(checkpoint: Path, into: Path) -> Rendered:
    """Everything but one model's backend is what runs on a GPU."""
    whole = load_recipe("qwen2.5-coder")
    recipe = replace(whole, tiers=tuple(tier for tier in whole.tiers if tier.name == TIER))
    engine = EngineTier(engine=checkpoint, tokenizer=checkpoint, gpu_device_ids=(0,), kv_cache_tokens=32_768)
    rendered = render_engines(recipe, GPU, {TIER: engine}, into)
    model = rendered.repository / f"{TIER}-tensorrt_llm"
    config = text_format.Parse((model / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    config.backend = "python"
    (model / "config.pbtxt").write_text(text_format.MessageToString(config))
    shutil.copy(_HERE / "stand_in.py", model / "1" / "model.py")
    return _with_plan(rendered)


def repositories(rendered: Rendered) -> tuple[Path, ...]:
    return (WRITTEN_MODELS, rendered.repository)


def _with_plan(rendered: Rendered) -> Rendered:
    """One plan: this tier alone, one greedy solution."""
    deployment = json.loads(rendered.deployment.read_text())
    plans = rendered.deployment.with_name("plans.json")
    step = {"tier": TIER, "k": 0, "test_lines": 0, "threshold": 0.0}
    plans.write_text(
        json.dumps(
            {
                "format": 1,
                "family": deployment["family"],
                "provenance": {"method": "written by hand"},
                "default": "alone",
                "plans": {"alone": {"steps": [step]}},
            }
        )
    )
    rendered.deployment.write_text(json.dumps(deployment | {"plans": str(plans)}))
    return rendered
