"""`exporter=` with an exporter of OpenTelemetry's SDK: called from a thread, with spans decoded from our bytes."""

from __future__ import annotations

import gc
import io
import json
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from collector import Collector
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TraceFlags
from programs import output, run
from recorded import by_name, spans_of
from tracebaton import Tracer, inject_context_into_carrier, with_distributed_trace_context

Make = Callable[..., Tracer]
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
# Keys that OpenTelemetry's own class refuses: it knows no key that begins with a digit or has two `@`.
STATE = "1digits=1,0a@b=x,k@a@b=y z"
CARRIER = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01", "tracestate": STATE}


class Exporter(SpanExporter):
    """Does what a test says."""

    def __init__(self, act: Callable[[Sequence[ReadableSpan]], Any] = lambda _: SpanExportResult.SUCCESS) -> None:
        self.act = act
        self.batches: list[list[ReadableSpan]] = []
        self.threads: set[threading.Thread] = set()
        self.shutdowns = 0

    def export(self, spans: Sequence[ReadableSpan]) -> Any:
        self.batches.append(list(spans))
        self.threads.add(threading.current_thread())
        return self.act(spans)

    def shutdown(self) -> None:
        self.shutdowns += 1

    @property
    def names(self) -> list[str]:
        return [span.name for batch in self.batches for span in batch]


def record(tracer: Tracer, count: int = 1) -> None:
    for i in range(count):
        with tracer.start_span(f"s{i}"):
            pass


def record_everything(tracer: Tracer) -> None:
    otel = tracer.provider.get_tracer("library", "1.2", "https://schema.example/1", {"scope.key": "v"})
    link = Link(SpanContext(5, 6, True, TraceFlags(1)), {"l": 1})
    with with_distributed_trace_context(CARRIER):
        with otel.start_as_current_span("root", kind=SpanKind.SERVER, links=[link]) as root:
            root.set_attributes(
                {"text": "é", "int": -5, "float": 0.5, "yes": True, "bytes": b"ok\xff", "list": ["a", "b"]}
            )
            root.add_event("event", {"a": 1}, 1_700_000_000_000_000_000)
            with pytest.raises(ValueError, match="x"), tracer.start_span("failed"):
                raise ValueError("x")


def test_the_spans_are_the_sdks_and_say_all(make_tracer: Make) -> None:
    exporter = InMemorySpanExporter()
    tracer = make_tracer(exporter=[exporter, "memory"], service_name="shop", limits={"events": 1})
    record_everything(tracer)
    assert tracer.flush()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    expected = by_name(spans_of(tracer))
    assert set(spans) == set(expected) == {"root", "failed"}
    for name, span in spans.items():
        ours = expected[name]
        assert isinstance(span, ReadableSpan)
        context = span.get_span_context()
        assert context is not None
        assert otel_trace.format_trace_id(context.trace_id) == ours.trace_id == TRACE_ID
        assert otel_trace.format_span_id(context.span_id) == ours.span_id
        assert context.trace_state.to_header() == ours.trace_state == STATE
        assert context.trace_flags == ours.flags & 0xFF
        assert not context.is_remote
        assert span.parent is not None
        assert otel_trace.format_span_id(span.parent.span_id) == ours.parent_id
        assert span.parent.is_remote == bool(ours.flags & 0x200) == (name == "root")
        assert (span.start_time, span.end_time) == (ours.start_ns, ours.end_ns)
        assert span.kind.value + 1 == ours.kind
        attributes = {key: list(v) if isinstance(v, tuple) else v for key, v in (span.attributes or {}).items()}
        assert attributes == {**ours.attributes, **({"bytes": "ok\ufffd"} if name == "root" else {})}
        assert span.status.status_code.value == ours.status
        assert (span.status.description or "") == ours.message
        assert [event.name for event in span.events] == [event.name for event in ours.events]
        assert [dict(event.attributes or {}) for event in span.events] == [event.attributes for event in ours.events]
        assert [event.timestamp for event in span.events] == [event.time_ns for event in ours.events]
        assert span.resource.attributes["service.name"] == "shop"
        assert span.dropped_events == ours.dropped_events
    (link,) = spans["root"].links
    assert (link.context.trace_id, link.context.span_id, link.context.is_remote) == (5, 6, True)
    assert dict(link.attributes or {}) == {"l": 1}
    scope = spans["root"].instrumentation_scope
    assert scope is not None
    assert (scope.name, scope.version, scope.schema_url) == ("library", "1.2", "https://schema.example/1")
    if hasattr(scope, "attributes"):
        assert dict(scope.attributes or {}) == {"scope.key": "v"}


