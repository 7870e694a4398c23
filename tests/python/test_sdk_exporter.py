"""`TracebatonSpanExporter`: spans of OpenTelemetry's SDK in our queue, beside the SDK's own exporter."""

from __future__ import annotations

import inspect
import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from collector import Answer, Collector
from opentelemetry import trace as otel_trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState as SdkTraceState
from programs import output, run
from recorded import from_protobuf
from tracebaton import Tracer
from tracebaton.sdk import TracebatonSpanExporter, TracebatonSpanProcessor

Make = Callable[..., Tracer]
UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"


@pytest.fixture
def exporter(collector: Collector, make_tracer: Make) -> Iterator[TracebatonSpanExporter]:
    exporter = TracebatonSpanExporter(make_tracer(exporter="otlp", otlp_endpoint=collector.url))
    yield exporter
    exporter.shutdown(0)


def spans_with_everything(**resource: Any) -> list[ReadableSpan]:
    """Ended spans of two libraries, with every field that the SDK has."""
    ended = InMemorySpanExporter()
    provider = TracerProvider(
        resource=Resource({"service.name": "shop", "n": 3, "tags": ["a", "b"], **resource}),
        span_limits=SpanLimits(max_span_attributes=12, max_events=3, max_links=2, max_event_attributes=2),
    )
    provider.add_span_processor(SimpleSpanProcessor(ended))
    library: list[Any] = ["library", "1.2", "https://schema.example/1"]
    if "attributes" in inspect.signature(provider.get_tracer).parameters:
        library.append({"scope.key": [1, 2]})
    one = provider.get_tracer(*library)
    other = provider.get_tracer("other")
    state = SdkTraceState([("vendor", "a:b"), ("k@tenant", "v")])
    remote = SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, True, TraceFlags(1), state)
    context = otel_trace.set_span_in_context(otel_trace.NonRecordingSpan(remote))
    attributes: dict[str, Any] = {
        "text": "é\U0001f600",
        "empty": "",
        "yes": True,
        "no": False,
        "int": -(2**63),
        "max": 2**63 - 1,
        "float": 0.1,
        "nan": float("inf"),
        "bytes": b"the SDK takes them as text",
        "texts": ["a", "", "b"],
        "ints": [1, 2],
        "none at all": [],
        "beyond the limit": 1,
    }
    links = [Link(remote, {"l": 1}), Link(SpanContext(5, 6, False), None), Link(SpanContext(7, 8, False))]
    with one.start_as_current_span("root", context, SpanKind.SERVER, attributes, links[:1], 1_700_000_000_000_000_000):
        with other.start_as_current_span("child", kind=SpanKind.CLIENT, attributes={"k": "v"}, links=links) as child:
            for i in range(4):
                child.add_event(f"event {i}", {"a": i, "b": "x", "c": 1.5}, 1_700_000_000_000_000_000 + i)
            child.set_status(Status(StatusCode.ERROR, "it broke"))
        with one.start_as_current_span("ok", kind=SpanKind.PRODUCER) as ok:
            ok.set_status(StatusCode.OK)
            ok.record_exception(ValueError("x"))
    one.start_span("new root", otel_trace.set_span_in_context(otel_trace.INVALID_SPAN)).end()
    return list(ended.get_finished_spans())


def comparable(request: ExportTraceServiceRequest) -> dict[Any, Any]:
    """What a request says, whatever the order of its groups."""
    out: dict[Any, Any] = {}
    for of_resource in request.resource_spans:
        resource = of_resource.resource.SerializeToString(deterministic=True)
        for of_scope in of_resource.scope_spans:
            scope = of_scope.scope.SerializeToString(deterministic=True)
            spans = out.setdefault((resource, scope, of_scope.schema_url), [])
            spans += [from_protobuf(span) for span in of_scope.spans]
    return {key: sorted(spans, key=lambda span: span.span_id) for key, spans in out.items()}


