"""Processors and exporters of OpenTelemetry's SDK on our provider: what they read, and what they leave."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.processor.baggage import ALLOW_ALL_BAGGAGE_KEYS, BaggageSpanProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from programs import output
from recorded import Recorded, by_name, from_protobuf, only_span_of, spans_of
from tracebaton import Tracer, trace, with_distributed_trace_context

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def tracer(make_tracer: Callable[..., Tracer]) -> Tracer:
    return make_tracer()


def record_one(tracer: Tracer) -> None:
    """A span with all that a span can have."""
    otel = tracer.provider.get_tracer("library", "1.2", "https://schema.example", {"k": "v"})
    link = Link(SpanContext(5, 6, True, TraceFlags(1)), {"why": "because"})
    with with_distributed_trace_context({"traceparent": CALLER, "tracestate": "9k=v,a=1"}, tracer):
        span = otel.start_span(
            "s", None, SpanKind.CLIENT, {"n": 1, "list": ["a", "b"]}, [link], 1_700_000_000_123_456_000
        )
    span.add_event("event", {"e": 2.5}, 17)
    span.set_status(StatusCode.ERROR, "bad")
    span.end(1_700_000_001_000_000_000)


def test_spans_are_the_sdks_readable_spans(tracer: Tracer) -> None:
    @trace(event_name="of ours", tracer=tracer)
    def work() -> Any:
        return otel_trace.get_current_span()

    for span in (tracer.provider.get_tracer("i").start_span("s"), work()):
        assert isinstance(span, ReadableSpan)
        assert isinstance(span, otel_trace.Span)


def test_the_sdk_may_be_loaded_later() -> None:
    code = """
    import sys, tracebaton

    tracer = tracebaton.Tracer.init(exporter="memory")
    with tracer.start_span("before") as before:
        pass
    assert "opentelemetry.sdk.trace" not in sys.modules
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

    assert not isinstance(before, ReadableSpan)
    tracer.provider.add_span_processor(SpanProcessor())
    with tracer.start_span("after") as after:
        pass
    assert isinstance(after, ReadableSpan) and isinstance(after, tracebaton.Span)
    assert [type(it).__name__ for it in (before, after)] == ["Span", "Span"]
    print(len(tracer._core.memory()))
    """
    assert output(code) == "2"


def test_what_a_processor_reads(tracer: Tracer) -> None:
    exporter = InMemorySpanExporter()
    tracer.provider.add_span_processor(SimpleSpanProcessor(exporter))
    record_one(tracer)
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.kind) == ("s", SpanKind.CLIENT)
    assert (span.attributes["n"], list(span.attributes["list"])) == (1, ["a", "b"])
    assert span.attributes["honeyhive.session_id"] == "own"
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert span.parent.is_remote
    assert span.context == span.get_span_context()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "bad")
    (event,), (link,) = span.events, span.links
    assert (event.name, dict(event.attributes), event.timestamp, event.dropped_attributes) == (
        "event",
        {"e": 2.5},
        17,
        0,
    )
    assert (link.context.span_id, dict(link.attributes), link.dropped_attributes) == (6, {"why": "because"}, 0)
    assert span.start_time <= span.end_time
    assert (span.dropped_attributes, span.dropped_events, span.dropped_links) == (0, 0, 0)
    scope = span.instrumentation_scope
    assert (scope.name, scope.version, scope.schema_url, dict(scope.attributes)) == (
        "library",
        "1.2",
        "https://schema.example",
        {"k": "v"},
    )
    assert json.loads(scope.to_json())["name"] == "library"
    merged = Resource({"service.name": "other", "more": 1}).merge(span.resource)
    assert merged.attributes["service.name"] == span.resource.attributes["service.name"]
    assert span.resource.merge(Resource({"more": 1})).attributes["more"] == 1
    private = ("_name", "_context", "_kind", "_parent", "_start_time", "_end_time")
    for field in private:
        assert getattr(span, field) == getattr(span, field[1:]), field
    assert (span._status.status_code, span._status.description) == (StatusCode.ERROR, "bad")
    assert list(span._events) == list(span.events)
    assert span._resource == span.resource
    assert span._instrumentation_scope == span.instrumentation_scope


def test_the_official_encoder_says_what_ours_says(tracer: Tracer) -> None:
    exporter = InMemorySpanExporter()
    tracer.provider.add_span_processor(SimpleSpanProcessor(exporter))
    record_one(tracer)
    record_one(tracer)
    (of_resource,) = encode_spans(exporter.get_finished_spans()).resource_spans
    (of_scope,) = of_resource.scope_spans
    assert of_scope.scope.name == "library"
    assert of_scope.schema_url == "https://schema.example"
    official: list[Recorded] = [from_protobuf(span) for span in of_scope.spans]
    ours = spans_of(tracer)
    for span in ours:
        # Made when the span is encoded, from what is there then.
        span.attributes.pop("honeyhive_event_type")
        # The SDK's encoder writes the bits about the parent only.
        span.flags &= ~0xFF
        span.links[0].flags &= ~0xFF
    assert official == ours


def test_to_json_is_the_sdks(tracer: Tracer) -> None:
    exporter, out = InMemorySpanExporter(), io.StringIO()
    tracer.provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer.provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=out)))
    record_one(tracer)
    (span,) = exporter.get_finished_spans()
    as_the_sdk = ReadableSpan(
        **{
            name: getattr(span, name)
            for name in ("name", "context", "parent", "events", "links", "kind", "status", "start_time", "end_time")
        },
        attributes={key: list(it) if isinstance(it, tuple) else it for key, it in span.attributes.items()},
        resource=Resource(span.resource.attributes),
    )
    assert json.loads(span.to_json()) == json.loads(as_the_sdk.to_json())
    assert json.loads(out.getvalue()) == json.loads(as_the_sdk.to_json())
    assert "\n" not in span.to_json(indent=None)


def test_in_batches(tracer: Tracer) -> None:
    exporter = InMemorySpanExporter()
    tracer.provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=60_000))
    for _ in range(3):
        tracer.provider.get_tracer("i").start_span("s").end()
    assert exporter.get_finished_spans() == ()
    assert tracer.flush(20_000)
    assert len(exporter.get_finished_spans()) == 3
    with tracer.start_span("last"):
        pass
    tracer.shutdown(20_000)
    assert [span.name for span in exporter.get_finished_spans()][3:] == ["last"]


def test_the_end_of_the_process_flushes_processors() -> None:
    code = """
    import tracebaton
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

    tracer = tracebaton.Tracer.init(exporter="none")
    exporter = ConsoleSpanExporter(formatter=lambda span: span.name)
    tracer.provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=60_000))
    with tracer.start_span("at the end"):
        pass
    """
    assert output(code) == "at the end"


def test_flush_is_true_to_its_word(tracer: Tracer, caplog: pytest.LogCaptureFixture) -> None:
    class Holding(SpanProcessor):
        def __init__(self, answer: Any) -> None:
            self.answer = answer
            self.asked: list[int] = []

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            self.asked.append(timeout_millis)
            if isinstance(self.answer, Exception):
                raise self.answer
            return bool(self.answer)

    good, bad = Holding(True), Holding(False)
    tracer.provider.add_span_processor(good)
    assert tracer.provider.force_flush(5_000) is True
    assert 0 < good.asked[0] <= 5_000
    tracer.provider.add_span_processor(bad)
    assert tracer.provider.force_flush(5_000) is False
    assert tracer.flush(5_000) is False
    bad.answer = ValueError("mine")
    assert tracer.force_flush(5_000) is False
    assert tracer.flush(0) is False
    caplog.clear()  # the exception was said, as a warning


class Rewriting(SpanProcessor):
    """What redacting and translating processors do: they assign what the SDK keeps in private fields."""

    def on_end(self, span: Any) -> None:
        span._name = f"Updated-{span.name}"
        span._attributes = {**span._attributes, "added": [1, 2], "n": "replaced"}
        span._attributes["more"] = True
        span._attributes.pop("list")
        span._events = [Event(event.name.upper(), {"kept": "yes"}, event.timestamp) for event in span.events]
        span._events.append(Event("appended", timestamp=18))
        span._events += [Event("added", timestamp=19), Event("removed", timestamp=20)]
        del span._events[-1]
        span._status = Status(StatusCode.OK)


def test_what_a_processor_leaves_is_exported(tracer: Tracer) -> None:
    after = InMemorySpanExporter()
    tracer.provider.add_span_processor(Rewriting())
    tracer.provider.add_span_processor(SimpleSpanProcessor(after))
    record_one(tracer)
    recorded = only_span_of(tracer)
    assert (recorded.name, recorded.status, recorded.message) == ("Updated-s", 1, "")
    attributes = {key: recorded.attributes.get(key) for key in ("n", "added", "more", "list")}
    assert attributes == {"n": "replaced", "added": [1, 2], "more": True, "list": None}
    assert recorded.session == "own"
    assert [(it.name, it.time_ns, it.attributes) for it in recorded.events] == [
        ("EVENT", 17, {"kept": "yes"}),
        ("appended", 18, {}),
        ("added", 19, {}),
    ]
    (seen,) = after.get_finished_spans()
    assert (seen.name, seen.attributes["n"], len(seen.events)) == ("Updated-s", "replaced", 3)


def test_private_fields_that_are_emptied(tracer: Tracer) -> None:
    class Emptying(SpanProcessor):
        def on_end(self, span: Any) -> None:
            span._attributes = None
            span._events = ()
            span._status = Status(StatusCode.ERROR)

    tracer.provider.add_span_processor(Emptying())
    record_one(tracer)
    recorded = only_span_of(tracer)
    assert (recorded.events, recorded.status, recorded.message) == ([], 2, "")
    assert "n" not in recorded.attributes
    # What routes a span cannot be lost.
    assert (recorded.session, recorded.project) == ("own", "shop")


def test_a_span_that_is_about_to_end_can_still_be_set(tracer: Tracer) -> None:
    class Late(SpanProcessor):
        def _on_ending(self, span: Any) -> None:
            assert span.is_recording()
            assert span.end_time is not None
            span.set_attribute("late", 1)

        def on_end(self, span: Any) -> None:
            assert not span.is_recording()
            span.set_attribute("too late", 1)

    tracer.provider.add_span_processor(Late())
    tracer.provider.get_tracer("i").start_span("s").end()
    recorded = only_span_of(tracer)
    assert recorded.attributes["late"] == 1
    assert "too late" not in recorded.attributes


def test_a_processor_that_ends_the_span_itself(tracer: Tracer) -> None:
    class Ending(SpanProcessor):
        ended = 0

        def on_end(self, span: Any) -> None:
            self.ended += 1
            span.end()

    ending = Ending()
    tracer.provider.add_span_processor(ending)
    tracer.provider.get_tracer("i").start_span("s").end()
    assert (ending.ended, len(spans_of(tracer))) == (1, 1)


def test_the_baggage_processor(tracer: Tracer) -> None:
    tracer.provider.add_span_processor(BaggageSpanProcessor(ALLOW_ALL_BAGGAGE_KEYS))
    headers = {"traceparent": CALLER, "baggage": "user=Am%C3%A9lie"}
    with with_distributed_trace_context(headers, tracer):
        token = otel_context.attach(baggage.set_baggage("local", "1"))
        with tracer.start_span("outer"), tracer.start_span("inner"):
            pass
        otel_context.detach(token)
    with tracer.start_span("outside"):
        pass
    named = by_name(spans_of(tracer))
    for name in ("outer", "inner"):
        assert (named[name].attributes["user"], named[name].attributes["local"]) == ("Amélie", "1")
    assert "user" not in named["outside"].attributes


def test_a_processor_that_raises_hurts_nobody(tracer: Tracer, caplog: pytest.LogCaptureFixture) -> None:
    class Raising(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            raise ValueError("mine")

        def _on_ending(self, span: Any) -> None:
            raise ValueError("mine")

        def on_end(self, span: Any) -> None:
            raise ValueError("mine")

        def shutdown(self) -> None:
            raise ValueError("mine")

    exporter = InMemorySpanExporter()
    tracer.provider.add_span_processor(Raising())
    tracer.provider.add_span_processor(SimpleSpanProcessor(exporter))
    with tracer.start_span("s"):
        pass
    assert only_span_of(tracer).name == "s"
    assert len(exporter.get_finished_spans()) == 1
    tracer.shutdown(1_000)
    assert "mine" not in caplog.text
    caplog.clear()  # said once, as a warning


def test_an_exporter_that_fails(tracer: Tracer) -> None:
    class Failing(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.FAILURE

        def shutdown(self) -> None:
            pass

    tracer.provider.add_span_processor(SimpleSpanProcessor(Failing()))
    with tracer.start_span("s"):
        pass
    assert only_span_of(tracer).name == "s"


def test_processors_after_shutdown_are_left_alone(tracer: Tracer) -> None:
    class Counting(SpanProcessor):
        shut = 0
        started = 0

        def on_start(self, span: Any, parent_context: Any = None) -> None:
            self.started += 1

        def shutdown(self) -> None:
            self.shut += 1

    counting = Counting()
    tracer.provider.add_span_processor(counting)
    tracer.shutdown(1_000)
    tracer.provider.shutdown(1_000)
    with tracer.start_span("s"):
        pass
    assert (counting.shut, counting.started) == (1, 0)