def test_what_was_dropped_is_told(make_tracer: Make) -> None:
    exporter = InMemorySpanExporter()
    limits = {"attributes": 2, "events": 1, "links": 0, "attributes_per_event": 1}
    tracer = make_tracer(exporter=exporter, limits=limits)
    with tracer.start_span("s", attributes={"a": 1, "b": 2, "c": 3}, links=[Link(SpanContext(1, 2, False))]) as span:
        span.add_event("kept", {"a": 1, "b": 2})
        span.add_event("not kept")
    assert tracer.flush()
    (ended,) = exporter.get_finished_spans()
    assert (ended.dropped_attributes, ended.dropped_events, ended.dropped_links) == (1, 1, 1)
    event: Any = ended.events[0]
    # Older SDKs say it of the attributes only.
    assert getattr(event, "dropped_attributes", event.attributes.dropped) == 1


def test_console_and_otlp_of_the_sdk(make_tracer: Make, collector: Collector) -> None:
    out = io.StringIO()
    otlp = OTLPSpanExporter(endpoint=f"{collector.url}/v1/traces")
    tracer = make_tracer(exporter=[ConsoleSpanExporter(out=out), otlp, "memory"], service_name="shop")
    record_everything(tracer)
    assert tracer.flush()
    assert out.getvalue().count('"parent_id": ') == 2
    theirs, ours = by_name(collector.spans), by_name(spans_of(tracer))
    for name, span in theirs.items():
        expected = ours[name]
        assert span.resource["service.name"] == "shop"
        # The SDK's encoder leaves the trace flags out, and the state of links.
        span.resource, span.scope, span.flags, expected.flags = {}, "", span.flags & 0x300, expected.flags & 0x300
        if name == "root":
            # Its exporters know no bytes.
            assert expected.attributes.pop("bytes") == b"ok\xff"
            assert span.attributes.pop("bytes") == "ok\ufffd"
        for link in [*span.links, *expected.links]:
            link.trace_state, link.flags = "", link.flags & 0x300
        assert span == expected
    assert tracer.stats()["sent"] == 4
    assert tracer.shutdown()


def test_it_is_called_from_one_thread_without_a_context(make_tracer: Make) -> None:
    seen: list[Any] = []

    def act(_: object) -> Any:
        seen.append(otel_context.get_value(otel_context._SUPPRESS_INSTRUMENTATION_KEY))
        seen.append(otel_trace.get_current_span())
        return SpanExportResult.SUCCESS

    exporter = Exporter(act)
    tracer = make_tracer(exporter=exporter, batch_size=1)
    with tracer.start_span("outer"):
        for _ in range(5):
            record(tracer)
        assert tracer.flush()
    assert seen == [True, otel_trace.INVALID_SPAN] * 5
    assert len(exporter.threads) == 1
    assert threading.current_thread() not in exporter.threads
    assert [len(batch) for batch in exporter.batches] == [1] * 5


def test_batches_by_our_rules(make_tracer: Make) -> None:
    exporter = Exporter()
    tracer = make_tracer(exporter=exporter, batch_size=10)
    record(tracer, 25)
    assert tracer.flush()
    assert [len(batch) for batch in exporter.batches] == [10, 10, 5]
    # Neither a flush nor a full batch: the time is over.
    done = threading.Event()
    exporter.act = lambda _: done.set()
    soon = make_tracer(exporter=exporter, flush_interval=0.01)
    record(soon)
    assert done.wait(20)
    at_once = make_tracer(exporter=exporter, disable_batch=True)
    done.clear()
    record(at_once)
    assert done.wait(20)


def test_failures_are_counted_and_told_once(make_tracer: Make, caplog: pytest.LogCaptureFixture) -> None:
    def raises(_: object) -> Any:
        raise OSError("a secret")

    exporter = Exporter(lambda _: SpanExportResult.FAILURE)
    tracer = make_tracer(exporter=exporter)
    with caplog.at_level(logging.WARNING, logger="tracebaton"):
        for _ in range(3):
            record(tracer)
            assert not tracer.flush()
        assert [record.getMessage() for record in caplog.records] == [
            "exporter Exporter: it says FAILURE; spans are dropped and counted"
        ]
        exporter.act = raises
        record(tracer)
        assert not tracer.flush()
        assert len(caplog.records) == 1
    assert tracer.stats()["dropped"] == {"refused": 4}
    assert tracer.stats()["last_error"] == "it raised OSError"
    exporter.act = lambda _: None
    record(tracer)
    assert tracer.flush()
    assert tracer.stats()["sent"] == 1
    exporter.act = raises
    with caplog.at_level(logging.WARNING, logger="tracebaton"):
        record(tracer)
        assert not tracer.flush()
    assert len(caplog.records) == 2
    assert "secret" not in caplog.text


