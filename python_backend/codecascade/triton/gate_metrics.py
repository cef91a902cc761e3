"""What stands before the models that a cascade calls, in Triton's /metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from codecascade.triton.metrics import Family, Gauges, Labels, Totals


class BreakerFigures(Protocol):
    """Of a circuit breaker."""

    @property
    def state(self) -> str: ...
    @property
    def opened(self) -> int: ...


class GateFigures(Protocol):
    """Of a bound with a queue and a breaker: codecascade.triton.calls.gate.Gate."""

    @property
    def in_flight(self) -> int: ...
    @property
    def queued(self) -> int: ...
    @property
    def refused(self) -> int: ...
    @property
    def breaker(self) -> BreakerFigures: ...


def gate_families(gates: Mapping[str, GateFigures]) -> list[Family]:
    """gates: by the model that they stand before."""

    def by_model(figure: Callable[[GateFigures], float]) -> Callable[[], Mapping[Labels, float]]:
        return lambda: {(model,): figure(gate) for model, gate in gates.items()}

    model = ["model"]
    return [
        Gauges("codecascade_calls_in_flight", "Calls that a model is working on", model, by_model(lambda gate: gate.in_flight)),
        Gauges("codecascade_calls_queued", "Calls that wait for a model", model, by_model(lambda gate: gate.queued)),
        Totals("codecascade_calls_refused_total", "Calls that found the queue full", model, by_model(lambda gate: gate.refused)),
        Gauges(
            "codecascade_breaker_open",
            "1 while a model is not asked because it does not answer, or asked once to try again",
            model,
            by_model(lambda gate: float(gate.breaker.state != "closed")),
        ),
        Totals("codecascade_breaker_opened_total", "How often that began", model, by_model(lambda gate: gate.breaker.opened)),
    ]
