"""What is deployed: the tiers behind a cascade, small to large, as `build/` rendered them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codecascade.errors import DeploymentError, InvalidRequest
from codecascade.plans import PlanFile
from codecascade.prices import Prices, TokenPrice
from codecascade.texts.infills import FIM_TOKENS
from codecascade.texts.prompts import STYLES
from codecascade.types import Plan

FORMAT = 1
MAX_PROMPT_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class Tier:
    """One deployed model size."""

    name: str
    style: str
    """How it is prompted: one of codecascade.texts.prompts.STYLES."""
    context_tokens: int
    max_completion_tokens: int
    price_per_mtok: float
    """US dollars per 1M generated tokens."""
    timeout_s: float = 300.0
    """Seconds after which a call counts as failed."""
    prompt_price_per_mtok: float = 0.0
    """US dollars per 1M prompt tokens."""
    weights_sha256: str | None = None
    """Hash of the weights, where they are one file."""
    fim: str | None = None
    """Whose tokens for fill-in-the-middle it was trained with: one of codecascade.texts.infills.FIM_TOKENS; None: it has none."""
    url: str | None = None
    """host:port of the gRPC service of another Triton that serves the tier; None: the cascade's own Triton."""

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise ValueError(f"tier {self.name!r} has style {self.style!r}, allowed are {', '.join(STYLES)}")
        if self.fim is not None and self.fim not in FIM_TOKENS:
            raise ValueError(f"tier {self.name!r} has fim {self.fim!r}, allowed are {', '.join(FIM_TOKENS)}")
        if self.max_completion_tokens < 1 or self.context_tokens < 1 or not self.timeout_s > 0:
            raise ValueError(
                f"tier {self.name!r} has context_tokens {self.context_tokens}, max_completion_tokens "
                f"{self.max_completion_tokens}, timeout_s {self.timeout_s}; each must be above 0"
            )
        if self.url is not None and not re.fullmatch(r"[^\s]+:\d{1,5}", self.url):
            raise ValueError(f"tier {self.name!r} has url {self.url!r}, must be host:port")


@dataclass(frozen=True, slots=True)
class Deployment:
    """The tiers behind a cascade, and the plan file that it follows."""

    family: str
    plans: Path
    tiers: Mapping[str, Tier]
    """By name, small to large."""
    sandbox_price_per_cpu_s: float = 0.0
    """US dollars per CPU second of generated programs."""
    sandbox_modules: tuple[str, ...] = ()
    """Packages that generated programs and their tests may import, besides the standard library."""
    max_prompt_bytes: int = MAX_PROMPT_BYTES
    """The longest prompt that is taken."""

    def __post_init__(self) -> None:
        if not isinstance(self.max_prompt_bytes, int) or self.max_prompt_bytes < 1:
            raise ValueError(f"max_prompt_bytes is {self.max_prompt_bytes!r}, must be a whole number above 0")
        _ = self.prices  # raises ValueError
        if not all(isinstance(name, str) and name.isidentifier() for name in self.sandbox_modules):
            raise ValueError(f"sandbox_modules is {self.sandbox_modules!r}, must be names of packages, without dots")

    @property
    def prices(self) -> Prices:
        tiers = {name: TokenPrice(tier.price_per_mtok, tier.prompt_price_per_mtok) for name, tier in self.tiers.items()}
        return Prices(tiers, self.sandbox_price_per_cpu_s)

    def check_plans(self, plans: PlanFile) -> None:
        """Raises InvalidRequest if a plan file is another family's, or one of its plans names a tier that is not deployed."""
        if plans.family != self.family:
            raise InvalidRequest(f"its family is {plans.family!r}, must be {self.family!r}, which is deployed")
        for plan in plans.plans.values():
            self.check(plan)

    def check(self, plan: Plan) -> None:
        """Raises InvalidRequest if the plan names a tier that is not deployed."""
        for tier in plan.tiers:
            if tier not in self.tiers:
                raise InvalidRequest(
                    f"plan {plan.name!r} names tier {tier!r}, which is not deployed, deployed are {', '.join(self.tiers)}"
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
        raise ValueError("tiers is empty, must hold at least one")
    modules = data.get("sandbox_modules", [])
    if not isinstance(modules, list):
        raise ValueError(f"sandbox_modules is {modules!r}, must be a list of names of packages")
    given = {name: data[name] for name in ("sandbox_price_per_cpu_s", "max_prompt_bytes") if name in data}
    return Deployment(data["family"], Path(data["plans"]), tiers, sandbox_modules=tuple(modules), **given)
