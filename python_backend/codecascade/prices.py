"""What a step costs: the tokens that a tier read and wrote, and the sandbox's CPU time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PICODOLLARS = 10**12  # in a dollar; costs are whole picodollars, so that their sums are exact
_PER_MTOK = 10**6  # picodollars per token for each dollar per 1M tokens


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """US dollars per 1M tokens of one tier, generated and prompt. The paper charges generated tokens alone."""

    price_per_mtok: float
    prompt_price_per_mtok: float = 0.0


@dataclass(frozen=True, slots=True)
class Prices:
    """What tokens and sandbox time cost. Raises ValueError for a price below 0."""

    tiers: Mapping[str, TokenPrice]
    """By name, small to large."""
    sandbox_price_per_cpu_s: float = 0.0
    """US dollars per CPU second."""

    def __post_init__(self) -> None:
        for tier, price in self.tiers.items():
            _check(f"price_per_mtok of tier {tier!r}", price.price_per_mtok)
            _check(f"prompt_price_per_mtok of tier {tier!r}", price.prompt_price_per_mtok)
        _check("sandbox_price_per_cpu_s", self.sandbox_price_per_cpu_s)

    def step(self, tier: str, prompt_tokens: int, completion_tokens: int, sandbox_s: float) -> int:
        """What a step costs, in whole picodollars. sandbox_s: CPU seconds; they vary a little from run to run."""
        price = self.tiers[tier]
        tokens = completion_tokens * price.price_per_mtok + prompt_tokens * price.prompt_price_per_mtok
        return round(_PER_MTOK * tokens + PICODOLLARS * sandbox_s * self.sandbox_price_per_cpu_s)


def prices_of(tiers: Mapping[str, Mapping[str, Any]], sandbox_price_per_cpu_s: Any = 0.0) -> Prices:
    """The prices among what a file says about its tiers. Ignores other keys. Raises ValueError."""
    return Prices({name: _token_price(tier) for name, tier in tiers.items()}, sandbox_price_per_cpu_s)


def usd(picodollars: float) -> float:
    return picodollars / PICODOLLARS


def _token_price(tier: Mapping[str, Any]) -> TokenPrice:
    generated: Any = tier.get("price_per_mtok")
    return TokenPrice(generated, tier.get("prompt_price_per_mtok", 0.0))


def _check(what: str, dollars: Any) -> None:
    if isinstance(dollars, bool) or not isinstance(dollars, (int, float)) or not 0 <= dollars < float("inf"):
        raise ValueError(f"{what} is {dollars!r}, must be 0 or more dollars")
