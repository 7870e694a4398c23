"""Spans, extraction and injection beside opentelemetry-python, in one run on one machine.

    python tests/bench/python.py [--seconds N] [--json FILE]

Both sides do the same work: a span is started, made current, given attributes, ended and encoded as OTLP protobuf;
a carrier is extracted and the trace id, the flags and a baggage value are read; headers are injected. What counts is
the ratio; microseconds are this machine's.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import tracebaton
from opentelemetry import baggage, context, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from tracebaton.sdk import TracebatonSpanExporter

HEADERS = {
    "host": "agent.internal:8080",
    "user-agent": "python-requests/2.34.2",
    "accept": "*/*",
    "content-type": "application/json",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01",
    "tracestate": "vendor=opaque,other=00f067aa0ba902b7",
    "baggage": "session_id=7f1f0ad8-2c1c-4d3e-9b52-6a1d1c9a7f10,project=agents,user=alice",
}
ATTRIBUTES: dict[str, Any] = {f"app.attribute.{at}": f"value number {at}" for at in range(7)}
ATTRIBUTES |= {"app.count": 42, "app.ratio": 0.5, "app.flag": True}


class Encode(SpanExporter):
    """Encodes each span as the OTLP exporter does, and sends it nowhere."""

    def export(self, spans: Any) -> SpanExportResult:
        encode_spans(spans).SerializeToString()
        return SpanExportResult.SUCCESS


def pairs() -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """By name: the work with tracebaton and with OpenTelemetry."""
    ours = tracebaton.Tracer.init(
        exporter="otlp", otlp_endpoint="http://127.0.0.1:9", project="agents", flush_interval=3600
    )
    # Every span is encoded for the queue. That is full after a while, as nobody answers there: from then on the copy
    # into the batch, some 30 ns, is not part of the figures.
    our_otel = ours.provider.get_tracer("bench")
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Encode()))
    theirs = provider.get_tracer("bench")
    composite = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])

    def our_span() -> None:
        with ours.start_span("work", attributes=ATTRIBUTES):
            pass

    def our_otel_span() -> None:
        with our_otel.start_as_current_span("work", attributes=ATTRIBUTES):
            pass

    def their_span() -> None:
        with theirs.start_as_current_span("work", attributes=ATTRIBUTES):
            pass

    def our_bare_span() -> None:
        our_otel.start_span("work").end()

    def their_bare_span() -> None:
        theirs.start_span("work").end()

    def read(extracted: Any) -> tuple[object, ...]:
        span = trace.get_current_span(extracted).get_span_context()
        return span.trace_id, span.trace_flags, baggage.get_baggage("user", extracted)

    def our_extract() -> object:
        return read(tracebaton.extract_context_from_carrier(HEADERS, ours))

    def their_extract() -> object:
        return read(composite.extract(HEADERS))

    def our_block() -> None:
        with tracebaton.with_distributed_trace_context(HEADERS, ours):
            pass

    def their_block() -> None:
        token = context.attach(composite.extract(HEADERS))
        context.detach(token)

    # Both inject what they extracted, from the same kind of context.
    our_context = tracebaton.extract_context_from_carrier(HEADERS, ours)
    their_context = composite.extract(HEADERS)
    propagator = tracebaton.TracebatonPropagator(ours)

    def our_inject() -> None:
        propagator.inject({}, our_context)

    def their_inject() -> None:
        composite.inject({}, their_context)

    ended = InMemorySpanExporter()
    recorder = TracerProvider()
    recorder.add_span_processor(SimpleSpanProcessor(ended))
    for _ in range(100):
        recorder.get_tracer("bench").start_span("work", attributes=ATTRIBUTES).end()
    batch = ended.get_finished_spans()
    exporter = TracebatonSpanExporter(ours)

    def our_export() -> None:
        exporter.export(batch)

    def their_export() -> None:
        encode_spans(batch).SerializeToString()

    assert our_extract() == their_extract()
    return {
        "span, 10 attributes, current, encoded": (our_span, their_span),
        "the same through the provider": (our_otel_span, their_span),
        "span without attributes, encoded": (our_bare_span, their_bare_span),
        "extract and read": (our_extract, their_extract),
        "block in a caller's context": (our_block, their_block),
        "inject": (our_inject, their_inject),
        "100 spans of the SDK, encoded": (our_export, their_export),
    }


def best(work: Callable[[], object], seconds: float) -> float:
    """Microseconds of one call: the best of several loops."""
    loops = 200
    for _ in range(loops):
        work()
    fastest = float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(loops):
            work()
        fastest = min(fastest, (time.perf_counter() - start) / loops)
    return fastest * 1e6


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each side of each row [%(default)s]")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    rows = []
    print(f"{'':42} {'tracebaton':>12} {'OpenTelemetry':>14} {'ratio':>7}")
    for name, (ours, theirs) in pairs().items():
        our_us, their_us = best(ours, arguments.seconds), best(theirs, arguments.seconds)
        rows.append({"name": name, "tracebaton_us": our_us, "opentelemetry_us": their_us, "ratio": their_us / our_us})
        print(f"{name:42} {our_us:9.2f} µs {their_us:11.2f} µs {their_us / our_us:6.1f}x")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=2)


if __name__ == "__main__":
    main()
