"""Spans of requests through the cascade, with OpenTelemetry's own SDK."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from codecascade.cascade import run_cascade
from codecascade.errors import TierUnavailable
from codecascade.prices import Prices, TokenPrice
from codecascade.triton.spans import Spans
from codecascade.types import Plan, PlanStep, Task, Tiers, TierSamples, Verdict
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from tests.cascade.scripted_seams import COMPLETION_TOKENS, PROMPT_TOKENS, ScriptedSandbox, ScriptedTiers, answer
from tests.unit.test_imports import run_without

PRICES = Prices({"small": TokenPrice(1.0), "large": TokenPrice(2.0)})
PLAN = Plan("two", (PlanStep("small", k=1, lines_per_sample=1, threshold=1.0), PlanStep("large", k=0)))
ESCALATES = {"small": answer("a", tests=["t1"]), "large": answer("b", tests=())}


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


async def complete(exporter: InMemorySpanExporter, tiers: Tiers) -> None:
    """The first tier's answer fails its test."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with Spans(provider.get_tracer("test")).request("cascade", "two", "request-7") as tell:
        sandbox = ScriptedSandbox({"a": [Verdict.FAIL]})
        await run_cascade(Task("def f():\n", "f"), PLAN, tiers, sandbox, PRICES, on_event=tell)


def named(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    return next(span for span in exporter.get_finished_spans() if span.name == name)


def began(span: ReadableSpan) -> int:
    assert span.start_time is not None
    return span.start_time


def ended(span: ReadableSpan) -> int:
    assert span.end_time is not None
    return span.end_time


async def test_below_a_request_are_its_tiers_their_generation_and_their_sandbox(exporter: InMemorySpanExporter) -> None:
    await complete(exporter, ScriptedTiers(ESCALATES))
    spans = exporter.get_finished_spans()
    names = {span.context.span_id: span.name for span in spans if span.context}
    below = sorted((names[span.parent.span_id] if span.parent else "", span.name) for span in spans)
    assert below == [
        ("", "cascade"),
        ("cascade", "tier large"),
        ("cascade", "tier small"),
        *[("tier large", "generation"), ("tier large", "sandbox")],
        *[("tier small", "generation"), ("tier small", "sandbox")],
    ]
    request, small = named(exporter, "cascade"), named(exporter, "tier small")
    assert dict(request.attributes or {}) == {"codecascade.plan": "two", "codecascade.request_id": "request-7"}
    assert dict(small.attributes or {}) == {
        "codecascade.tier": "small",
        "codecascade.decision": "escalate",
        "codecascade.score": 0.0,
        "codecascade.cost_usd": pytest.approx(COMPLETION_TOKENS * 1e-6),
        "gen_ai.usage.input_tokens": PROMPT_TOKENS,
        "gen_ai.usage.output_tokens": COMPLETION_TOKENS,
    }
    assert all(began(request) <= began(span) <= ended(span) <= ended(request) for span in spans)


async def test_a_tier_that_fails_has_a_span_and_a_request_without_an_answer_is_an_error(exporter: InMemorySpanExporter) -> None:
    away = TierUnavailable("away")
    with pytest.raises(TierUnavailable):
        await complete(exporter, ScriptedTiers({"small": away, "large": away}))
    assert [dict(named(exporter, f"tier {tier}").attributes or {})["codecascade.decision"] for tier in ("small", "large")] == [
        *("skipped", "skipped")
    ]
    status = named(exporter, "cascade").status
    assert (status.status_code, status.description) == (StatusCode.ERROR, "TierUnavailable: no tier answered: away; away")


@dataclass
class Stalled(ScriptedTiers):
    """The last tier never answers."""

    stalled: asyncio.Event = field(default_factory=asyncio.Event)

    async def sample(self, task: Task, step: PlanStep) -> TierSamples:
        if step.tier == "large":
            self.stalled.set()
            await asyncio.Event().wait()
        return await super().sample(task, step)


async def test_a_cancelled_request_ends_its_spans(exporter: InMemorySpanExporter) -> None:
    tiers = Stalled(ESCALATES)
    request = asyncio.ensure_future(complete(exporter, tiers))
    await tiers.stalled.wait()
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    assert named(exporter, "cascade").status.status_code is StatusCode.ERROR
    assert dict(named(exporter, "tier large").attributes or {})["codecascade.decision"] == "abandoned"


def test_without_an_endpoint_there_are_no_spans_and_no_package_is_asked_for() -> None:
    program = "from codecascade.triton.spans import spans_from_environment as spans\n"
    program += "with spans({}).request('cascade', 'two', '') as tell: print(tell.__name__)"
    assert run_without({"opentelemetry"}, program) == "nobody\n"


def test_an_endpoint_without_the_extra_is_refused() -> None:
    program = "from codecascade.triton.spans import spans_from_environment as spans\ntry: spans({'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://x'})\n"
    program += "except Exception as error: print(type(error).__name__, error)"
    said = run_without({"opentelemetry"}, program)
    assert said.startswith("InvalidSetting OTEL_EXPORTER_OTLP_ENDPOINT is set, which needs the extra `telemetry`")