def test_equal_to_the_official_encoding(exporter: TracebatonSpanExporter, collector: Collector) -> None:
    spans = spans_with_everything() + spans_with_everything(other="resource")
    assert exporter.export(spans) is SpanExportResult.SUCCESS
    assert exporter.force_flush()
    ours = ExportTraceServiceRequest()
    for request in collector.requests:
        assert request.headers["content-type"] == "application/x-protobuf"
        ours.MergeFromString(request.body if "content-encoding" not in request.headers else _gunzip(request.body))
    official, ours_of = comparable(encode_spans(spans)), comparable(ours)
    for group in ours_of.values():
        for span in group:
            # What the official encoder leaves out: the trace flags (OTLP: bits 0 to 7), and the state of a link.
            assert span.flags & 0xFF in (1, 3)
            span.flags &= ~0xFF
            for link in span.links:
                link.flags &= ~0xFF
                assert link.trace_state == ("vendor=a:b,k@tenant=v" if link.span_id == "b7ad6b7169203331" else "")
                link.trace_state = ""
    for group in official.values():
        for span in group:
            span.flags &= ~0xFF
            for link in span.links:
                link.flags &= ~0xFF
                link.trace_state = ""
    assert len(ours_of) == 4
    assert {schema for _, _, schema in ours_of} == {"", "https://schema.example/1"}
    if not any(schema for _, _, schema in official):
        # Older ones leave the schema out.
        ours_of = {(resource, scope, ""): group for (resource, scope, _), group in ours_of.items()}
    assert ours_of == official
    root = next(span for group in ours_of.values() for span in group if span.name == "root")
    assert root.dropped_attributes == 1
    assert root.trace_state == "vendor=a:b,k@tenant=v"


def _gunzip(body: bytes) -> bytes:
    import gzip

    return gzip.decompress(body)


def test_a_provider_is_truthful_about_its_flush(collector: Collector, make_tracer: Make) -> None:
    tracer = make_tracer(exporter="otlp", otlp_endpoint=collector.url)
    provider = TracerProvider()
    provider.add_span_processor(TracebatonSpanProcessor(tracer, exporter=TracebatonSpanExporter(tracer)))
    otel = provider.get_tracer("t")
    otel.start_span("delivered").end()
    assert provider.force_flush()
    assert [span.name for span in collector.spans] == ["delivered"]
    assert tracer.stats()["sent"] == 1
    collector.always = Answer(400)
    otel.start_span("refused").end()
    assert not provider.force_flush()
    assert tracer.stats()["dropped"] == {"refused": 1}
    collector.always = Answer()
    otel.start_span("last").end()
    provider.shutdown()
    assert [span.name for span in collector.spans] == ["delivered", "last"]
    otel.start_span("too late").end()
    assert tracer.flush()
    assert len(collector.spans) == 2


def test_a_flush_keeps_to_its_time(collector: Collector, exporter: TracebatonSpanExporter) -> None:
    collector.always = Answer(hang=True)
    exporter.export(spans_with_everything()[:1])
    assert not exporter.force_flush(50)


def test_the_tracers_own_flush_and_exit_cover_it(collector: Collector, make_tracer: Make) -> None:
    tracer = make_tracer(exporter="otlp", otlp_endpoint=collector.url)
    exporter = TracebatonSpanExporter(tracer)
    spans = spans_with_everything()
    exporter.export(spans)
    assert tracer.flush()
    assert len(collector.spans) == len(spans)
    assert tracer.shutdown()
    # The provider's spans may come after that: at the end of a process nobody knows who is first.
    assert exporter.export(spans[:1]) is SpanExportResult.SUCCESS
    exporter.shutdown()
    assert len(collector.spans) == len(spans) + 1
    assert exporter.export(spans[:1]) is SpanExportResult.FAILURE


def test_what_has_no_room_is_a_failure(
    collector: Collector, make_tracer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "2")
    collector.always = Answer(hang=True)
    tracer = make_tracer(exporter="otlp", otlp_endpoint=collector.url)
    exporter = TracebatonSpanExporter(tracer)
    spans = spans_with_everything()
    assert exporter.export(spans[:2]) is SpanExportResult.SUCCESS
    assert exporter.export(spans[2:]) is SpanExportResult.FAILURE
    assert tracer.stats()["dropped"] == {"queue_full": len(spans) - 2}


def test_to_honeyhive_it_goes_like_our_own_spans(collector: Collector, make_tracer: Make) -> None:
    tracer = make_tracer(exporter=None, api_key="key", server_url=collector.url, session_id="ours", project="shop")
    exporter = TracebatonSpanExporter(tracer)
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    otel = provider.get_tracer("t")
    otel.start_span("plain").end()
    otel.start_span("theirs", attributes={"honeyhive.session_id": "no uuid", "gen_ai.operation.name": "chat"}).end()
    otel.start_span("uuid", attributes={"honeyhive.session_id": UUID, "honeyhive_event_type": "chain"}).end()
    with tracer.start_span("own"):
        pass
    assert exporter.force_flush()
    assert tracer.flush()
    spans = {span.name: span for span in collector.spans}
    assert spans["plain"].session == spans["own"].session != "ours"
    assert spans["plain"].attributes["honeyhive_event_type"] == "tool"
    assert spans["plain"].project == "shop"
    assert spans["theirs"].session not in ("no uuid", spans["own"].session)
    assert spans["theirs"].attributes["honeyhive_event_type"] == "model"
    assert spans["uuid"].session == UUID
    assert spans["uuid"].attributes["honeyhive_event_type"] == "chain"


