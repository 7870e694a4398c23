"""`TracebatonSpanProcessor`: sessions and redaction on the spans of OpenTelemetry's SDK."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult
from tracebaton import Tracer, enrich_span_context, with_distributed_trace_context
from tracebaton.sdk import TracebatonSpanProcessor

Make = Callable[..., Tracer]
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE_ID}-b7ad6b7169203331-01"


class Sdk:
    """A provider of the SDK with our processor, and an exporter of the SDK after it (or before)."""

    def __init__(self, tracer: Tracer | None, ours_last: bool = False, **provider: Any) -> None:
        self.ended = InMemorySpanExporter()
        self.provider = TracerProvider(**provider)
        processors = [TracebatonSpanProcessor(tracer), SimpleSpanProcessor(self.ended)]
        for processor in reversed(processors) if ours_last else processors:
            self.provider.add_span_processor(processor)
        self.tracer = self.provider.get_tracer("t")

    @property
    def only(self) -> ReadableSpan:
        (span,) = self.ended.get_finished_spans()
        return span

    def attributes(self) -> dict[str, Any]:
        return dict(self.only.attributes or {})


ROUTING = {
    "honeyhive.session_id": "own",
    "honeyhive.session_auto_create": True,
    "honeyhive.project": "shop",
    "honeyhive.source": "dev",
    "session.id": "own",
}


def test_the_tracers_own_session(make_tracer: Make) -> None:
    sdk = Sdk(make_tracer())
    sdk.tracer.start_span("s", attributes={"k": 1}).end()
    attributes = sdk.attributes()
    assert attributes.pop("honeyhive.session_name")
    assert attributes == {**ROUTING, "k": 1, "honeyhive_event_type": "tool"}


def test_the_session_of_the_context(make_tracer: Make) -> None:
    tracer = make_tracer()
    for enter, session in (
        (
            lambda: with_distributed_trace_context({"traceparent": CALLER, "baggage": "session_id=theirs"}, tracer),
            "theirs",
        ),
        (lambda: with_distributed_trace_context({}, tracer, session_id="explicit"), "explicit"),
        (lambda: enrich_span_context("block", session_id="blocks", tracer=tracer), "blocks"),
    ):
        sdk = Sdk(tracer)
        with enter():
            sdk.tracer.start_span("s").end()
        assert sdk.attributes()["honeyhive.session_id"] == session
        assert sdk.attributes()["session.id"] == session
    context = with_distributed_trace_context({"baggage": "session_id=given"}, tracer)
    with context as given:
        pass
    sdk = Sdk(tracer)
    sdk.tracer.start_span("s", given).end()
    assert sdk.attributes()["honeyhive.session_id"] == "given"


def test_without_a_tracer_nothing_is_added(make_tracer: Make) -> None:
    sdk = Sdk(None)
    sdk.tracer.start_span("s").end()
    assert sdk.attributes() == {}
    make_tracer()
    sdk.ended.clear()
    sdk.tracer.start_span("s").end()
    assert sdk.attributes()["honeyhive.session_id"] == "own"


def test_a_disabled_tracer_adds_nothing(make_tracer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = make_tracer(disable_tracing=True)
    sdk = Sdk(tracer)
    sdk.tracer.start_span("s").end()
    assert sdk.attributes() == {}


def test_what_the_application_set_holds(make_tracer: Make) -> None:
    sdk = Sdk(make_tracer())
    given = {"session.id": "an instrumentor's", "honeyhive.source": "mine", "honeyhive_event_type": "chain"}
    sdk.tracer.start_span("s", attributes=given).end()
    attributes = sdk.attributes()
    assert attributes.items() >= given.items()
    assert attributes["honeyhive.session_id"] == "own"


@pytest.mark.parametrize("ours_last", [False, True])
def test_the_event_type_is_derived_at_the_end(make_tracer: Make, ours_last: bool) -> None:
    sdk = Sdk(make_tracer(), ours_last)
    with sdk.tracer.start_as_current_span("chat llm") as span:
        assert "honeyhive_event_type" not in (span.attributes or {})  # type: ignore[attr-defined]
        span.set_attribute("openinference.span.kind", "AGENT")
    assert sdk.attributes()["honeyhive_event_type"] == "chain"


@pytest.mark.parametrize("ours_last", [False, True])
def test_secrets_are_replaced(make_tracer: Make, ours_last: bool) -> None:
    sdk = Sdk(make_tracer(), ours_last)
    span = sdk.tracer.start_span("s", attributes={"http.request.header.authorization": ["Bearer x"], "api_key": "k"})
    span.set_attribute("user.password", "late")
    span.set_attribute("token_count", "12")
    span.set_attribute("max_token", 12)
    span.end()
    attributes = sdk.attributes()
    assert attributes["http.request.header.authorization"] == ("[redacted]",)
    assert attributes["api_key"] == attributes["user.password"] == "[redacted]"
    assert (attributes["token_count"], attributes["max_token"]) == ("12", 12)


def test_redaction_can_be_off(make_tracer: Make) -> None:
    sdk = Sdk(make_tracer(redact=False))
    sdk.tracer.start_span("s", attributes={"password": "x"}).end()
    assert sdk.attributes()["password"] == "x"


def test_a_limit_does_not_push_the_session_out(make_tracer: Make) -> None:
    sdk = Sdk(make_tracer(), span_limits=SpanLimits(max_span_attributes=20))
    span = sdk.tracer.start_span("s")
    for i in range(100):
        span.set_attribute(f"k{i}", i)
    span.end()
    attributes = sdk.attributes()
    assert attributes.items() >= ROUTING.items()
    assert attributes["honeyhive_event_type"] == "tool"
    assert attributes["k99"] == 99
    assert len(attributes) == 20


@pytest.mark.parametrize("limit", [1, 4, 7, 8, 20])
def test_of_what_routes_a_span_the_session_goes_last(make_tracer: Make, limit: int) -> None:
    sdk = Sdk(make_tracer(), span_limits=SpanLimits(max_span_attributes=limit))
    span = sdk.tracer.start_span("s", attributes={"first": 0})
    for i in range(limit):
        span.set_attribute(f"k{i}", i)
    span.end()
    attributes = sdk.attributes()
    assert attributes["honeyhive.session_id"] == "own"
    assert len(attributes) == limit
    if limit > 1:
        assert attributes["honeyhive.session_auto_create"] is True


@pytest.mark.parametrize("limit", [5, 8, 128])
def test_a_secret_from_baggage_is_one(make_tracer: Make, limit: int) -> None:
    tracer = make_tracer(policy={"baggage_attributes": ["password"]})
    sdk = Sdk(tracer, span_limits=SpanLimits(max_span_attributes=limit))
    with with_distributed_trace_context({"baggage": "password=hunter2"}, tracer):
        span = sdk.tracer.start_span("s")
    for i in range(7):
        span.set_attribute(f"k{i}", i)
    span.end()
    assert "hunter2" not in str(sdk.attributes())
    assert sdk.attributes()["honeyhive.session_id"] == "own"


class Closing(SpanProcessor):
    """What SDKs from 1.45 on do before processors see the end of a span."""

    def _on_ending(self, span: Any) -> None:
        span._attributes._immutable = True


@pytest.mark.parametrize("late", [False, True])
def test_a_span_whose_attributes_are_closed(make_tracer: Make, late: bool) -> None:
    tracer = make_tracer()
    provider, ended = TracerProvider(span_limits=SpanLimits(max_span_attributes=12)), InMemorySpanExporter()
    processors = [Closing(), TracebatonSpanProcessor(tracer), SimpleSpanProcessor(ended)]
    if not late:
        for processor in processors:
            provider.add_span_processor(processor)
    span = provider.get_tracer("t").start_span("s", attributes={"password": "hunter2", "api_key": ["k"]})
    if late:
        for processor in processors:
            provider.add_span_processor(processor)
    for i in range(4):
        span.set_attribute(f"k{i}", i)
    span.end()
    attributes: Any = ended.get_finished_spans()[0].attributes
    assert "hunter2" not in str(attributes)
    assert attributes["honeyhive_event_type"] == "tool"
    if late:
        assert (attributes["password"], attributes["api_key"]) == ("[redacted]", ("[redacted]",))
    else:
        assert attributes["honeyhive.session_id"] == "own"
    if hasattr(SpanProcessor, "_on_ending"):
        assert ended.get_finished_spans()[0]._attributes._immutable, "it is closed again"  # type: ignore[union-attr]


class Kept(dict[str, Any]):
    """A collection as no SDK has one yet: it takes no change, and says so or does not."""

    _immutable = False
    raises = True

    def __setitem__(self, key: str, value: Any) -> None:
        if self.raises:
            raise RuntimeError("x")


@pytest.mark.parametrize("raises", [True, False])
def test_a_secret_that_cannot_be_replaced_does_not_leave(
    make_tracer: Make, raises: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class Strange(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            kept = Kept(span._attributes)
            kept.raises = raises
            span._attributes = kept

    provider, ended = TracerProvider(), InMemorySpanExporter()
    for processor in (Strange(), TracebatonSpanProcessor(make_tracer()), SimpleSpanProcessor(ended)):
        provider.add_span_processor(processor)
    with caplog.at_level(logging.WARNING, logger="tracebaton"):
        provider.get_tracer("t").start_span("s", attributes={"password": "hunter2"}).end()
    (span,) = ended.get_finished_spans()
    assert "hunter2" not in str(dict(span.attributes or {}))
    assert "could not be completed" in caplog.text


def test_attributes_from_baggage_as_the_policy_has_it(make_tracer: Make) -> None:
    tracer = make_tracer(policy={"baggage_attributes": ["user"]})
    sdk = Sdk(tracer)
    with with_distributed_trace_context({"baggage": "user=amelie,other=x"}, tracer):
        sdk.tracer.start_span("s").end()
    assert sdk.attributes()["user"] == "amelie"
    assert "other" not in sdk.attributes()
    sdk.ended.clear()
    token = otel_context.attach(baggage.set_baggage("user", "here"))
    sdk.tracer.start_span("s").end()
    otel_context.detach(token)
    assert sdk.attributes()["user"] == "here"


def test_a_restarted_trace_links_to_its_caller(make_tracer: Make) -> None:
    tracer = make_tracer(policy={"inbound": "restart"})
    sdk = Sdk(tracer)
    with with_distributed_trace_context({"traceparent": CALLER, "baggage": "session_id=theirs"}, tracer):
        sdk.tracer.start_span("s").end()
    assert sdk.only.parent is None
    (link,) = sdk.only.links
    assert otel_trace.format_trace_id(link.context.trace_id) == TRACE_ID
    assert sdk.attributes()["honeyhive.session_id"] == "theirs"


def test_two_tracers_two_providers(make_tracer: Make) -> None:
    one, other = Sdk(make_tracer(session_id="1")), Sdk(make_tracer(session_id="2", project="other"))
    with one.tracer.start_as_current_span("s"):
        other.tracer.start_span("s").end()
    assert one.attributes()["honeyhive.session_id"] == "1"
    assert other.attributes()["honeyhive.session_id"] == "2"
    assert other.attributes()["honeyhive.project"] == "other"


def test_spans_of_both_kinds_are_one_tree(make_tracer: Make) -> None:
    tracer = make_tracer()
    sdk = Sdk(tracer)
    with tracer.start_span("ours") as outer:
        with sdk.tracer.start_as_current_span("theirs"):
            with tracer.start_span("inner") as inner:
                pass
    assert sdk.only.parent is not None
    assert sdk.only.parent.span_id == outer.get_span_context().span_id
    context = sdk.only.get_span_context()
    assert context is not None
    assert inner.parent is not None
    assert inner.parent.span_id == context.span_id


def test_unsampled_spans_are_left_alone(make_tracer: Make) -> None:
    called: list[Any] = []

    class Exporter(SpanExporter):
        def export(self, spans: Any) -> Any:
            called.append(spans)

    class RecordOnly(Sampler):
        def should_sample(self, *_: Any, **__: Any) -> SamplingResult:
            return SamplingResult(Decision.RECORD_ONLY)

        def get_description(self) -> str:
            return "records, and sends nothing"

    for sampler in (ALWAYS_OFF, RecordOnly()):
        provider = TracerProvider(sampler=sampler)
        provider.add_span_processor(TracebatonSpanProcessor(make_tracer(), exporter=Exporter()))
        provider.get_tracer("t").start_span("s").end()
    assert called == []


def test_trouble_of_an_exporter_stays_out_of_the_program(make_tracer: Make, caplog: pytest.LogCaptureFixture) -> None:
    class Exporter(SpanExporter):
        def export(self, spans: Any) -> Any:
            raise OSError("x")

    provider = TracerProvider()
    provider.add_span_processor(TracebatonSpanProcessor(make_tracer(), exporter=Exporter()))
    with caplog.at_level(logging.WARNING, logger="tracebaton"):
        provider.get_tracer("t").start_span("s").end()
    assert len(caplog.records) == 1
    assert provider.force_flush()
    provider.shutdown()


def test_a_wrong_tracer_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="tracer"):
        TracebatonSpanProcessor(3)  # type: ignore[arg-type]


def test_a_session_is_registered_at_its_first_span(make_tracer: Make, collector: Any) -> None:
    tracer = make_tracer(exporter=None, api_key="key", server_url=collector.url)
    provider = TracerProvider()
    provider.add_span_processor(TracebatonSpanProcessor(tracer))
    assert collector.requests == []
    provider.get_tracer("t").start_span("s").end()
    collector.wait(lambda: any(request.path.endswith("/session/start") for request in collector._requests))
