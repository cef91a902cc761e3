"""Writes a Triton model repository and the deployment file beside it, for any runtime."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codecascade.tiers.contract import INPUTS, OUTPUTS, Tensor
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from codecascade_build.paths import PLANS
from codecascade_build.recipes import GpuRuntime, LlamaCpp, Recipe, Runtime


@dataclass(frozen=True, slots=True)
class Rendered:
    """What was written."""

    repository: Path
    """The folder for Triton's --model-repository."""
    deployment: Path
    """The file for CODECASCADE_DEPLOYMENT."""


def write(name: str, files: Mapping[str, str], document: Mapping[str, Any], into: Path) -> Rendered:
    """Write into/<name>/ and into/<name>.json. files: path inside the repository → content. document: the deployment."""
    rendered = Rendered(repository=into / name, deployment=into / f"{name}.json")
    if _texts(rendered.repository) != files:  # an unchanged one is left alone: a server may be reading it
        unfinished = into / f".{name}.{os.getpid()}"
        shutil.rmtree(unfinished, ignore_errors=True)
        for path, text in files.items():
            (unfinished / path).parent.mkdir(parents=True, exist_ok=True)
            (unfinished / path).write_text(text)
        shutil.rmtree(rendered.repository, ignore_errors=True)
        unfinished.replace(rendered.repository)
    rendered.deployment.write_text(json.dumps(document, indent=2) + "\n")
    return rendered


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
                **({"fim": tier.fim} if tier.fim else {}),
                "context_tokens": chosen[tier.name].context_tokens,
                "max_completion_tokens": chosen[tier.name].max_completion_tokens,
                "price_per_mtok": chosen[tier.name].price_per_mtok,
                "prompt_price_per_mtok": chosen[tier.name].prompt_price_per_mtok,
            }
            for tier in recipe.tiers
            if tier.name in chosen
        ],
        "sandbox_modules": list(recipe.sandbox_modules),
        "max_prompt_bytes": recipe.max_prompt_bytes,
    }


def contract_model(name: str, **parameters: object) -> ModelConfig:
    """A Python model that meets the tier contract."""
    config = python_model(name)
    add_contract(config)
    return with_parameters(config, **parameters)


def python_model(name: str, max_batch_size: int = 0) -> ModelConfig:
    config = ModelConfig(name=name, backend="python", max_batch_size=max_batch_size)
    config.instance_group.add(kind="KIND_CPU", count=1)
    return config


def with_parameters(config: ModelConfig, **parameters: object) -> ModelConfig:
    for key, value in parameters.items():
        config.parameters[key].string_value = str(value)
    return config


def config_text(config: ModelConfig) -> str:
    return str(text_format.MessageToString(config))


def add_contract(config: ModelConfig) -> None:
    """The tensors of the tier contract."""
    for tensor in INPUTS:
        config.input.add(name=tensor.name, data_type=data_type(tensor), dims=[tensor.length], optional=not tensor.required)
    for tensor in OUTPUTS:
        config.output.add(name=tensor.name, data_type=data_type(tensor), dims=[tensor.length])


def data_type(tensor: Tensor) -> str:
    """As config.pbtxt names it."""
    return f"TYPE_{'STRING' if tensor.datatype == 'BYTES' else tensor.datatype}"


def model_source(module: str) -> str:
    """The model.py of a model whose code is codecascade.triton.models.<module>."""
    return f"from codecascade.triton.models.{module} import TritonPythonModel  # noqa: F401\n"


def _texts(folder: Path) -> dict[str, str]:
    paths = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(folder)): path.read_text() for path in paths}