class Broken:
    """No span: what is asked of it raises."""

    resource = Resource({})
    instrumentation_scope = None

    def get_span_context(self) -> Any:
        raise ValueError("secret")


def test_what_cannot_be_encoded_raises_nothing(
    exporter: TracebatonSpanExporter, caplog: pytest.LogCaptureFixture, collector: Collector
) -> None:
    with caplog.at_level(logging.WARNING, logger="tracebaton"):
        assert exporter.export([Broken()]) is SpanExportResult.FAILURE  # type: ignore[list-item]
        assert exporter.export([Broken()]) is SpanExportResult.FAILURE  # type: ignore[list-item]
        good = spans_with_everything()[:1]
        assert exporter.export([Broken(), *good]) is SpanExportResult.FAILURE  # type: ignore[list-item]
    assert [record.name for record in caplog.records].count("tracebaton") == 1
    assert "secret" not in caplog.text
    assert exporter.force_flush()
    assert len(collector.spans) == 1


def test_a_tracer_with_a_foreign_exporter_is_refused(make_tracer: Make) -> None:
    with pytest.raises(ValueError, match="give that to the provider"):
        TracebatonSpanExporter(make_tracer(exporter=InMemorySpanExporter()))
    with pytest.raises(TypeError, match="tracer"):
        TracebatonSpanExporter("no tracer")  # type: ignore[arg-type]


def test_without_a_tracer_the_environment_says_where_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert isinstance(TracebatonSpanExporter(), SpanExporter)


def test_in_a_process_of_its_own(collector: Collector) -> None:
    """With the provider made before the package is imported, and after: nothing is lost at the end."""
    for lines in (
        "provider = TracerProvider()\nimport tracebaton.sdk",
        "import tracebaton.sdk\nprovider = TracerProvider()",
    ):
        before = len(collector.spans)
        program = f"""
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
{lines}
exporter = tracebaton.sdk.TracebatonSpanExporter()
provider.add_span_processor(BatchSpanProcessor(exporter))
for i in range(10):
    provider.get_tracer("t").start_span("s").end()
print("done")
"""
        assert output(program, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}) == "done"
        assert len(collector.spans) == before + 10


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
def test_the_spool_keeps_them_over_a_kill(collector: Collector, tmp_path: Path) -> None:
    """What a process of the SDK had ended when it was killed is delivered by its next start, with its own resource."""
    program = """
import os
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from tracebaton import Tracer
from tracebaton.sdk import TracebatonSpanExporter, TracebatonSpanProcessor

tracer = Tracer.init(spool_dir=os.environ["SPOOL"], flush_interval=3600)
provider = TracerProvider(resource=Resource({"service.name": "theirs"}))
provider.add_span_processor(TracebatonSpanProcessor(tracer, exporter=TracebatonSpanExporter(tracer)))
provider.get_tracer("t").start_span(os.environ["NAME"]).end()
if os.environ["NAME"] == "killed":
    os.kill(os.getpid(), 9)
print(provider.force_flush())
"""
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "SPOOL": str(tmp_path)}
    assert run(program, {**environment, "NAME": "killed"}).returncode == -signal.SIGKILL
    assert collector.spans == []
    assert output(program, {**environment, "NAME": "next"}) == "True"
    found = collector.wait_for_spans(2)
    assert sorted((span.name, span.resource["service.name"]) for span in found) == [
        ("killed", "theirs"),
        ("next", "theirs"),
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_delivers_its_own_only(collector: Collector) -> None:
    program = """
import os
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from tracebaton.sdk import TracebatonSpanExporter
exporter = TracebatonSpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
otel = provider.get_tracer("t")
otel.start_span("parent").end()
child = os.fork()
if not child:
    otel.start_span("child").end()
    os._exit(0 if exporter.force_flush() else 1)
assert os.waitpid(child, 0)[1] == 0
assert exporter.force_flush()
"""
    output(program, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    assert sorted(span.name for span in collector.spans) == ["child", "parent"]
