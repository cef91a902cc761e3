"""Recipe + runtime → the Triton models of the tiers, and the deployment file that the cascade reads."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import BuildError
from google.protobuf import text_format
from paths import PLANS, RENDERED_MODELS
from recipes import GpuRuntime, LlamaCpp, Recipe, Runtime
from tritonclient.grpc import model_config_pb2

_INPUTS = {
    "text_input": ("TYPE_STRING", 1),
    "max_tokens": ("TYPE_INT32", 1),
    "temperature": ("TYPE_FP32", 1),
    "top_p": ("TYPE_FP32", 1),
    "seed": ("TYPE_UINT64", 1),
    "stop_words": ("TYPE_STRING", -1),
    "num_return_sequences": ("TYPE_INT32", 1),
    "max_lines": ("TYPE_INT32", 1),
}
_OUTPUTS = {
    "text_output": ("TYPE_STRING", -1),
    "completion_tokens": ("TYPE_INT32", -1),
    "line_tokens": ("TYPE_INT32", -1),
    "prompt_tokens": ("TYPE_INT32", 1),
    "finish_reason": ("TYPE_STRING", -1),
}


@dataclass(frozen=True, slots=True)
class Rendered:
    """repository: a folder for Triton's --model-repository. deployment: the value of CODECASCADE_DEPLOYMENT."""

    repository: Path
    deployment: Path


def render(recipe: Recipe, runtime: Runtime, weights: Mapping[str, Path], into: Path = RENDERED_MODELS) -> Rendered:
    """Write into/<family>-<runtime>/<tier>/{config.pbtxt,1/model.py} and into/<family>-<runtime>.json.

    weights: tier name → its verified file. Replaces what an earlier rendering left. Raises BuildError.
    """
    files = repository_files(recipe, runtime, weights)
    return write(f"{recipe.family}-{runtime}", files, deployment(recipe, runtime), into)


def write(name: str, files: Mapping[str, str], document: Mapping[str, Any], into: Path) -> Rendered:
    """Write into/<name>/ and into/<name>.json. files: path inside the repository → content; document: the deployment."""
    rendered = Rendered(repository=into / name, deployment=into / f"{name}.json")
    if _texts(rendered.repository) != files:  # else a server may be reading it
        unfinished = into / f".{name}.{os.getpid()}"
        shutil.rmtree(unfinished, ignore_errors=True)
        for path, text in files.items():
            (unfinished / path).parent.mkdir(parents=True, exist_ok=True)
            (unfinished / path).write_text(text)
        shutil.rmtree(rendered.repository, ignore_errors=True)
        unfinished.replace(rendered.repository)
    rendered.deployment.write_text(json.dumps(document, indent=2) + "\n")
    return rendered


def repository_files(recipe: Recipe, runtime: Runtime, weights: Mapping[str, Path]) -> dict[str, str]:
    """Path inside the repository → content."""
    files = {}
    for name, tier in settings(recipe, runtime).items():
        files[f"{name}/config.pbtxt"] = tier_config(name, tier, weights[name])
        files[f"{name}/1/model.py"] = model_source(runtime)
    return files


def settings(recipe: Recipe, runtime: Runtime) -> dict[str, LlamaCpp]:
    """Tier name → its settings, for the tiers that have some for this runtime. Raises BuildError if none has."""
    chosen = {tier.name: tier.llama_cpp for tier in recipe.tiers if tier.llama_cpp}
    if runtime != "llama_cpp" or not chosen:
        raise BuildError(f"No tier of {recipe.family} has settings for the runtime {runtime}.")
    return chosen


def deployment(recipe: Recipe, runtime: Runtime) -> dict[str, Any]:
    """What the cascade needs to know about its tiers, small to large."""
    chosen = settings(recipe, runtime)
    document = tiers_document(recipe, runtime, chosen)
    for tier in document["tiers"]:
        tier["weights_sha256"] = chosen[tier["name"]].weights.sha256
    return document


def tiers_document(recipe: Recipe, runtime: Runtime, chosen: Mapping[str, LlamaCpp | GpuRuntime]) -> dict[str, Any]:
    """The deployment of the tiers that are keys of `chosen`, each with its settings."""
    return {
        "format": 1,
        "family": recipe.family,
        "runtime": runtime,
        "plans": str(PLANS / f"{recipe.family}.json"),
        "tiers": [
            {
                "name": tier.name,
                "style": tier.style,
                "context_tokens": chosen[tier.name].context_tokens,
                "max_completion_tokens": chosen[tier.name].max_completion_tokens,
                "price_per_mtok": chosen[tier.name].price_per_mtok,
                "prompt_price_per_mtok": chosen[tier.name].prompt_price_per_mtok,
            }
            for tier in recipe.tiers
            if tier.name in chosen
        ],
    }


def tier_config(name: str, tier: LlamaCpp, weights: Path) -> str:
    """The config.pbtxt of one tier."""
    config = model_config_pb2.ModelConfig(name=name, backend="python", max_batch_size=0)
    add_contract(config)
    config.instance_group.add(kind="KIND_CPU", count=1)
    parameters = {
        "weights": weights,
        "context_tokens": tier.context_tokens,
        "max_completion_tokens": tier.max_completion_tokens,
        "slots": tier.slots,
    }
    for key, value in parameters.items():
        config.parameters[key].string_value = str(value)
    return str(text_format.MessageToString(config))


def add_contract(config: model_config_pb2.ModelConfig) -> None:
    """The tensors of the tier contract."""
    for tensor, (data_type, length) in _INPUTS.items():
        config.input.add(name=tensor, data_type=data_type, dims=[length], optional=tensor != "text_input")
    for tensor, (data_type, length) in _OUTPUTS.items():
        config.output.add(name=tensor, data_type=data_type, dims=[length])


def model_source(module: str) -> str:
    """The model.py of a model whose code is codecascade.triton.models.<module>."""
    return f"from codecascade.triton.models.{module} import TritonPythonModel  # noqa: F401\n"


def _texts(folder: Path) -> dict[str, str]:
    paths = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(folder)): path.read_text() for path in paths}
