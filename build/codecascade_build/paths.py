"""Where generated things live."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VAR = ROOT / "var"
FAMILIES = ROOT / "build" / "families"
CONTRACTS = ROOT / "build" / "contracts"
PLANS = ROOT / "plans"
WRITTEN_MODELS = ROOT / "model_repository"
RENDERED_MODELS = VAR / "model_repository"


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where downloads are kept: CODECASCADE_CACHE, or var/cache."""
    chosen = environ.get("CODECASCADE_CACHE")
    return Path(chosen).expanduser().resolve() if chosen else VAR / "cache"
