"""A span's own life: what can be set, what counts, what is read, and that its end is the end."""

from __future__ import annotations

import time
from typing import Any

import pytest
from opentelemetry import trace as otel_trace
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from recorded import HAS_IS_REMOTE, IS_REMOTE, by_name, only_span_of, spans_of
from tracebaton import Span, Tracer, with_distributed_trace_context

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def span(tracer: Tracer) -> Span:
    return tracer.provider.get_tracer("i").start_span("s", kind=SpanKind.CLIENT, attributes={"a": 1})


def test_what_instrumentors_read(span: Any) -> None:
    assert span.name == "s"
    assert span.kind is SpanKind.CLIENT
    assert span.attributes["a"] == 1
    assert span.attributes.get("b") is None
    assert span.attributes["honeyhive.session_id"] == "own"
    assert span._attributes["a"] == 1
    assert span.status.status_code is StatusCode.UNSET
    assert span.status.is_unset
    assert tuple(span.events) == ()
    assert tuple(span.links) == ()
    assert isinstance(span.start_time, int)
    assert span.end_time is None
    assert span.parent is None
    assert span.context is span.get_span_context()
    assert span.resource.attributes["telemetry.sdk.language"] == "python"
    assert span.instrumentation_scope.name == "i"
    assert (span.dropped_attributes, span.dropped_events, span.dropped_links) == (0, 0, 0)
    with pytest.raises(TypeError):
        span.attributes["a"] = 2


def test_what_is_read_after_the_end(span: Any, tracer: Tracer) -> None:
    span.add_event("event", {"k": 1}, 17)
    span.set_status(StatusCode.ERROR, "bad")
    span.end()
    assert span.name == "s"
    assert span.attributes["a"] == 1
    assert span._attributes["a"] == 1
    assert span.end_time >= span.start_time
    assert (span.events[0].name, dict(span.events[0].attributes), span.events[0].timestamp) == ("event", {"k": 1}, 17)
    assert span.status.description == "bad"


def test_the_parent_that_is_read(tracer: Tracer) -> None:
    with tracer.start_span("outer") as outer, tracer.start_span("inner") as inner:
        assert inner.parent == outer.get_span_context()
        assert inner.parent.is_remote is False
    with with_distributed_trace_context({"traceparent": CALLER}), tracer.start_span("inner") as inner:
        assert inner.parent.span_id == 0xB7AD6B7169203331
        assert inner.parent.is_remote is True


def test_end_twice(span: Any, tracer: Tracer) -> None:
    span.end(2_000_000_000_000_000_000)
    span.end()
    span.end(3_000_000_000_000_000_000)
    assert only_span_of(tracer).end_ns == 2_000_000_000_000_000_000


def test_nothing_changes_after_the_end(span: Any, tracer: Tracer) -> None:
    span.end()
    span.set_attribute("late", 1)
    span.set_attributes({"late": 1})
    span.add_event("late")
    span.add_link(span.get_span_context())
    span.update_name("late")
    span.set_status(StatusCode.ERROR, "late")
    span.record_exception(ValueError("late"))
    assert not span.is_recording()
    assert span.name == "s"
    assert "late" not in str(span.attributes)
    assert "late" not in str(only_span_of(tracer))


@pytest.mark.parametrize(
    ("steps", "code", "message"),
    [
        ([], 0, ""),
        ([(StatusCode.OK, None)], 1, ""),
        ([(StatusCode.ERROR, "bad")], 2, "bad"),
        ([(StatusCode.ERROR, "bad"), (StatusCode.OK, None)], 1, ""),
        ([(StatusCode.OK, None), (StatusCode.ERROR, "bad")], 1, ""),
        ([(StatusCode.ERROR, "bad"), (StatusCode.UNSET, None)], 2, "bad"),
        ([(StatusCode.ERROR, "bad"), (StatusCode.ERROR, "worse")], 2, "worse"),
        ([(StatusCode.OK, "ignored")], 1, ""),
        ([(Status(StatusCode.ERROR, "bad"), None)], 2, "bad"),
        ([(Status(StatusCode.OK), None)], 1, ""),
        ([(StatusCode.UNSET, "ignored")], 0, ""),
        ([(StatusCode.ERROR, None)], 2, ""),
    ],
)
def test_status(span: Any, tracer: Tracer, steps: list[tuple[Any, Any]], code: int, message: str) -> None:
    for status, description in steps:
        if description is None:
            span.set_status(status)
        else:
            span.set_status(status, description)
    assert (span.status.status_code.value, span.status.description or "") == (code, message)
    span.end()
    assert (only_span_of(tracer).status, only_span_of(tracer).message) == (code, message)


