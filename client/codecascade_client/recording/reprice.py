"""A recording's answers at other prices: those of a file."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from codecascade.prices import prices_of

from codecascade_client.errors import RecordingError, reason
from codecascade_client.recording.recording import RecordingManifest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_TIER_KEYS = ("price_per_mtok", "prompt_price_per_mtok")
_KEYS = ("tiers", "sandbox_price_per_cpu_s")


def reprice(manifest: RecordingManifest, path: Path) -> RecordingManifest:
    """The manifest with the prices of a TOML file. Raises RecordingError.

    The file has a table `tiers.NAME` with price_per_mtok for every tier that was recorded. Optional, and 0 by default, are
    prompt_price_per_mtok in these tables and sandbox_price_per_cpu_s at the top.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
        _check_keys("the file", given, _KEYS)
        tiers = given["tiers"]
        _check_keys("tiers", tiers, list(manifest.tiers))
        for name in manifest.tiers:
            _check_keys(f"tier {name!r}", tiers[name], _TIER_KEYS)
        prices_of(tiers, given.get("sandbox_price_per_cpu_s", 0.0))
    except (OSError, KeyError, ValueError) as error:
        raise RecordingError(f"prices {path} cannot be used: {reason(error)}") from error
    repriced = {name: {**_without_prices(tier), **tiers[name]} for name, tier in manifest.tiers.items()}
    return replace(manifest, tiers=repriced, sandbox_price_per_cpu_s=given.get("sandbox_price_per_cpu_s", 0.0))


def _without_prices(tier: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in tier.items() if key not in _TIER_KEYS}


def _check_keys(what: str, table: Any, allowed: Sequence[str]) -> None:
    if not isinstance(table, dict):
        raise ValueError(f"{what} is {table!r}, it must be a table")
    for key in table:
        if key not in allowed:
            raise ValueError(f"{what} has {key!r}, its keys must be among {', '.join(allowed)}")
