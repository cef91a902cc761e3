"""What stands before the cascade and the models that it calls, in Triton's /metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from codecascade.load_policy import LoadPolicy
from codecascade.triton.calls.gate import Gate
from codecascade.triton.metrics import Gauges, Labels, Totals

_LABELS = ["caller", "model"]


class Before:
    """Bounds, queues and breakers. caller: the model that calls; gates: by the model that they stand before."""

    def __init__(self, caller: str, gates: Mapping[str, Gate], load: LoadPolicy) -> None:
        def of(figure: Callable[[Gate], float]) -> Callable[[], Mapping[Labels, float]]:
            return lambda: {(caller, model): figure(gate) for model, gate in gates.items()}

        self.families = [
            Gauges("codecascade_calls_in_flight", "Calls that a model is working on", _LABELS, of(lambda gate: gate.in_flight)),
            Gauges("codecascade_calls_queued", "Calls that wait for a model", _LABELS, of(lambda gate: gate.queued)),
            Totals("codecascade_calls_refused_total", "Calls that found the queue full", _LABELS, of(lambda gate: gate.refused)),
            Gauges(
                "codecascade_breaker_open",
                "1 while a model is not asked because it does not answer, or asked once to try again",
                _LABELS,
                of(lambda gate: float(gate.breaker.state != "closed")),
            ),
            Totals("codecascade_breaker_opened_total", "How often that began", _LABELS, of(lambda gate: gate.breaker.opened)),
            Totals(
                "codecascade_load_switches_total",
                "How often the load changed the plan of requests that name none",
                ["caller"],
                lambda: {(caller,): load.switches},
            ),
        ]
