"""What is deployed: the tiers behind a cascade, small to large, as `build/` rendered them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codecascade.errors import DeploymentError, InvalidRequest
from codecascade.prices import Prices, TokenPrice
from codecascade.texts.prompts import STYLES
from codecascade.types import Plan

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Tier:
    """One deployed model size. price_per_mtok, prompt_price_per_mtok: US dollars per 1M generated and prompt tokens.

    timeout_s: then it counts as failed. weights_sha256: of the file that it runs, where it is one.
    url: host:port of the gRPC of another Triton that serves it; None: the cascade's own.
    """

    name: str
    style: str
    context_tokens: int
    max_completion_tokens: int
    price_per_mtok: float
    timeout_s: float = 300.0
    prompt_price_per_mtok: float = 0.0
    weights_sha256: str | None = None
    url: str | None = None

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise ValueError(f"tier {self.name!r} has style {self.style!r}, allowed are {', '.join(STYLES)}")
        if self.max_completion_tokens < 1 or self.context_tokens < 1 or not self.timeout_s > 0:
            raise ValueError(f"tier {self.name!r} has a limit that is not positive")
        if self.url is not None and not re.fullmatch(r"[^\s]+:\d{1,5}", self.url):
            raise ValueError(f"tier {self.name!r} has url {self.url!r}, allowed is host:port")


@dataclass(frozen=True, slots=True)
class Deployment:
    """sandbox_price_per_cpu_s: US dollars per CPU second of generated programs under test."""

    family: str
    plans: Path
    tiers: Mapping[str, Tier]
    sandbox_price_per_cpu_s: float = 0.0

    def __post_init__(self) -> None:
        _ = self.prices  # raises ValueError

    @property
    def prices(self) -> Prices:
        tiers = {name: TokenPrice(tier.price_per_mtok, tier.prompt_price_per_mtok) for name, tier in self.tiers.items()}
        return Prices(tiers, self.sandbox_price_per_cpu_s)

    def check(self, plan: Plan) -> None:
        """Raises InvalidRequest if the plan names a tier that is not deployed."""
        for step in plan.steps:
            if step.tier not in self.tiers:
                raise InvalidRequest(
                    f"plan {plan.name!r} names tier {step.tier!r}, which is not deployed, deployed are {', '.join(self.tiers)}"
                )


def load_deployment(path: Path) -> Deployment:
    """Read and check a deployment file. Raises DeploymentError."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return _parse(data)
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise DeploymentError(f"deployment file {path} cannot be used: {what}") from error


def _parse(data: Any) -> Deployment:
    if data["format"] != FORMAT:
        raise ValueError(f"format is {data['format']!r}, this version reads format {FORMAT}")
    tiers = {tier["name"]: Tier(**tier) for tier in data["tiers"]}
    if not tiers:
        raise ValueError("it has no tiers")
    return Deployment(data["family"], Path(data["plans"]), tiers, data.get("sandbox_price_per_cpu_s", 0.0))
