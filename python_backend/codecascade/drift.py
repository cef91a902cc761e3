"""Whether traffic is still what a plan file promises: tests that may be read at any time, with one stated rate of false alarms.

Every test is an e-process: a number that starts at 1 and, while nothing has changed, is expected never to grow. Whoever looks
as often as they like sees it reach 1,000 with a probability of 1 in 1,000 at most (Ville 1939).

Shares (how many requests reach a tier, how many of its answers are accepted, tested by given tests, pass everything): two-sample,
held-out tasks against requests. Likelihoods mixed over all shares (Robbins 1970), divided by the largest likelihood of one share
for both (Turner, Ly and Grünwald 2024). The promise is itself an estimate from few tasks, and this counts that in: more requests
do not turn its uncertainty into an alarm.
Costs: a bet that they are more than promised (Waudby-Smith and Ramdas 2024). Of the costs only a histogram and their sum are
known; the number is the smallest that any costs with these could give.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from codecascade.plans import PlanFile
from codecascade.trace import StepTrace
from codecascade.types import Decision

COST_BUCKETS_USD = (*(float(f"{digit}e{power}") for power in range(-6, 0) for digit in (1, 2, 5)), 1.0)
"""Upper ends; what costs more is in one more bucket."""
FULL_SCORE = 0.99
"""An answer with more than this passes everything that it is held against."""
REACH, COST, SHARES = "reach", "cost", ("accepted", "given_tests", "full_score")
_STAKES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
"""Parts of the capital that are bet, in one bet each."""
_CERTAIN = 1e6


@dataclass(slots=True)
class Costs:
    """What requests cost, or a tier's part in them."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(COST_BUCKETS_USD) + 1))
    """By bucket."""
    usd: float = 0.0
    """Of all of them."""

    def add(self, usd: float) -> None:
        self.counts[bucket_of(usd)] += 1
        self.usd += usd


@dataclass(slots=True)
class SeenTier:
    """What a tier did that requests asked."""

    asked: float = 0
    """Requests."""
    accepted: float = 0
    """Of them; so are the next two."""
    given_tests: float = 0
    full_score: float = 0
    costs: Costs = field(default_factory=Costs)

    def add(self, step: StepTrace) -> None:
        self.asked += 1
        self.accepted += step.decision == Decision.ACCEPT.value
        self.given_tests += step.n_given_tests > 0
        self.full_score += step.score > FULL_SCORE
        self.costs.add(step.cost_usd)


@dataclass(slots=True)
class Seen:
    """What requests by one plan did."""

    requests: int = 0
    costs: Costs = field(default_factory=Costs)
    tiers: defaultdict[str, SeenTier] = field(default_factory=lambda: defaultdict(SeenTier))

    def add(self, steps: Sequence[StepTrace]) -> None:
        self.requests += 1
        self.costs.add(sum(step.cost_usd for step in steps))
        for step in steps:
            self.tiers[step.tier].add(step)


@dataclass(frozen=True, slots=True)
class TierPromise:
    """What a plan file says of one tier of a plan, in held-out tasks."""

    asked: float
    shares: Mapping[str, float]
    """By each of SHARES."""
    cost_usd: float
    """Of the tier's part in a request that asks it, in the mean."""
    most_usd: float
    """The upper end of its 95 % interval."""


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
    tiers: Mapping[str, TierPromise] = field(default_factory=dict)
    """Empty in a file that was searched before version 0.2."""


def promise_in(file: PlanFile, plan: str) -> Promise | None:
    """None if the plan was not searched."""
    held_out = file.promises.get(plan, {}).get("held_out", {})
    tasks = file.provenance.get("split", {}).get("held_out_tasks", 0)
    if not tasks or "reach" not in held_out:
        return None
    tiers = {
        tier: TierPromise(entry["asked"], {share: entry[share] for share in SHARES}, *_mean_and_most(entry))
        for tier, entry in held_out.get("tiers", {}).items()
    }
    return Promise(tasks, held_out["reach"], *_mean_and_most(held_out), tiers)


def _mean_and_most(entry: Mapping[str, Mapping[str, float]]) -> tuple[float, float]:
    return entry["usd_per_1000"]["mean"] / 1e3, entry["usd_per_1000"]["high"] / 1e3


