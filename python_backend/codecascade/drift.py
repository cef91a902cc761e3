"""Whether traffic is still what a plan file promises: tests that may be read at any time, with one stated rate of false alarms.

Every test is an e-process: a number that starts at 1 and, while nothing has changed, is expected never to grow. Whoever looks
as often as they like sees it reach 1,000 with a probability of 1 in 1,000 at most (Ville 1939).

Shares (how many requests reach a tier): two-sample, held-out tasks against requests. Likelihoods mixed over all shares
(Robbins 1970), divided by the largest likelihood of one share for both (Turner, Ly and Grünwald 2024). The promise is itself an
estimate from few tasks, and this counts that in: more requests do not turn its uncertainty into an alarm.
Costs: a bet that requests cost more than promised (Waudby-Smith and Ramdas 2024). Of the costs only a histogram and their sum are
known; the number is the smallest that any costs with these could give.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from codecascade.plans import PlanFile

COST_BUCKETS_USD = (*(float(f"{digit}e{power}") for power in range(-6, 0) for digit in (1, 2, 5)), 1.0)
"""Upper ends; what costs more is in one more bucket."""
_STAKES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
"""Parts of the capital that are bet, in one bet each."""
REACH, COST = "reach", "cost"


@dataclass(frozen=True, slots=True)
class Promise:
    """What a plan file says of one plan, from tasks that the plan was not chosen on."""

    tasks: int
    reach: Mapping[str, float]
    """By tier: the share of requests that it is asked for."""
    cost_usd: float
    """Of a request, in the mean."""
    most_usd: float
    """The upper end of its 95 % interval."""


def promise_in(file: PlanFile, plan: str) -> Promise | None:
    """None if the plan was not searched."""
    held_out = file.promises.get(plan, {}).get("held_out", {})
    tasks = file.provenance.get("split", {}).get("held_out_tasks", 0)
    if not tasks or "reach" not in held_out:
        return None
    cost = held_out["usd_per_1000"]
    return Promise(tasks, held_out["reach"], cost["mean"] / 1e3, cost["high"] / 1e3)


@dataclass(slots=True)
class Seen:
    """What requests by one plan did."""

    requests: int = 0
    reached: Counter[str] = field(default_factory=Counter)
    """Requests by tier that was asked."""
    costs: list[int] = field(default_factory=lambda: [0] * (len(COST_BUCKETS_USD) + 1))
    """Requests by bucket of their cost."""
    cost_usd: float = 0.0
    """Of all of them."""

    def add(self, tiers: Sequence[str], cost_usd: float) -> None:
        self.requests += 1
        self.reached.update(tiers)
        self.costs[bucket_of(cost_usd)] += 1
        self.cost_usd += cost_usd


@dataclass(frozen=True, slots=True)
class Drift:
    """One test of a promise."""

    what: str
    """reach or cost."""
    tier: str
    """Empty for the cost of requests."""
    promised: float
    seen: float
    log10_e: float
    """Without drift it reaches x with a probability of 10^-x at most, however often it is read."""


def drifts(promise: Promise, seen: Seen) -> list[Drift]:
    """A test for each tier that is promised or seen, and one of the cost. Nothing before the first request."""
    if not seen.requests:
        return []
    tiers = [*promise.reach, *sorted(set(seen.reached) - set(promise.reach))]
    cost = costs_more(seen.costs, seen.cost_usd, promise.most_usd)
    return [
        *(_reach(promise, seen, tier) for tier in tiers),
        Drift(COST, "", promise.cost_usd, seen.cost_usd / seen.requests, cost / math.log(10)),
    ]


def share_changed(hits_before: float, before: int, hits: float, count: int) -> float:
    """Natural logarithm of the e-value against one share behind both samples."""
    pooled = _log_likelihood(hits_before + hits, before + count)
    return _log_mixture(hits_before, before) + _log_mixture(hits, count) - pooled


def costs_more(costs: Sequence[int], total_usd: float, usd: float) -> float:
    """Natural logarithm of the e-value against costs of `usd` or less in the mean. costs: how many are in each bucket."""
    if usd <= 0:
        return math.inf if total_usd > 0 else 0.0
    bets = [_least_capital(costs, total_usd, usd, stake) for stake in _STAKES]
    highest = max(bets)
    return highest + math.log(sum(math.exp(bet - highest) for bet in bets) / len(bets))


def bucket_of(cost_usd: float) -> int:
    """The number of its bucket, whose upper end belongs to it."""
    return next((number for number, most in enumerate(COST_BUCKETS_USD) if cost_usd <= most), len(COST_BUCKETS_USD))


def _reach(promise: Promise, seen: Seen, tier: str) -> Drift:
    share = promise.reach.get(tier, 0.0)
    hits = min(seen.reached[tier], seen.requests)
    changed = share_changed(share * promise.tasks, promise.tasks, hits, seen.requests)
    return Drift(REACH, tier, share, hits / seen.requests, changed / math.log(10))


def _log_mixture(hits: float, count: int) -> float:
    """Of the likelihoods of all shares, by Jeffreys' weights."""
    return _log_beta(hits + 0.5, count - hits + 0.5) - _log_beta(0.5, 0.5)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _log_likelihood(hits: float, count: int) -> float:
    """The largest that one share gives."""
    return sum(part * math.log(part / count) for part in (hits, count - hits) if part > 0)


def _least_capital(costs: Sequence[int], total_usd: float, usd: float, stake: float) -> float:
    """Logarithm of what a bettor of `stake` has at least, whatever the costs in their buckets are that make the total.

    A cost's gain is concave in it: least at the ends of its bucket. What the total has above all lower ends is put where it gains
    least, from the dearest bucket down.
    """
    lows, highs = (0.0, *COST_BUCKETS_USD), (*COST_BUCKETS_USD, math.inf)
    rest = total_usd - sum(count * low for count, low in zip(costs, lows, strict=True))
    capital = 0.0
    for count, low, high in reversed(list(zip(costs, lows, highs, strict=True))):
        if count:
            capital += count * math.log1p(stake * (low / usd - 1))
            put = min(max(rest, 0.0), count * (high - low))
            rest -= put
            capital += put * _slope(low, high, usd, stake)
    return capital


def _slope(low: float, high: float, usd: float, stake: float) -> float:
    if math.isinf(high):
        return 0.0
    return math.log(((1 - stake) * usd + stake * high) / ((1 - stake) * usd + stake * low)) / (high - low)