def test_flush_and_shutdown_keep_to_their_time(make_tracer: Make) -> None:
    release, begun = threading.Event(), threading.Event()

    def hang(_: object) -> Any:
        begun.set()
        release.wait(60)

    exporter = Exporter(hang)
    tracer = make_tracer(exporter=exporter, batch_size=1)
    record(tracer, 3)
    assert begun.wait(20)
    began = time.monotonic()
    assert not tracer.flush(50)
    assert tracer.stats()["queued"] == 3
    assert not tracer.shutdown(50)
    assert time.monotonic() - began < 10
    assert tracer.stats()["dropped"] == {"shutdown": 2}
    record(tracer)
    assert tracer.stats()["dropped"] == {"shutdown": 3}
    thread = next(iter(exporter.threads))
    release.set()
    thread.join(20)
    assert not thread.is_alive()
    # Late, but it is done.
    assert exporter.shutdowns == 1
    assert tracer.stats()["sent"] == 1


def test_shutdown_shuts_the_exporter_down_once(make_tracer: Make) -> None:
    class Slow(Exporter):
        def shutdown(self) -> None:
            time.sleep(0.05)
            super().shutdown()

    exporter = Slow()
    tracer = make_tracer(exporter=exporter)
    record(tracer)
    assert tracer.shutdown()
    assert (exporter.names, exporter.shutdowns) == (["s0"], 1)
    tracer.shutdown()
    record(tracer)
    assert (exporter.names, exporter.shutdowns) == (["s0"], 1)


def test_an_exporter_may_record_and_flush(make_tracer: Make) -> None:
    """Its spans wait; its flush does not wait for itself."""

    def act(_: object) -> Any:
        if len(exporter.batches) == 1:
            record(tracer)
            answers.append(tracer.flush(10**9))

    answers: list[bool] = []
    exporter = Exporter(act)
    tracer = make_tracer(exporter=exporter)
    record(tracer)
    tracer.flush()
    assert tracer.flush()
    assert answers == [False]
    assert len(exporter.names) == 2


def test_one_that_fails_hurts_no_other(make_tracer: Make, collector: Collector) -> None:
    good, bad = Exporter(), Exporter(lambda _: SpanExportResult.FAILURE)
    tracer = make_tracer(exporter=[bad, "otlp", good], otlp_endpoint=collector.url)
    record(tracer, 2)
    assert not tracer.flush()
    assert good.names == ["s0", "s1"]
    assert len(collector.spans) == 2
    stats = tracer.stats()
    assert (stats["sent"], stats["dropped"]) == (4, {"refused": 2})


def test_a_tracer_that_is_gone_delivers_and_ends_its_thread(make_tracer: Make) -> None:
    exporter = Exporter()
    tracer = make_tracer(exporter=exporter)
    first = make_tracer()  # somebody else is the default
    from tracebaton import _registry

    _registry.clear_default()
    record(tracer)
    gone = weakref.ref(tracer)
    del tracer
    gc.collect()
    assert gone() is None
    deadline = time.monotonic() + 20
    while not exporter.names or any(thread.is_alive() for thread in exporter.threads):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert exporter.names == ["s0"]
    assert exporter.shutdowns == 0
    assert first.flush()


@pytest.mark.parametrize("wrong", [3, object(), InMemorySpanExporter, ["memory", 3], [None]])
def test_other_objects_are_a_type_error(make_tracer: Make, wrong: Any) -> None:
    with pytest.raises(TypeError, match="exporter"):
        make_tracer(exporter=wrong)


def test_propagation_works_with_it(make_tracer: Make) -> None:
    tracer = make_tracer(exporter=InMemorySpanExporter())
    with tracer.start_span("s"):
        assert "traceparent" in inject_context_into_carrier({})


