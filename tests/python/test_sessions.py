"""Sessions, and two tracers in one process, which never meet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.sdk.trace import TracerProvider as SdkProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_span_id, format_trace_id
from recorded import IS_REMOTE, by_name, only_span_of, spans_of
from tracebaton import (
    TracebatonPropagator,
    Tracer,
    enrich_span_context,
    extract_context_from_carrier,
    inject_context_into_carrier,
    trace,
    with_distributed_trace_context,
)

Make = Callable[..., Tracer]
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"


@pytest.mark.parametrize("key", ["session_id", "honeyhive_session_id", "honeyhive.session_id"])
def test_the_callers_session_holds_inside(tracer: Tracer, key: str) -> None:
    with with_distributed_trace_context({"traceparent": CALLER, "baggage": f"{key}=theirs"}):
        with tracer.start_span("inside"):
            pass
    with tracer.start_span("outside"):
        pass
    spans = by_name(spans_of(tracer))
    assert (spans["inside"].session, spans["outside"].session) == ("theirs", "own")
    assert spans["inside"].attributes["session.id"] == "theirs"
    assert tracer.session_id == "own"


def test_keys_in_the_order_of_preference(tracer: Tracer) -> None:
    carrier = {"baggage": "session_id=3,honeyhive_session_id=2,honeyhive.session_id=1,session_id=4"}
    with with_distributed_trace_context(carrier), tracer.start_span("work"):
        pass
    assert only_span_of(tracer).session == "1"


@pytest.mark.parametrize(
    ("raw", "session"),
    [
        ("a%2Db", "a-b"),
        ("a%252Db", "a%2Db"),
        ("a+b", "a+b"),
        ("S4;ttl=5", "S4"),
        ("n%C3%A4h", "näh"),
        ("a%FFb", "a\ufffdb"),
    ],
)
def test_a_session_is_decoded_exactly_once(tracer: Tracer, raw: str, session: str) -> None:
    with with_distributed_trace_context({"baggage": f"session_id={raw}"}), tracer.start_span("work"):
        pass
    assert only_span_of(tracer).session == session


@pytest.mark.parametrize("raw", ["", "x" * 257])
def test_what_is_no_session_is_dropped(tracer: Tracer, raw: str) -> None:
    with with_distributed_trace_context({"baggage": f"session_id={raw}"}), tracer.start_span("work"):
        pass
    assert only_span_of(tracer).session == "own"


def test_project_is_taken_and_source_is_not(tracer: Tracer) -> None:
    carrier = {"baggage": "session_id=theirs,project=theirs,source=theirs,honeyhive.source=theirs"}
    with with_distributed_trace_context(carrier):
        with tracer.start_span("work"):
            headers = inject_context_into_carrier({})
    span = only_span_of(tracer)
    assert (span.session, span.project, span.source) == ("theirs", "theirs", "dev")
    assert headers["baggage"] == "session_id=theirs,project=theirs,source=dev"


def test_an_explicit_session_wins(tracer: Tracer) -> None:
    carrier = {"traceparent": CALLER, "baggage": "session_id=theirs"}
    with with_distributed_trace_context(carrier, session_id="explicit"):
        with tracer.start_span("work"):
            headers = inject_context_into_carrier({})
    assert only_span_of(tracer).session == "explicit"
    assert only_span_of(tracer).trace_id == TRACE_ID
    assert "session_id=explicit" in headers["baggage"]
    assert "theirs" not in headers["baggage"]


def test_the_innermost_session_wins(tracer: Tracer) -> None:
    @trace(session_id="decorated")
    def decorated() -> None:
        with with_distributed_trace_context({"baggage": "session_id=inner"}), tracer.start_span("inner"):
            pass
        with tracer.start_span("again"):
            pass

    with with_distributed_trace_context({"baggage": "session_id=outer"}):
        decorated()
        with enrich_span_context("block", session_id="blocks"):
            pass
        with tracer.start_span("last"):
            pass
    sessions = {name: span.session for name, span in by_name(spans_of(tracer)).items()}
    name = next(name for name in sessions if "decorated" in name)
    assert sessions == {"inner": "inner", "again": "decorated", name: "decorated", "block": "blocks", "last": "outer"}


def test_a_session_that_is_too_long_is_refused_before_anything_runs(tracer: Tracer) -> None:
    with pytest.raises(ValueError, match="session_id"):
        trace(session_id="x" * 257)
    with pytest.raises(ValueError, match="session_id"):
        enrich_span_context("block", session_id="x" * 257)
    assert spans_of(tracer) == []


def test_the_callers_session_has_no_name_of_ours(make_tracer: Make) -> None:
    tracer = make_tracer(session_name="mine")
    with with_distributed_trace_context({"baggage": "session_id=theirs"}), tracer.start_span("work"):
        pass
    assert "honeyhive.session_name" not in only_span_of(tracer).attributes


def test_session_id_of_an_instrumentor_stays(tracer: Tracer) -> None:
    with tracer.start_span("work", attributes={"session.id": "instrumentors"}) as span:
        assert span.attributes["session.id"] == "instrumentors"
    attributes = only_span_of(tracer).attributes
    assert attributes["session.id"] == "instrumentors"
    assert attributes["honeyhive.session_id"] == "own"


async def test_concurrent_requests_have_their_own_sessions(tracer: Tracer) -> None:
    @trace
    async def step(number: int) -> dict[str, str]:
        await asyncio.sleep(0)
        with enrich_span_context("inner"):
            await asyncio.sleep(0)
            return inject_context_into_carrier({})

    async def serve(number: int) -> None:
        async with with_distributed_trace_context({"baggage": f"session_id=s{number}"}):
            headers = await step(number)
            assert headers["baggage"].startswith(f"session_id=s{number},")

    await asyncio.gather(*(serve(number) for number in range(50)))
    spans = spans_of(tracer)
    assert len(spans) == 100
    steps = {span.span_id: span for span in spans if span.name != "inner"}
    for inner in (span for span in spans if span.name == "inner"):
        assert steps[inner.parent_id].session == inner.session
    assert {span.session for span in spans} == {f"s{number}" for number in range(50)}


def test_two_tracers_are_never_parents_of_each_other(make_tracer: Make) -> None:
    one, other = make_tracer(session_id="one"), make_tracer(session_id="other")
    with one.start_span("one"), other.start_span("other"), one.start_span("one inside"):
        with other.start_span("other inside"):
            pass
    ones, others = by_name(spans_of(one)), by_name(spans_of(other))
    assert ones["one"].parent_id == others["other"].parent_id == ""
    assert ones["one inside"].parent_id == ones["one"].span_id
    assert others["other inside"].parent_id == others["other"].span_id
    assert ones["one"].trace_id != others["other"].trace_id
    assert {span.session for span in ones.values()} == {"one"}
    assert {span.session for span in others.values()} == {"other"}


def test_two_tracers_never_see_each_others_sessions(make_tracer: Make) -> None:
    one, other = make_tracer(session_id="one"), make_tracer(session_id="other")
    carrier = {"traceparent": CALLER, "baggage": "session_id=theirs,project=theirs"}
    with with_distributed_trace_context(carrier, one):
        with one.start_span("one"), other.start_span("other"):
            headers = inject_context_into_carrier({}, other)
    assert only_span_of(one).session == "theirs"
    assert only_span_of(other).session == "other"
    assert only_span_of(other).project == "shop"
    assert "session_id=other" in headers["baggage"]
    assert "theirs" not in headers["baggage"]


def test_inject_for_a_tracer_whose_span_is_not_the_current_one(make_tracer: Make) -> None:
    one, other = make_tracer(session_id="one"), make_tracer(session_id="other")
    with one.start_span("one"), other.start_span("other"):
        headers = inject_context_into_carrier({}, one)
    # A span of the other tracer is never the parent of spans of this one, here or at the next service.
    assert only_span_of(one).span_id in headers["traceparent"]
    assert "session_id=one" in headers["baggage"]


def test_an_inbound_span_is_the_parent_for_the_tracer_that_took_it_in_only(make_tracer: Make) -> None:
    one, other = make_tracer(), make_tracer()
    with with_distributed_trace_context({"traceparent": CALLER}, one):
        with one.start_span("one"):
            pass
    with with_distributed_trace_context({"traceparent": CALLER}, one):
        with other.start_span("other") as span:
            assert span.get_span_context().is_valid
    assert only_span_of(one).parent_id == SPAN_ID
    assert only_span_of(one).flags & IS_REMOTE


def test_what_a_propagator_took_in_is_every_tracers(make_tracer: Make) -> None:
    one, other = make_tracer(session_id="one"), make_tracer(session_id="other")
    context = TracebatonPropagator().extract({"traceparent": CALLER, "baggage": "session_id=theirs"})
    token = otel_context.attach(context)
    with one.start_span("one"):
        pass
    with other.start_span("other"):
        pass
    otel_context.detach(token)
    for tracer in (one, other):
        assert (only_span_of(tracer).session, only_span_of(tracer).parent_id) == ("theirs", SPAN_ID)


def test_extraction_for_one_tracer_says_nothing_to_the_other(make_tracer: Make) -> None:
    one, other = make_tracer(session_id="one"), make_tracer(session_id="other")
    token = otel_context.attach(extract_context_from_carrier({"baggage": "session_id=theirs"}, one))
    with other.start_span("other"):
        pass
    otel_context.detach(token)
    assert only_span_of(other).session == "other"
    assert spans_of(one) == []


def test_a_span_of_the_sdk_is_parent_and_child(tracer: Tracer) -> None:
    exporter = InMemorySpanExporter()
    provider = SdkProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    sdk = provider.get_tracer("sdk")
    with sdk.start_as_current_span("root"), tracer.start_span("ours") as ours:
        with sdk.start_as_current_span("leaf") as leaf:
            assert leaf.parent == ours.get_span_context()
            with tracer.start_span("ours again"):
                pass
    sdks = {span.name: span for span in exporter.get_finished_spans()}
    spans = by_name(spans_of(tracer))
    assert {span.trace_id for span in spans.values()} == {format_trace_id(sdks["root"].context.trace_id)}
    assert spans["ours"].parent_id == format_span_id(sdks["root"].context.span_id)
    assert not spans["ours"].flags & IS_REMOTE
    assert format_span_id(sdks["leaf"].parent.span_id) == spans["ours"].span_id
    assert spans["ours again"].parent_id == format_span_id(sdks["leaf"].context.span_id)
    assert sdks["leaf"].context.trace_state == ours.get_span_context().trace_state


def test_a_span_of_the_sdk_that_is_not_sampled_is_obeyed(make_tracer: Make) -> None:
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    tracer, always = make_tracer(), make_tracer(sampler="always_on")
    with SdkProvider(sampler=ALWAYS_OFF).get_tracer("sdk").start_as_current_span("root"):
        with tracer.start_span("left out"), always.start_span("kept"):
            pass
    assert spans_of(tracer) == []
    assert tracer.stats()["not_sampled"] == 1
    assert len(spans_of(always)) == 1


def test_not_sampled_is_warned_of_once_with_the_way_out(tracer: Tracer, caplog: pytest.LogCaptureFixture) -> None:
    with with_distributed_trace_context({"traceparent": CALLER[:-2] + "00"}):
        for _ in range(3):
            with tracer.start_span("left out") as span:
                assert not span.is_recording()
                assert inject_context_into_carrier({})["traceparent"].endswith("-00")
    assert tracer.stats()["not_sampled"] == 3
    assert [message for message in caplog.messages if 'sampler="always_on"' in message] == caplog.messages
    assert len(caplog.messages) == 1


def test_baggage_alone_does_not_choose_a_session(tracer: Tracer) -> None:
    # The application's own baggage is the application's: only what a carrier brought in is a caller's session.
    token = otel_context.attach(baggage.set_baggage("user", "u 1"))
    with tracer.start_span("work"):
        headers = inject_context_into_carrier({})
    otel_context.detach(token)
    assert only_span_of(tracer).session == "own"
    assert headers["baggage"] == "session_id=own,project=shop,source=dev,user=u%201"


def test_no_span_is_current_in_another_tracers_eyes(make_tracer: Make) -> None:
    one, other = make_tracer(), make_tracer()
    with one.start_span("one"):
        assert other.enrich_span(metadata={"a": 1}) is False
        assert one.enrich_span(metadata={"a": 1}) is True
        with other.start_span("other"):
            assert one.enrich_span(metadata={"b": 2}) is True
            assert other.enrich_span(metadata={"c": 3}) is True
    assert only_span_of(one).under("metadata") == {"a": 1, "b": 2}
    assert only_span_of(other).under("metadata") == {"c": 3}


def test_the_current_span_is_opentelemetrys_current_span(tracer: Tracer) -> None:
    with tracer.start_span("work") as span:
        assert otel_trace.get_current_span() is span
    assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN
