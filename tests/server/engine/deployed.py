"""An engine tier as codecascade_build.render.gpu renders it, with the stand-in in the place of TensorRT-LLM's model."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

from codecascade.tiers.trtllm.engine_manifest import NAME as MANIFEST
from codecascade.tiers.trtllm.engine_manifest import BuiltFile, EngineManifest, Source, manifest_text
from codecascade_build.paths import WRITTEN_MODELS
from codecascade_build.recipes import load_recipe
from codecascade_build.render.gpu import EngineTier, render_engines
from codecascade_build.render.repository import Rendered
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

TIER = "qwen2.5-coder-0.5b"
GPU = "h100"
TENSORRT_LLM, TENSORRT = "1.2.1", "10.14.1"
_HERE = Path(__file__).parent


def render_with_stand_in(checkpoint: Path, into: Path) -> Rendered:
    """Render what runs on a GPU, except for one model's backend. The server needs `path_with_one_h100`."""
    engine_folder = engine_of(checkpoint, into / "engine")
    whole = load_recipe("qwen2.5-coder")
    recipe = replace(whole, tiers=tuple(tier for tier in whole.tiers if tier.name == TIER))
    engine = EngineTier(engine=engine_folder, tokenizer=checkpoint, gpu_device_ids=(0,), kv_cache_tokens=32_768)
    rendered = render_engines(recipe, GPU, {TIER: engine}, into)
    model = rendered.repository / f"{TIER}-tensorrt_llm"
    config = text_format.Parse((model / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    config.backend = "python"
    (model / "config.pbtxt").write_text(text_format.MessageToString(config))
    shutil.copy(_HERE / "stand_in.py", model / "1" / "model.py")
    see_the_image(rendered.repository / TIER / "1" / "model.py", into)
    return _with_plan(rendered)


def engine_of(checkpoint: Path, folder: Path, sm: int = 90) -> Path:
    """A folder with the manifest that `make engines` would leave there, and the checkpoint's files."""
    folder.mkdir(parents=True)
    for path in checkpoint.iterdir():
        (folder / path.name).symlink_to(path)
    manifest = EngineManifest(
        tier=TIER,
        family="qwen2.5-coder",
        gpu=GPU,
        sm=sm,
        tensorrt_llm=TENSORRT_LLM,
        tensorrt=TENSORRT,
        tensor_parallel=1,
        dtype="bfloat16",
        quantization="none",
        limits={},
        source=Source("Qwen/Qwen2.5-Coder-0.5B-Instruct", "main", None, {}),
        files={"config.json": BuiltFile((checkpoint / "config.json").stat().st_size, "")},
        commands=(),
        built="2026-01-01T00:00:00+00:00",
        rebuild=f"make engines FAMILY=qwen2.5-coder GPU={GPU}",
    )
    (folder / MANIFEST).write_text(manifest_text(manifest))
    return folder


def see_the_image(model: Path, folder: Path) -> None:
    """Lets a model find the installed versions of TensorRT-LLM and TensorRT, as in the image: their metadata alone."""
    packages = folder / "packages"
    for name, version in (("tensorrt_llm", TENSORRT_LLM), ("tensorrt", TENSORRT)):
        metadata = packages / f"{name}-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True, exist_ok=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    model.write_text(f"import sys\n\nsys.path.append({str(packages)!r})\n" + model.read_text())


def path_with_one_h100(folder: Path) -> str:
    """A PATH on which nvidia-smi shows one H100."""
    program = folder / "bin" / "nvidia-smi"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho '0, 9.0'\n")
    program.chmod(0o755)
    return os.pathsep.join([str(program.parent), os.environ.get("PATH", os.defpath)])


def repositories(rendered: Rendered) -> tuple[Path, ...]:
    return (WRITTEN_MODELS, rendered.repository)


def _with_plan(rendered: Rendered) -> Rendered:
    """One plan: this tier alone, one greedy solution."""
    deployment = json.loads(rendered.deployment.read_text())
    plans = rendered.deployment.with_name("plans.json")
    step = {"tier": TIER, "k": 0, "lines_per_sample": 0, "threshold": 0.0}
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
