"""Spans of requests, for OpenTelemetry: a request, the tiers that it asks, and of each its generation and its sandbox.

They are made of the events that streams are told too. No text of a caller or of a model is in them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from codecascade.errors import InvalidSetting
from codecascade.events import Abandoned, Decided, Event, Started, Tell, nobody
from codecascade.trace import StepTrace

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Spans:
    """Makes spans with a tracer. Without one it makes none and costs nothing."""

    def __init__(self, tracer: Tracer | None) -> None:
        self._tracer = tracer

    @contextmanager
    def request(self, model: str, plan: str, request_id: str) -> Iterator[Tell]:
        """The span of a request, as long as it lasts. Tell what it yields every event of the request."""
        if self._tracer is None:
            yield nobody
            return
        attributes = {"codecascade.plan": plan, "codecascade.request_id": request_id}
        with self._tracer.start_as_current_span(model, attributes=attributes) as span:
            yield _Request(self._tracer, span).tell


def spans_from_environment(environment: Mapping[str, str] = os.environ) -> Spans:
    """Sends spans where OpenTelemetry's own variables say. Raises InvalidSetting if they do and its packages are missing."""
    named = next((name for name in _ENDPOINTS if environment.get(name)), None)
    if named is None:
        return Spans(None)
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        needed = "the extra `telemetry`: pip install 'codecascade[telemetry]'"
        raise InvalidSetting(f"{named} is set, which needs {needed} ({error})") from error

    service = {"service.name": environment.get("OTEL_SERVICE_NAME", "codecascade")}
    provider = TracerProvider(resource=Resource.create(service))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Spans(provider.get_tracer("codecascade"))


class _Request:
    """The spans below that of one request."""

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span
        self._tier: Span | None = None
        self._asked_ns = 0

    def tell(self, event: Event) -> None:
        if isinstance(event, Started):
            self._asked_ns = time.time_ns()
            self._tier = self._below(self._span, f"tier {event.tier}", self._asked_ns)
        elif isinstance(event, Decided):
            self._end_tier(event.step)
        elif isinstance(event, Abandoned):
            if event.steps:
                self._end_tier(event.steps[-1])
            self._fail(event.error)

    def _end_tier(self, step: StepTrace) -> None:
        """A step that draws several answers has one span for their generation and one for their sandbox."""
        tier, self._tier = self._tier, None
        if tier is None:
            return
        now_ns = time.time_ns()
        tier.set_attributes(
            {
                "codecascade.tier": step.tier,
                "codecascade.decision": step.decision,
                "codecascade.score": step.score,
                "codecascade.cost_usd": step.cost_usd,
                "gen_ai.usage.input_tokens": step.prompt_tokens,
                "gen_ai.usage.output_tokens": step.completion_tokens,
            }
        )
        if step.generate_ms:
            self._below(tier, "generation", self._asked_ns).end(self._asked_ns + round(step.generate_ms * 1e6))
        if step.sandbox_ms:
            self._below(tier, "sandbox", now_ns - round(step.sandbox_ms * 1e6)).end(now_ns)
        tier.end(now_ns)

    def _fail(self, error: BaseException) -> None:
        from opentelemetry.trace import Status, StatusCode

        self._span.set_status(Status(StatusCode.ERROR, str(error) or type(error).__name__))

    def _below(self, parent: Span, name: str, began_ns: int) -> Span:
        from opentelemetry.trace import set_span_in_context

        return self._tracer.start_span(name, set_span_in_context(parent), start_time=began_ns)
