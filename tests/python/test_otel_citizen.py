"""What a program that speaks OpenTelemetry may do to a tracer of ours, and what a disabled one does to a request."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import propagate
from opentelemetry import trace as otel_trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from recorded import only_span_of
from tracebaton import (
    TracebatonPropagator,
    Tracer,
    extract_context_from_carrier,
    inject_context_into_carrier,
    trace,
    with_distributed_trace_context,
)

Make = Callable[..., Tracer]
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CARRIER = {
    "traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01",
    "tracestate": "1a@b=x y,  ,zz= lead",
    "baggage": "k1=v%201;p=1;q , session_id=S1,uni=%C3%A9%2C+x, %25=lit,empty=,userId=al%69ce;meta",
}


# A disabled tracer.


@pytest.fixture(params=["argument", "environment"])
def disabled(request: pytest.FixtureRequest, make_tracer: Make, monkeypatch: pytest.MonkeyPatch) -> Tracer:
    if request.param == "argument":
        return make_tracer(disable_tracing=True)
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    return make_tracer()


def test_a_disabled_tracer_passes_on_what_came_in(disabled: Tracer) -> None:
    @trace(tracer=disabled)
    def traced() -> dict[str, str]:
        with disabled.start_span("inside"):
            return inject_context_into_carrier({}, disabled)

    with with_distributed_trace_context(CARRIER, disabled):
        assert inject_context_into_carrier({}) == CARRIER
        assert traced() == CARRIER
        with disabled.start_span("s") as span:
            assert inject_context_into_carrier({}) == CARRIER
            assert otel_trace.format_trace_id(span.get_span_context().trace_id) == TRACE_ID
            assert span.parent is None
            assert not span.is_recording()
    assert disabled._core.memory() == []


def test_a_disabled_tracer_begins_no_trace(disabled: Tracer) -> None:
    with disabled.start_span("s") as span:
        assert not span.get_span_context().is_valid
        assert inject_context_into_carrier({}) == {}


def test_spans_of_others_below_a_disabled_tracers(make_tracer: Make) -> None:
    disabled, other = make_tracer(disable_tracing=True), make_tracer()
    sdk = TracerProvider().get_tracer("t")
    with disabled.start_span("s"):
        root = sdk.start_span("sdk")
        assert root.is_recording(), "the SDK begins a trace of its own"
        with other.start_span("other"):
            pass
    with with_distributed_trace_context(CARRIER, disabled), disabled.start_span("s"):
        child: Any = sdk.start_span("sdk")
    assert otel_trace.format_span_id(child.parent.span_id) == "b7ad6b7169203331"
    assert only_span_of(other).parent_id == ""


def test_a_disabled_tracer_installs_the_propagator(disabled: Tracer) -> None:
    """`OTEL_SDK_DISABLED` has no effect on propagators."""
    assert isinstance(propagate.get_global_textmap(), TracebatonPropagator)
    out: dict[str, str] = {}
    propagate.inject(out, propagate.extract(CARRIER))
    assert out == CARRIER


# Times and links that are none.


@pytest.mark.parametrize("given", [1.5e18, 10**18, True])
def test_a_time_may_be_any_number(tracer: Tracer, given: Any) -> None:
    span = tracer.provider.get_tracer("t").start_span("s", start_time=given)
    span.add_event("e", timestamp=given)
    span.record_exception(ValueError(), timestamp=given)
    span.end(given)
    recorded = only_span_of(tracer)
    assert recorded.start_ns == recorded.end_ns == int(given)
    assert [event.time_ns for event in recorded.events] == [int(given)] * 2


@pytest.mark.parametrize("given", [-1, -1.5, float("nan"), float("inf"), 2**70 * -1, "yesterday", object()])
def test_what_is_no_time_is_now(tracer: Tracer, given: Any, caplog: pytest.LogCaptureFixture) -> None:
    before = time.time_ns()
    with caplog.at_level(logging.WARNING, logger="tracebaton"):
        with tracer.start_span("s", start_time=given) as span:
            span.add_event("e", timestamp=given)
            span.record_exception(ValueError(), timestamp=given)
            span.end(given)
    recorded = only_span_of(tracer)
    for at in (recorded.start_ns, recorded.end_ns, *(event.time_ns for event in recorded.events)):
        assert before - 10**9 <= at <= time.time_ns() + 10**9
    assert len(caplog.records) == 1, "it is told once"


def test_what_is_no_link_is_left_out(tracer: Tracer, caplog: pytest.LogCaptureFixture) -> None:
    links: Any = [Link(None), None]  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING, logger="tracebaton"):
        with tracer.start_span("s", links=links) as span:
            span.add_link(None)
    assert only_span_of(tracer).links == []
    assert len(caplog.records) == 1


# Limits.


def test_processors_and_readers_see_values_that_are_cut(make_tracer: Make) -> None:
    ended = InMemorySpanExporter()
    tracer = make_tracer(limits={"value_length": 4})
    tracer.provider.add_span_processor(SimpleSpanProcessor(ended))
    values = {"text": "äöüabc", "list": ["abcdef", "a"], "bytes": b"abcdef", "int": 123456, "session.id": "a long one"}
    with tracer.start_span("s", attributes=values) as span:
        span.add_event("e", {"k": "abcdef"})
        span.add_link(span.get_span_context(), {"k": "abcdef"})
        tracer.enrich_span(inputs={"short": "abcdef", "deep": {"er": ["abcdef"]}})
        assert span.attributes["text"] == "äöüa"
    for read in (span, ended.get_finished_spans()[0]):
        attributes: Any = read.attributes
        assert attributes["text"] == "äöüa"
        assert attributes["list"] == ("abcd", "a")
        assert attributes["bytes"] == b"abcd"
        assert attributes["int"] == 123456
        assert attributes["session.id"] == "a long one", "what routes a span is never cut"
        assert attributes["honeyhive_inputs.short"] == "abcd"
        assert "abcde" not in str(attributes)
        assert dict(read.events[0].attributes or {}) == dict(read.links[0].attributes or {}) == {"k": "abcd"}
    assert only_span_of(tracer).attributes["text"] == "äöüa"


def test_limits_as_the_sdk_has_them(make_tracer: Make) -> None:
    tracer = make_tracer(limits=SpanLimits(max_span_attributes=2, max_events=1, max_span_attribute_length=3))
    with tracer.start_span("s", attributes={"a": "abcdef", "b": 1, "c": 2}) as span:
        span.add_event("1")
        span.add_event("2")
    recorded = only_span_of(tracer)
    assert recorded.attributes["a"] == "abc"
    assert (recorded.dropped_attributes, recorded.dropped_events) == (1, 1)
    unlimited = make_tracer(limits=SpanLimits(max_span_attributes=SpanLimits.UNSET, max_events=SpanLimits.UNSET))
    with unlimited.start_span("s", attributes={f"k{i}": i for i in range(2_000)}):
        pass
    assert only_span_of(unlimited).dropped_attributes == 0


# What others read.


def test_an_older_name_of_the_scope(tracer: Tracer) -> None:
    span = tracer.provider.get_tracer("library", "1.2").start_span("s")
    info = span.instrumentation_info
    assert (info.name, info.version) == ("library", "1.2")
    span.end()


def test_attributes_of_events_and_links_are_read_only(tracer: Tracer) -> None:
    with tracer.start_span("s") as span:
        span.add_event("e", {"k": 1})
        span.add_link(span.get_span_context(), {"k": 1})
        for part in (span.events[0], span.links[0]):
            with pytest.raises(TypeError):
                part.attributes["k"] = 2
            assert part.attributes == {"k": 1}
    recorded = only_span_of(tracer)
    assert recorded.events[0].attributes == recorded.links[0].attributes == {"k": 1}


def test_scopes_with_attributes_of_other_types(tracer: Tracer) -> None:
    get = tracer.provider.get_tracer
    assert get("l", attributes={"a": 1}) is get("l", attributes={"a": 1})
    assert get("l", attributes={"a": 1}) is not get("l", attributes={"a": "1"})
    assert get("l", attributes={"a": True}) is not get("l", attributes={"a": 1})


# Beside the API's own propagators.


@pytest.mark.parametrize("with_tracer", [False, True])
def test_after_the_apis_propagators_baggage_goes_on_as_it_came(make_tracer: Make, with_tracer: bool) -> None:
    ours = TracebatonPropagator()
    if with_tracer:
        make_tracer(session_id="own")
    both = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator(), ours])
    context = both.extract(CARRIER, Context())
    out: dict[str, str] = {}
    both.inject(out, context)
    assert out["tracestate"] == CARRIER["tracestate"]
    alone: dict[str, str] = {}
    ours.inject(alone, ours.extract(CARRIER, Context()))
    assert out == alone
    if not with_tracer:
        assert out == CARRIER


def test_before_the_apis_propagators_what_we_write_is_as_it_came(make_tracer: Make) -> None:
    """They read after us, and leave what they made of it in the context."""
    both = CompositePropagator([TracebatonPropagator(), TraceContextTextMapPropagator(), W3CBaggagePropagator()])
    context = both.extract(CARRIER, Context())
    out: dict[str, str] = {}
    TracebatonPropagator().inject(out, context)
    assert out["baggage"] == CARRIER["baggage"]
    assert out == CARRIER


# What is counted.


def test_what_a_propagator_leaves_out_is_counted(tracer: Tracer) -> None:
    propagate.extract({"baggage": "ok=1,no name=2"})
    assert tracer.stats()["inbound_dropped"] == {"B3": 1}

    class Getter(propagate.textmap.Getter[Any]):
        def get(self, carrier: Any, key: str) -> list[str] | None:
            return [carrier[key]] if key in carrier else None

        def keys(self, carrier: Any) -> list[str]:
            return list(carrier)

    propagate.extract({"baggage": "ok=1,no name=2"}, getter=Getter())
    assert tracer.stats()["inbound_dropped"] == {"B3": 2}


def test_what_is_not_sent_is_counted(tracer: Tracer) -> None:
    context = extract_context_from_carrier({"baggage": "ok=1"})
    assert tracer.stats()["outbound_dropped"] == {}
    TracebatonPropagator().inject({"baggage": "no name=2"}, context)
    assert tracer.stats()["outbound_dropped"] == {"B3": 1}


# Exporters that hold spans back.


class Exporter:
    def __init__(self, flushes: Callable[[int], Any]) -> None:
        self.calls: list[str] = []
        self._flushes = flushes

    def export(self, spans: Any) -> Any:
        self.calls.extend(span.name for span in spans)
        return SimpleNamespace(name="SUCCESS")

    def force_flush(self, timeout_millis: int = 30_000) -> Any:
        assert 0 < timeout_millis <= 30_000
        self.calls.append("flush")
        return self._flushes(timeout_millis)

    def shutdown(self) -> None:
        pass


@pytest.mark.parametrize(("answer", "expected"), [(True, True), (None, True), (False, False)])
def test_a_flush_reaches_an_exporter(make_tracer: Make, answer: Any, expected: bool) -> None:
    exporter = Exporter(lambda _: answer)
    tracer = make_tracer(exporter=exporter)
    with tracer.start_span("s"):
        pass
    assert tracer.flush() is expected
    assert exporter.calls == ["s", "flush"]
    assert tracer.flush() is expected
    assert exporter.calls == ["s", "flush", "flush"]
    assert tracer.stats()["sent"] == 1


def test_an_exporters_flush_that_raises(make_tracer: Make, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: int) -> Any:
        raise OSError("x")

    tracer = make_tracer(exporter=Exporter(fail))
    with caplog.at_level(logging.WARNING, logger="tracebaton"):
        assert tracer.flush() is False
    assert "OSError" in caplog.text


def test_an_exporters_flush_that_hangs(make_tracer: Make) -> None:
    go_on = threading.Event()
    tracer = make_tracer(exporter=Exporter(lambda _: go_on.wait(20)))
    assert tracer.flush(50) is False
    go_on.set()
    assert tracer.flush() is True
