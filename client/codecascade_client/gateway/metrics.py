"""What the gateway counts. Prices, tokens and decisions are in the cascade's own metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, start_http_server

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "codecascade_gateway_requests", "Requests, by route and HTTP status", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "codecascade_gateway_request_seconds",
            "Time until the answer was sent",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.in_flight = Gauge("codecascade_gateway_in_flight", "Completions under way", registry=self._registry)
        self.gone = Counter(
            "codecascade_gateway_cancelled", "Completions whose client closed the connection", registry=self._registry
        )

    @contextmanager
    def timed(self, route: str) -> Iterator[list[int]]:
        """Gives a list for the status. The route must be one of a few."""
        started, status = time.perf_counter(), [500]
        try:
            yield status
        finally:
            self._requests.labels(route, str(status[0])).inc()
            self._seconds.labels(route).observe(time.perf_counter() - started)

    @contextmanager
    def served(self, host: str, port: int) -> Iterator[None]:
        """On a port of their own, for whoever watches and has no key; port 0: nowhere. Raises OSError if it cannot be used."""
        if not port:
            yield
            return
        server, thread = start_http_server(port, host, self._registry)
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def page(self) -> bytes:
        return generate_latest(self._registry)
