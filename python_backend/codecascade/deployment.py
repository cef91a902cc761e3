"""What is deployed: the tiers behind a cascade, small to large, as `build/` rendered them."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codecascade.errors import DeploymentError, InvalidRequest
from codecascade.load_policy import LoadLevel
from codecascade.plans import PlanFile
from codecascade.prices import Prices, TokenPrice
from codecascade.texts.infills import FIM_TOKENS
from codecascade.texts.prompts import STYLES
from codecascade.types import Plan

FORMAT = 1
MAX_PROMPT_BYTES = 256 << 10
MAX_REQUEST_BYTES = 4 << 20
MAX_REQUESTS = 1_000
MAX_QUEUE = 2_000
SANDBOX_MAX_IN_FLIGHT = 64
_NUMBERS = (  # of a deployment, each of which a file may leave out
    *("sandbox_price_per_cpu_s", "max_prompt_bytes", "max_request_bytes", "max_requests"),
    *("sandbox_max_in_flight", "sandbox_max_queue"),
)


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
    """Seconds after which a call counts as failed. It begins with the call, not while the call waits for its turn."""
    max_in_flight: int | None = None
    """Calls at a time, at most as many as the tier works on at once. None: an equal part of what the server has threads for."""
    max_queue: int = MAX_QUEUE
    """Calls that may wait for their turn. More are refused at once (Overloaded)."""
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
        if self.max_in_flight is not None:
            _check_whole(f"max_in_flight of tier {self.name!r}", self.max_in_flight, 1)
        _check_whole(f"max_queue of tier {self.name!r}", self.max_queue, 0)
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
    max_request_bytes: int = MAX_REQUEST_BYTES
    """All inputs of a request together."""
    max_requests: int = MAX_REQUESTS
    """Requests that one cascade works on at a time, waiting ones included. More are refused at once (Overloaded)."""
    sandbox_max_in_flight: int = SANDBOX_MAX_IN_FLIGHT
    """Matrices that the sandbox is sent at a time."""
    sandbox_max_queue: int = MAX_QUEUE
    """Matrices that may wait for that."""
    load_policy: tuple[LoadLevel, ...] = ()
    """Plans for times of load, by rising load."""

    def __post_init__(self) -> None:
        for name in ("max_prompt_bytes", "max_request_bytes", "max_requests", "sandbox_max_in_flight"):
            _check_whole(name, getattr(self, name), 1)
        _check_whole("sandbox_max_queue", self.sandbox_max_queue, 0)
        if any(low.since >= high.since or low.until >= high.until for low, high in itertools.pairwise(self.load_policy)):
            raise ValueError("load_policy must be by rising load: since and until of each level above those of the level before")
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
    levels = tuple(LoadLevel(**level) for level in data.get("load_policy", ()))
    given = {name: data[name] for name in _NUMBERS if name in data}
    return Deployment(data["family"], Path(data["plans"]), tiers, sandbox_modules=tuple(modules), load_policy=levels, **given)


def _check_whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is {value!r}, must be a whole number, {least} or more")
