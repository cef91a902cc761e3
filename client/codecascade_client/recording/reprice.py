"""What if it cost something else: a recording's answers under the prices of a file."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from codecascade.prices import prices_of

from codecascade_client.errors import RecordingError
from codecascade_client.recording.recording import RecordingManifest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_TIER_KEYS = ("price_per_mtok", "prompt_price_per_mtok")
_KEYS = ("tiers", "sandbox_price_per_cpu_s")


def reprice(manifest: RecordingManifest, path: Path) -> RecordingManifest:
    """The manifest with the prices of a TOML file: a table `tiers.NAME` with price_per_mtok and, if prompts have a price,
    prompt_price_per_mtok for every tier that was recorded, and sandbox_price_per_cpu_s if the sandbox has one.

    What the file does not name costs nothing. Raises RecordingError.
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
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else getattr(error, "strerror", None) or str(error)
        raise RecordingError(f"prices {path} cannot be used: {what}") from error
    repriced = {name: {**_without_prices(tier), **tiers[name]} for name, tier in manifest.tiers.items()}
    return replace(manifest, tiers=repriced, sandbox_price_per_cpu_s=given.get("sandbox_price_per_cpu_s", 0.0))


def _without_prices(tier: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in tier.items() if key not in _TIER_KEYS}


def _check_keys(what: str, table: Any, allowed: Sequence[str]) -> None:
    if not isinstance(table, dict):
        raise ValueError(f"{what} is {table!r}, allowed is a table")
    for key in table:
        if key not in allowed:
            raise ValueError(f"{what} has {key!r}, allowed are {', '.join(allowed)}")
