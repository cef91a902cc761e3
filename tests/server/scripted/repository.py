"""Renders a model repository of scripted tiers, with its deployment and plan file, for tests and for the overhead bench."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codecascade_build.render.repository import add_contract
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

_HERE = Path(__file__).parent
_WRITTEN_MODELS = _HERE.parents[2] / "model_repository"

_SANDBOX_CONFIG = """
name: "sandbox"
backend: "python"
max_batch_size: 0
input [
  { name: "candidates" data_type: TYPE_STRING dims: [ -1 ] },
  { name: "test_lines" data_type: TYPE_STRING dims: [ -1 ] }
]
output [
  { name: "verdicts" data_type: TYPE_INT8 dims: [ -1, -1 ] },
  { name: "cpu_s" data_type: TYPE_FP64 dims: [ -1 ] }
]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""
_FLOOR_CONFIG = """
name: "floor"
backend: "python"
max_batch_size: 0
input [ { name: "prompt" data_type: TYPE_STRING dims: [ 1 ] } ]
output [ { name: "completion" data_type: TYPE_STRING dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""


@dataclass(frozen=True, slots=True)
class ScriptedTier:
    """A tier of tier.py. Prices are in dollars per million tokens."""

    name: str
    delay_s: float = 0.0
    """How long every call takes."""
    context_tokens: int = 2048
    price_per_mtok: float = 1.0
    prompt_price_per_mtok: float = 0.0
    timeout_s: float = 60.0
    """The cascade waits no longer for an answer."""
    fim: str | None = None
    """Whose tokens it is asked with for what stands between two texts."""
    max_in_flight: int | None = None
    """Calls at a time; None: an equal part of what the server has threads for."""
    ledger: Path = Path("/dev/null")
    """Gets a line of JSON for every answer."""
    url: str | None = None
    """Of another Triton that serves it; this one then does not."""


@dataclass(frozen=True, slots=True)
class ScriptedRepository:
    repositories: tuple[Path, ...]
    """Folders for --model-repository."""
    deployment: Path
    """The value of CODECASCADE_DEPLOYMENT."""
    plans: Path


def render(
    folder: Path,
    tiers: Sequence[ScriptedTier],
    plans: Mapping[str, Any],
    default: str,
    real_sandbox: bool = False,
    floor_calls: dict[str, Any] | None = None,
    stream: bool = False,
) -> ScriptedRepository:
    """Write everything below `folder`. plans: name → steps (tier, k, lines_per_sample, threshold), small to large, or a whole
    entry of a plan file.

    stream: whether there is `cascade_stream` too.
    floor_calls: the constants of the `floor` model (calls.json of floor.py); without them there is no such model.
    """
    models = folder / "models"
    for tier in tiers:
        if tier.url is None:
            write_tier(models, tier)
    if floor_calls is not None:
        _write_model(models / "floor", _FLOOR_CONFIG, "floor.py")
        (models / "floor" / "1" / "calls.json").write_text(json.dumps(floor_calls))
    _copy_written("cascade", models)
    _copy_written("plans", models)
    if stream:
        _copy_written("cascade_stream", models)
    if real_sandbox:
        _copy_written("sandbox", models)
    else:
        _write_model(models / "sandbox", _SANDBOX_CONFIG, "sandbox.py")
    plan_file = folder / "plans.json"
    plan_file.write_text(json.dumps(plan_document(plans, default)))
    deployment = folder / "scripted.json"
    deployment.write_text(json.dumps(_deployment_document(tiers, plan_file)))
    return ScriptedRepository(repositories=(models,), deployment=deployment, plans=plan_file)


def write_tier(models: Path, tier: ScriptedTier) -> None:
    """The model of a tier, into a folder of models."""
    _write_model(models / tier.name, _tier_config(tier), "tier.py")


def plan_document(plans: Mapping[str, Any], default: str) -> dict[str, Any]:
    """What a plan file of the family `scripted` holds."""
    return {
        "format": 1,
        "family": "scripted",
        "provenance": {"method": "written by hand"},
        "default": default,
        "plans": {name: plan if isinstance(plan, dict) else {"steps": plan} for name, plan in plans.items()},
    }


def _deployment_document(tiers: Sequence[ScriptedTier], plan_file: Path) -> dict[str, Any]:
    return {
        "format": 1,
        "family": "scripted",
        "runtime": "scripted",
        "plans": str(plan_file),
        "tiers": [
            {
                "name": tier.name,
                "style": "base",
                "context_tokens": tier.context_tokens,
                "max_completion_tokens": 512,
                "price_per_mtok": tier.price_per_mtok,
                "prompt_price_per_mtok": tier.prompt_price_per_mtok,
                "timeout_s": tier.timeout_s,
                "fim": tier.fim,
                "max_in_flight": tier.max_in_flight,
                "url": tier.url,
            }
            for tier in tiers
        ],
    }


def _write_model(folder: Path, config: str, source: str) -> None:
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config)
    shutil.copy(_HERE / source, folder / "1" / "model.py")


def _copy_written(name: str, models: Path) -> None:
    shutil.copytree(_WRITTEN_MODELS / name, models / name, ignore=shutil.ignore_patterns("__pycache__"))


def _tier_config(tier: ScriptedTier) -> str:
    config = model_config_pb2.ModelConfig(name=tier.name, backend="python", max_batch_size=0)
    add_contract(config)
    config.instance_group.add(kind="KIND_CPU", count=1)
    for key, value in {"delay_s": tier.delay_s, "context_tokens": tier.context_tokens, "ledger": tier.ledger}.items():
        config.parameters[key].string_value = str(value)
    return str(text_format.MessageToString(config))