PROGRAM = """
import os, threading, warnings
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from tracebaton import Tracer

class Exporter(SpanExporter):
    def export(self, spans):
        for span in spans:
            print(span.name, "in the child" if os.getpid() != parent else "in the parent", flush=True)
        return SpanExportResult.SUCCESS
    def shutdown(self):
        print("shutdown", "in the child" if os.getpid() != parent else "in the parent", flush=True)

parent = os.getpid()
tracer = Tracer.init(exporter=Exporter())
with tracer.start_span("before"):
    pass
"""


def test_at_exit_all_is_delivered() -> None:
    assert output(PROGRAM) == "before in the parent\nshutdown in the parent"


def test_a_span_that_ends_after_the_last_thread() -> None:
    """Python 3.12 starts no threads at exit: the flush does their work."""
    late = "import atexit\n@atexit.register\ndef late():\n    with tracer.start_span('late'):\n        pass\n"
    program = PROGRAM.split("with tracer", maxsplit=1)[0] + late
    assert output(program) == "late in the parent\nshutdown in the parent"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_around_a_fork() -> None:
    """No thread while the process forks (Python 3.12 warns of one); each process exports its own."""
    program = (
        PROGRAM
        + """
assert tracer.flush()
inherited = tracer.start_span("inherited").__enter__()
with tracer.start_span("queued"):
    pass
child = os.fork()
if not child:
    inherited.end()
    with tracer.start_span("child"):
        pass
    done = tracer.flush()
    os._exit(0 if done and tracer.stats()["dropped"] == {"forked": 1} else 1)
assert os.waitpid(child, 0)[1] == 0
with tracer.start_span("after"):
    pass
"""
    )
    lines = output(program).splitlines()
    assert sorted(lines) == sorted(
        [
            "before in the parent",
            "queued in the parent",
            "child in the child",
            "after in the parent",
            "shutdown in the parent",
        ]
    )


def test_without_the_sdk() -> None:
    """An object with the interface's functions is enough; the spans have the SDK's fields."""
    program = """
    import sys
    sys.modules["opentelemetry.sdk"] = None
    from tracebaton import Tracer

    class Exporter:
        def export(self, spans):
            for span in spans:
                print(span.name, span.kind.name, span.attributes["k"], span.resource.attributes["service.name"])
                print(span.get_span_context().is_valid, span.parent, span.instrumentation_scope.name)
                print(span.status.status_code.name, span.events[0].name, span.links)
        def shutdown(self):
            print("shutdown")

    tracer = Tracer.init(exporter=Exporter(), service_name="shop")
    with tracer.start_span("s", attributes={"k": 1}) as span:
        span.add_event("e")
    """
    assert output(program).splitlines() == [
        "s INTERNAL 1 shop",
        "True None tracebaton",
        "UNSET e ()",
        "shutdown",
    ]


def test_a_thread_that_ends_in_its_exporter_is_replaced(make_tracer: Make) -> None:
    def ends(_: object) -> Any:
        raise SystemExit

    exporter = Exporter(ends)
    tracer = make_tracer(exporter=exporter)
    record(tracer)
    assert not tracer.flush()
    exporter.act = lambda _: None
    record(tracer)
    assert tracer.flush()
    assert len(exporter.names) == 2


def test_ctrl_c_ends_a_flush() -> None:
    done = run("""
    import os, signal, threading, time
    from tracebaton import Tracer

    class Exporter:
        def export(self, spans):
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(60)
        def shutdown(self):
            pass

    tracer = Tracer.init(exporter=Exporter())
    with tracer.start_span("s"):
        pass
    try:
        tracer.flush(40_000)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        os._exit(0)
    """)
    assert done.stdout.strip() == "interrupted", done.stderr


def test_json_of_the_console_exporter_can_be_read(make_tracer: Make) -> None:
    out = io.StringIO()
    tracer = make_tracer(exporter=ConsoleSpanExporter(out=out))
    with tracer.start_span("s", attributes={"list": [1, 2]}) as span:
        span.set_status(StatusCode.ERROR, "why")
    assert tracer.flush()
    said = json.loads(out.getvalue())
    assert said["attributes"]["list"] == [1, 2]
    assert said["status"] == {"status_code": "ERROR", "description": "why"}


def test_a_full_queue_drops_the_newest(make_tracer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "2")
    release = threading.Event()
    exporter = Exporter(lambda _: release.wait(60) and None)
    tracer = make_tracer(exporter=exporter)
    record(tracer, 5)
    assert tracer.stats()["dropped"] == {"queue_full": 3}
    release.set()
    assert not tracer.flush()
    assert exporter.names == ["s0", "s1"]