def test_ok_stays_when_an_exception_leaves(tracer: Tracer) -> None:
    with pytest.raises(ValueError, match="x"), tracer.start_span("s") as span:
        span.set_status(StatusCode.OK)
        raise ValueError("x")
    assert only_span_of(tracer).status == 1


@pytest.mark.parametrize("wrong", [5, "ERROR", None, object()], ids=lambda it: type(it).__name__)
def test_a_status_of_another_type_changes_nothing(span: Any, tracer: Tracer, wrong: Any) -> None:
    span.set_status(wrong)
    span.end()
    assert only_span_of(tracer).status == 0


def test_events(span: Any, tracer: Tracer) -> None:
    before = time.time_ns()
    span.add_event("now", {"a": [1, 2], "b": None})
    span.add_event("then", None, 17)
    span.add_event("named", attributes={}, timestamp=18)
    span.end()
    now, then, named = only_span_of(tracer).events
    assert (now.name, now.attributes) == ("now", {"a": [1, 2]})
    assert abs(now.time_ns - before) < 60 * 10**9
    assert (then.time_ns, then.attributes, named.time_ns) == (17, {}, 18)


def test_record_exception(span: Any, tracer: Tracer) -> None:
    class Mine(Exception):
        pass

    try:
        raise Mine("text")
    except Mine as error:
        span.record_exception(error, attributes={"k": 1, "exception.message": "mine"}, timestamp=5, escaped=True)
    span.end()
    (event,) = only_span_of(tracer).exceptions
    assert event.time_ns == 5
    assert event.attributes["exception.type"].endswith("Mine")
    assert event.attributes["exception.message"] == "mine"
    assert event.attributes["exception.escaped"] == "True"
    assert "raise Mine" in event.attributes["exception.stacktrace"]
    assert event.attributes["k"] == 1
    assert only_span_of(tracer).status == 0


def context_of(trace_id: int, span_id: int, *, remote: bool = True, flags: int = 1, state: str = "") -> SpanContext:
    return SpanContext(trace_id, span_id, remote, TraceFlags(flags), TraceState.from_header([state] if state else []))


def test_links(span: Any, tracer: Tracer) -> None:
    span.add_link(context_of(5, 6, flags=3, state="a=1,b=2"), {"k": "v"})
    span.add_link(context_of(7, 8, remote=False))
    span.end()
    remote, local = only_span_of(tracer).links
    assert (remote.trace_id, remote.span_id) == (f"{5:032x}", f"{6:016x}")
    assert (remote.trace_state, remote.attributes) == ("a=1,b=2", {"k": "v"})
    assert remote.flags == 0x03 | HAS_IS_REMOTE | IS_REMOTE
    assert local.flags == 0x01 | HAS_IS_REMOTE
    assert [link.context.span_id for link in span.links] == [6, 8]
    assert dict(span.links[0].attributes) == {"k": "v"}


def test_links_at_the_start(tracer: Tracer) -> None:
    tracer.provider.get_tracer("i").start_span("s", links=iter([Link(context_of(5, 6))])).end()  # type: ignore[arg-type]
    assert len(only_span_of(tracer).links) == 1


def test_a_link_that_names_nothing_and_says_nothing(span: Any, tracer: Tracer) -> None:
    span.add_link(otel_trace.INVALID_SPAN_CONTEXT)
    span.end()
    assert only_span_of(tracer).links == []


def test_flags_of_a_span_and_its_parent(tracer: Tracer) -> None:
    with tracer.start_span("root"), tracer.start_span("child"):
        pass
    with with_distributed_trace_context({"traceparent": CALLER}), tracer.start_span("served"):
        pass
    flags = {name: span.flags for name, span in by_name(spans_of(tracer)).items()}
    assert flags["root"] == flags["child"] == 0x03 | HAS_IS_REMOTE
    # The caller did not say that its ids are random, and we cannot know.
    assert flags["served"] == 0x01 | HAS_IS_REMOTE | IS_REMOTE


def test_times(tracer: Tracer) -> None:
    before = time.time_ns()
    with tracer.start_span("s", start_time=None) as span:
        pass
    after = time.time_ns()
    recorded = only_span_of(tracer)
    slack = 10**9  # the wall clock may be set meanwhile
    assert before - slack <= recorded.start_ns <= recorded.end_ns <= after + slack
    assert (span.start_time, span.end_time) == (recorded.start_ns, recorded.end_ns)


