"""Sampler objects of OpenTelemetry's SDK, given as `sampler=`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace as otel_trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, TraceState
from recorded import only_span_of, spans_of
from tracebaton import Tracer, with_distributed_trace_context

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"
Make = Callable[..., Tracer]


class Recording(Sampler):
    """Remembers what it was asked, and answers as it is told."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []

    def should_sample(
        self,
        parent_context: Any,
        trace_id: int,
        name: str,
        kind: Any = None,
        attributes: Any = None,
        links: Any = None,
        trace_state: Any = None,
    ) -> Any:
        asked = {"context": parent_context, "trace_id": trace_id, "name": name, "kind": kind}
        self.asked.append({**asked, "attributes": attributes, "links": links})
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def get_description(self) -> str:
        return "Recording"


@pytest.mark.parametrize(("sampler", "recorded"), [(ALWAYS_ON, 1), (ALWAYS_OFF, 0), (TraceIdRatioBased(1.0), 1)])
def test_the_sdks_samplers(make_tracer: Make, sampler: Sampler, recorded: int) -> None:
    tracer = make_tracer(sampler=sampler)
    assert tracer.provider.sampler is sampler
    with tracer.start_span("s", attributes={"a": 1}) as span:
        assert span.is_recording() is bool(recorded)
        assert span.get_span_context().trace_flags.sampled is bool(recorded)
    assert [span.attributes["a"] for span in spans_of(tracer)] == [1] * recorded
    assert tracer.stats()["not_sampled"] == 1 - recorded


@pytest.mark.parametrize("flag", ["0", "1"])
def test_parent_based(make_tracer: Make, flag: str) -> None:
    tracer = make_tracer(sampler=ParentBased(ALWAYS_OFF))
    headers = {"traceparent": CALLER + flag, "tracestate": "9key@x=v , a=1"}
    with with_distributed_trace_context(headers, tracer), tracer.start_span("s"), tracer.start_span("child"):
        pass
    with tracer.start_span("root"):
        pass
    spans = spans_of(tracer)
    assert [span.name for span in spans] == (["child", "s"] if flag == "1" else [])
    assert {span.trace_state for span in spans} <= {"9key@x=v , a=1"}


def test_what_it_is_asked(make_tracer: Make) -> None:
    sampler = Recording(SamplingResult(Decision.RECORD_AND_SAMPLE))
    tracer = make_tracer(sampler=sampler)
    link = Link(SpanContext(5, 6, True, TraceFlags(1)))
    otel = tracer.provider.get_tracer("i")
    with with_distributed_trace_context({"traceparent": CALLER + "1"}, tracer):
        otel.start_span("s", kind=SpanKind.CLIENT, attributes={"a": 1}, links=iter([link])).end()
    (asked,) = sampler.asked
    assert otel_trace.get_current_span(asked["context"]).get_span_context().span_id == 0xB7AD6B7169203331
    assert (f"{asked['trace_id']:032x}", asked["name"], asked["kind"]) == (CALLER[3:35], "s", SpanKind.CLIENT)
    assert (asked["attributes"], list(asked["links"])) == ({"a": 1}, [link])
    span = only_span_of(tracer)
    assert f"{asked['trace_id']:032x}" == span.trace_id
    assert (span.attributes["a"], len(span.links)) == (1, 1)


def test_what_it_adds(make_tracer: Make) -> None:
    state = TraceState([("rate", "10")])
    sampler = Recording(SamplingResult(Decision.RECORD_AND_SAMPLE, {"by sampler": True, "a": 2}, state))
    tracer = make_tracer(sampler=sampler)
    with tracer.start_span("s", attributes={"a": 1, "b": 1}) as span:
        assert span.get_span_context().trace_state.get("rate") == "10"
    span = only_span_of(tracer)
    assert {key: span.attributes[key] for key in ("a", "b", "by sampler")} == {"a": 2, "b": 1, "by sampler": True}
    assert span.trace_state == "rate=10"


def test_recorded_for_processors_only(make_tracer: Make) -> None:
    tracer = make_tracer(sampler=Recording(SamplingResult(Decision.RECORD_ONLY)))
    seen: list[str] = []

    class Seeing:
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            pass

        def on_end(self, span: Any) -> None:
            seen.append(span.name)

        def shutdown(self) -> None:
            pass

    exporter = InMemorySpanExporter()
    tracer.provider.add_span_processor(Seeing())
    tracer.provider.add_span_processor(SimpleSpanProcessor(exporter))
    with tracer.start_span("s") as span:
        assert span.is_recording()
        assert not span.get_span_context().trace_flags.sampled
    assert seen == ["s"]
    assert spans_of(tracer) == []
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize("answer", [ValueError("mine"), None, 5, SamplingResult(None)], ids=repr)  # type: ignore[arg-type]
def test_a_sampler_that_fails_costs_no_span(make_tracer: Make, answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    tracer = make_tracer(sampler=Recording(answer))
    with tracer.start_span("s"):
        pass
    assert only_span_of(tracer).name == "s"
    assert "mine" not in caplog.text
    caplog.clear()  # said once, as a warning


def test_ctrl_c_in_a_sampler_or_processor(make_tracer: Make) -> None:
    tracer = make_tracer(sampler=Recording(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        tracer.provider.get_tracer("i").start_span("s")

    class Interrupted:
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            pass

        def on_end(self, span: Any) -> None:
            raise KeyboardInterrupt

        def shutdown(self) -> None:
            pass

    tracer = make_tracer()
    tracer.provider.add_span_processor(Interrupted())
    span = tracer.provider.get_tracer("i").start_span("s")
    with pytest.raises(KeyboardInterrupt):
        span.end()
    assert only_span_of(tracer).name == "s"


def test_what_is_no_sampler_is_named(make_tracer: Make) -> None:
    with pytest.raises(TypeError, match="sampler"):
        make_tracer(sampler=5)
