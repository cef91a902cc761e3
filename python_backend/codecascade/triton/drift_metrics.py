"""What the plan file promises, beside what requests do, in Triton's /metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain

from codecascade.cascade import Answer
from codecascade.drift import Promise, Seen, drifts, promise_in
from codecascade.plans import PlanFile
from codecascade.triton.metrics import Gauges, Labels


class DriftMetrics:
    """Watches answered requests by plan. A plan file that comes into force begins anew, as does the server."""

    def __init__(self, plans: Callable[[], PlanFile], model: str) -> None:
        self._plans = plans
        self._model = model
        self._file = plans()
        self._promises = _promises(self._file)
        self._seen: dict[str, Seen] = {}
        self.families = [
            Gauges(
                "codecascade_promised_reach_ratio",
                "Share of requests that the plan file says is asked of a tier",
                ["plan", "tier"],
                lambda: dict(chain.from_iterable(_reach(*promise) for promise in self._watched())),
            ),
            Gauges(
                "codecascade_promised_request_cost_usd",
                "What the plan file says that a request costs in the mean, US dollars",
                ["plan"],
                lambda: {(plan,): promise.cost_usd for plan, promise in self._watched()},
            ),
            Gauges(
                "codecascade_drift_log10_e_value",
                "Evidence that traffic is not what the plan file promises; without drift, x is reached with a chance of 10^-x",
                ["model", "plan", "what", "tier"],
                lambda: dict(chain.from_iterable(self._evidence(*promise) for promise in self._watched())),
            ),
        ]

    def answered(self, answer: Answer) -> None:
        """Of a request that its plan could serve to the end."""
        plan = answer.trace.plan
        if plan in self._promises_now():
            self._seen.setdefault(plan, Seen()).add(answer.trace.steps)

    def _promises_now(self) -> Mapping[str, Promise]:
        file = self._plans()
        if file is not self._file:
            self._file, self._promises, self._seen = file, _promises(file), {}
        return self._promises

    def _watched(self) -> Iterator[tuple[str, Promise]]:
        """Plans that requests took, with what they promise."""
        promises = self._promises_now()
        return ((plan, promises[plan]) for plan in list(self._seen))

    def _evidence(self, plan: str, promise: Promise) -> Iterator[tuple[Labels, float]]:
        return (((self._model, plan, drift.what, drift.tier), drift.log10_e) for drift in drifts(promise, self._seen[plan]))


def _promises(file: PlanFile) -> dict[str, Promise]:
    found = {name: promise_in(file, name) for name in file.promises}
    return {name: promise for name, promise in found.items() if promise}


def _reach(plan: str, promise: Promise) -> Iterator[tuple[Labels, float]]:
    return (((plan, tier), share) for tier, share in promise.reach.items())