def test_durations_do_not_depend_on_the_wall_clock(tracer: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    with tracer.start_span("outer"):
        monkeypatch.setattr(time, "time_ns", lambda: 0)
        monkeypatch.setattr(time, "time", lambda: 0.0)
        with tracer.start_span("inner"):
            pass
    spans = by_name(spans_of(tracer))
    outer, inner = spans["outer"], spans["inner"]
    assert outer.start_ns <= inner.start_ns <= inner.end_ns <= outer.end_ns


@pytest.mark.parametrize("when", [0, 1, 2**63 - 1, 2**64 - 1])
def test_times_that_are_given(tracer: Tracer, when: int) -> None:
    tracer.provider.get_tracer("i").start_span("s", start_time=when).end(when)
    assert (only_span_of(tracer).start_ns, only_span_of(tracer).end_ns) == (when, when)


def test_an_end_before_the_start_is_the_start(tracer: Tracer) -> None:
    tracer.provider.get_tracer("i").start_span("s", start_time=10).end(5)
    assert (only_span_of(tracer).start_ns, only_span_of(tracer).end_ns) == (10, 10)


@pytest.mark.parametrize("wrong", ["now", -1, 2**64, 1.5], ids=repr)
def test_a_time_that_is_none_loses_no_span(tracer: Tracer, wrong: Any) -> None:
    """A wrong argument is a TypeError or ValueError; the span itself can still be ended."""
    span = tracer.provider.get_tracer("i").start_span("s")
    try:
        span.end(wrong)
    except (TypeError, ValueError, OverflowError):
        assert span.is_recording()
        span.end()
    assert only_span_of(tracer).name == "s"


def test_ids_are_unique(tracer: Tracer) -> None:
    import random

    otel = tracer.provider.get_tracer("i")
    seen = set()
    for _ in range(2_000):
        random.seed(42)
        context = otel.start_span("s").get_span_context()
        seen.add((context.trace_id, context.span_id))
    assert len({trace_id for trace_id, _ in seen}) == len({span_id for _, span_id in seen}) == 2_000


def test_a_span_that_is_not_sampled_has_a_context_and_nothing_else(make_tracer: Any) -> None:
    tracer = make_tracer(sampler="always_off")
    with tracer.start_span("s", attributes={"a": 1}) as span:
        assert span.get_span_context().is_valid
        assert not span.get_span_context().trace_flags.sampled
        assert not span.is_recording()
        span.set_attribute("b", 1)
        span.add_event("e")
        span.record_exception(ValueError("x"))
    assert spans_of(tracer) == []


def test_a_span_that_is_forgotten_is_not_exported(tracer: Tracer) -> None:
    tracer.provider.get_tracer("i").start_span("s")
    assert spans_of(tracer) == []


def test_update_name(span: Any, tracer: Tracer) -> None:
    span.update_name("new")
    assert span.name == "new"
    span.end()
    assert only_span_of(tracer).name == "new"


def test_repr_says_name_and_ids(span: Any) -> None:
    text = repr(span)
    assert "s" in text
    assert f"{span.get_span_context().trace_id:032x}" in text
    span.end()
    assert repr(span)


def test_trace_state_is_inherited(tracer: Tracer) -> None:
    carrier = {"traceparent": CALLER, "tracestate": "vendor=a:b , 9key=x,t@n= v"}
    with with_distributed_trace_context(carrier), tracer.start_span("outer"), tracer.start_span("s") as span:
        state = span.get_span_context().trace_state
    assert [spans.trace_state for spans in spans_of(tracer)] == [carrier["tracestate"]] * 2
    assert dict(state) == {"vendor": "a:b", "9key": "x", "t@n": " v"}
    assert state.get("vendor") == "a:b"
    assert state.to_header() == carrier["tracestate"]


def test_trace_state_can_be_changed_by_its_users(tracer: Tracer) -> None:
    carrier = {"traceparent": CALLER, "tracestate": "a=1,9key=2"}
    with with_distributed_trace_context(carrier), tracer.start_span("s") as span:
        state = span.get_span_context().trace_state
    assert state.add("new", "3").to_header() == "new=3,a=1,9key=2"
    assert state.update("9key", "4").to_header() == "9key=4,a=1"
    assert state.delete("a").to_header() == "9key=2"
    assert state.add("BAD KEY", "x") == state
    assert state.to_header() == "a=1,9key=2"
    assert len(state) == 2
    assert "9key" in state