@dataclass(frozen=True, slots=True)
class Drift:
    """One test of a promise."""

    what: str
    """reach, cost, or one of SHARES."""
    tier: str
    """Empty for the cost of whole requests."""
    promised: float
    seen: float
    log10_e: float
    """Without drift it reaches x with a probability of 10^-x at most, however often it is read."""


def drifts(promise: Promise, seen: Seen) -> list[Drift]:
    """The tests of what is promised, and whether tiers are asked that are not. Nothing before the first request."""
    return list(_drifts(promise, seen)) if seen.requests else []


def _drifts(promise: Promise, seen: Seen) -> Iterator[Drift]:
    yield _cost("", promise.cost_usd, promise.most_usd, seen.costs, seen.requests)
    for tier in [*promise.reach, *sorted(set(seen.tiers) - set(promise.reach))]:
        did = seen.tiers.get(tier) or SeenTier()
        asked = promise.reach.get(tier, 0.0) * promise.tasks
        yield _share(REACH, tier, (asked, promise.tasks), (did.asked, seen.requests))
        told = promise.tiers.get(tier)
        if told and told.asked and did.asked:
            for share in SHARES:
                yield _share(share, tier, (told.shares[share], told.asked), (getattr(did, share), did.asked))
            yield _cost(tier, told.cost_usd, told.most_usd, did.costs, did.asked)


def how_many_tests(promise: Promise, tiers: Sequence[str]) -> int:
    """How many tests there can be, whatever requests do. tiers: those of the plan."""
    return 1 + len({*tiers, *promise.reach}) + (len(SHARES) + 1) * len(promise.tiers)


def _share(what: str, tier: str, before: tuple[float, float], now: tuple[float, float]) -> Drift:
    return Drift(what, tier, before[0] / before[1], now[0] / now[1], share_changed(*before, *now) / math.log(10))


def _cost(tier: str, usd: float, most_usd: float, costs: Costs, count: float) -> Drift:
    return Drift(COST, tier, usd, costs.usd / count, costs_more(costs, most_usd) / math.log(10))


def share_changed(hits_before: float, before: float, hits: float, count: float) -> float:
    """Natural logarithm of the e-value against one share behind both samples."""
    pooled = _log_likelihood(hits_before + hits, before + count)
    return _log_mixture(hits_before, before) + _log_mixture(hits, count) - pooled


def costs_more(costs: Costs, usd: float) -> float:
    """Natural logarithm of the e-value against costs of `usd` or less in the mean."""
    if usd <= 0:
        return _CERTAIN if costs.usd > 0 else 0.0
    bets = [_least_capital(costs, usd, stake) for stake in _STAKES]
    highest = max(bets)
    return highest + math.log(sum(math.exp(bet - highest) for bet in bets) / len(bets))


def bucket_of(cost_usd: float) -> int:
    """The number of its bucket, whose upper end belongs to it."""
    return next((number for number, most in enumerate(COST_BUCKETS_USD) if cost_usd <= most), len(COST_BUCKETS_USD))


def _log_mixture(hits: float, count: float) -> float:
    """Of the likelihoods of all shares, by Jeffreys' weights."""
    return _log_beta(hits + 0.5, count - hits + 0.5) - _log_beta(0.5, 0.5)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _log_likelihood(hits: float, count: float) -> float:
    """The largest that one share gives."""
    return sum(part * math.log(part / count) for part in (hits, count - hits) if part > 0)


def _least_capital(costs: Costs, usd: float, stake: float) -> float:
    """Logarithm of what a bettor of `stake` has at least, whatever the costs in their buckets are that make the total.

    A cost's gain is concave in it: least at the ends of its bucket. What the total has above all lower ends is put where it gains
    least, from the dearest bucket down.
    """
    lows, highs = (0.0, *COST_BUCKETS_USD), (*COST_BUCKETS_USD, math.inf)
    rest = costs.usd - sum(count * low for count, low in zip(costs.counts, lows, strict=True))
    capital = 0.0
    for count, low, high in reversed(list(zip(costs.counts, lows, highs, strict=True))):
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
