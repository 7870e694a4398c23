"""Spans, extraction and injection beside opentelemetry-python, in one run on one machine.

    python tests/bench/python.py [--seconds N] [--json FILE]

Both sides do the same work: a span is started, made current, given attributes, ended and encoded as OTLP protobuf;
a carrier is extracted and the trace id, the flags and a baggage value are read; headers are injected. A figure is the
processor time of all threads of the process, the median of many short rounds in which the sides take turns. What counts
is the ratio, which stands between those of the middle half of the rounds; microseconds are this machine's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

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
THREE: dict[str, Any] = {"app.name": "value", "app.count": 42, "app.ratio": 0.5}
ROUND_SECONDS = 2e-3
"""Short enough for most rounds to pass without another process between."""


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

    def our_small_span() -> None:
        with ours.start_span("work", attributes=THREE):
            pass

    def their_small_span() -> None:
        with theirs.start_as_current_span("work", attributes=THREE):
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
        "span, 3 attributes, current, encoded": (our_small_span, their_small_span),
        "span, 10 attributes, current, encoded": (our_span, their_span),
        "the same through the provider": (our_otel_span, their_span),
        "span without attributes, encoded": (our_bare_span, their_bare_span),
        "extract and read": (our_extract, their_extract),
        "block in a caller's context": (our_block, their_block),
        "inject": (our_inject, their_inject),
        "100 spans of the SDK, encoded": (our_export, their_export),
    }


class Compared(NamedTuple):
    """Microseconds of one call, on either side, and how often ours goes into theirs."""

    ours: float
    theirs: float
    ratio: float
    between: tuple[float, float]
    """The quartiles of the ratios of the rounds."""


def loops_for(work: Callable[[], object]) -> int:
    """How many calls fill a round. The first of them warm up."""
    loops, took = 1, 0.0
    while took < ROUND_SECONDS / 4:
        loops *= 2
        took = cpu_of(work, loops) * loops
    return max(1, int(loops * ROUND_SECONDS / took))


def cpu_of(work: Callable[[], object], loops: int) -> float:
    """Seconds of one call, of all threads."""
    start = time.process_time()
    for _ in range(loops):
        work()
    return (time.process_time() - start) / loops


def compare(ours: Callable[[], object], theirs: Callable[[], object], seconds: float) -> Compared:
    """Both sides, in turn."""
    our_loops, their_loops = loops_for(ours), loops_for(theirs)
    rounds: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rounds) < 5:
        rounds.append((cpu_of(ours, our_loops), cpu_of(theirs, their_loops)))
    our_median, their_median = (statistics.median(side) for side in zip(*rounds, strict=True))
    low, _, high = statistics.quantiles(their / our for our, their in rounds)
    return Compared(our_median * 1e6, their_median * 1e6, their_median / our_median, (low, high))


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each row [%(default)s]")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    rows = []
    print(f"{'':42} {'tracebaton':>12} {'OpenTelemetry':>14} {'ratio':>7}")
    for name, (ours, theirs) in pairs().items():
        found = compare(ours, theirs, arguments.seconds)
        rows.append(
            {
                "name": name,
                "tracebaton_us": found.ours,
                "opentelemetry_us": found.theirs,
                "ratio": found.ratio,
                "ratio_between": found.between,
            }
        )
        print(
            f"{name:42} {found.ours:9.2f} µs {found.theirs:11.2f} µs {found.ratio:6.1f}x"
            f"  ({found.between[0]:.1f} to {found.between[1]:.1f})"
        )
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=2)


if __name__ == "__main__":
    main()
