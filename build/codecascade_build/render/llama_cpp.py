"""Writes the Triton models of the llama.cpp tiers, and the deployment file that the cascade reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codecascade_build.errors import BuildError
from codecascade_build.paths import RENDERED_MODELS
from codecascade_build.recipes import LlamaCpp, Recipe, Runtime
from codecascade_build.render.repository import Rendered, config_text, contract_model, model_source, tiers_document, write


def render(recipe: Recipe, runtime: Runtime, weights: Mapping[str, Path], into: Path = RENDERED_MODELS) -> Rendered:
    """Write into/<family>-<runtime>/<tier>/{config.pbtxt,1/model.py} and into/<family>-<runtime>.json.

    weights: tier name → its verified file. Replaces what an earlier rendering left. Raises BuildError.
    """
    files = {}
    for name, tier in settings(recipe, runtime).items():
        files[f"{name}/config.pbtxt"] = tier_config(name, tier, weights[name])
        files[f"{name}/1/model.py"] = model_source(runtime)
    return write(f"{recipe.family}-{runtime}", files, deployment(recipe, runtime), into)


def settings(recipe: Recipe, runtime: Runtime) -> dict[str, LlamaCpp]:
    """Tier name → its settings, of the tiers with settings for this runtime. Raises BuildError if there are none."""
    chosen = {tier.name: tier.llama_cpp for tier in recipe.tiers if tier.llama_cpp}
    if runtime != "llama_cpp" or not chosen:
        raise BuildError(f"No tier of {recipe.family} has settings for the runtime {runtime}.")
    return chosen


def deployment(recipe: Recipe, runtime: Runtime) -> dict[str, Any]:
    """The deployment file: the tiers, small to large."""
    chosen = settings(recipe, runtime)
    document = tiers_document(recipe, runtime, chosen)
    for tier in document["tiers"]:
        tier["weights_sha256"] = chosen[tier["name"]].weights.sha256
        tier["max_in_flight"] = chosen[tier["name"]].slots
    return document


def tier_config(name: str, tier: LlamaCpp, weights: Path) -> str:
    """The config.pbtxt of one tier."""
    config = contract_model(
        name,
        weights=weights,
        context_tokens=tier.context_tokens,
        max_completion_tokens=tier.max_completion_tokens,
        slots=tier.slots,
    )
    return config_text(config)
