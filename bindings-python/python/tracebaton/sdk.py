"""For programs that stay on OpenTelemetry's SDK (`opentelemetry-sdk`, which must be installed): sessions on the spans
of their provider, and our delivery for them.

    tracer = Tracer.init(project="shop")
    provider.add_span_processor(TracebatonSpanProcessor(tracer, exporter=TracebatonSpanExporter(tracer)))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from tracebaton import _native
from tracebaton._context import current
from tracebaton._registry import choose, core_of, millis
from tracebaton._tracer import Tracer

__all__ = ["TracebatonSpanExporter", "TracebatonSpanProcessor"]

# What a processor remembers of a span: on its attributes, which the span that ends shares with the one that started.
_STARTED = "_tracebaton_started"
# By which a span is found that has lost all else.
_SESSION = ("honeyhive.session_id", "session.id", "honeyhive.project")


class TracebatonSpanProcessor(SpanProcessor):
    """Gives the spans of the SDK's provider what spans of ours have: session, project and source, attributes from
    baggage as the policy has it, the event type, and `[redacted]` for secrets.

    `tracer` is the one whose session, policy and `redact=` hold; the one that is meant where none is given otherwise.
    With `exporter=`, ended spans that are sampled go to it at once, and `force_flush` and `shutdown` of the provider
    reach it: the SDK's own processors ask no exporter to flush. That exporter must not block; ours does not.

    What the SDK cannot do for us: a span is sampled and its parent chosen before a processor sees it, so a policy
    `restart` or `ignore` takes effect through our propagator only. Attributes of events are not redacted. Attributes
    beyond the SDK's limit (128 by default) push out the oldest ones: what routes a span is put back when it ends, and
    takes the place of others.
    """

    def __init__(self, tracer: Tracer | None = None, *, exporter: SpanExporter | None = None) -> None:
        choose(tracer)
        self._tracer = tracer
        self._exporter = exporter

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Sets the routing attributes of the session that holds where the span starts."""
        try:
            context = current() if parent_context is None else parent_context
            core = core_of(self._tracer, context)
            if core is None or not core.enabled:
                return
            # First of all: a span that is known to be ours is completed even if something fails here.
            setattr(span._attributes, _STARTED, (core, {}))
            attributes, link = _native.sdk_started(core, context, span.parent is None)
            present = _plain(span._attributes)
            attributes = {key: value for key, value in attributes.items() if key not in present}
            setattr(span._attributes, _STARTED, (core, attributes))
            span.set_attributes(attributes)
            if link is not None:
                span.add_link(link)
        except Exception:
            # Tracing must not fail the program.
            _native.report("a span of OpenTelemetry's SDK could not be given its session")

    def _on_ending(self, span: Span) -> None:
        self._complete(span)

    def on_end(self, span: ReadableSpan) -> None:
        """Hands the span to the exporter, if there is one."""
        if not hasattr(SpanProcessor, "_on_ending"):
            # Older SDKs have no other place for it: processors that were added before this one see the span without.
            self._complete(span)
        context = span.get_span_context()
        if self._exporter is not None and context is not None and context.trace_flags.sampled:
            try:
                self._exporter.export((span,))
            except Exception:
                _native.report("an exporter raised")

    def _complete(self, span: ReadableSpan) -> None:
        routing: dict[str, Any] = {}
        try:
            kept: Any = span._attributes
            # One that began before the processor was added has its secrets as well.
            core, routing = getattr(kept, _STARTED, None) or (core_of(self._tracer, current()), routing)
            if core is None or not core.enabled:
                return
            present = _plain(kept)
            # What was pushed out meanwhile is put back, and may be a secret too: one from baggage.
            whole = {**routing, **present}
            changes = _native.sdk_ending(core, whole)
            secrets = {key: present[key] for key in changes if key in present}
            limit = getattr(kept, "maxlen", None)
            if limit is not None and len(whole.keys() | changes.keys()) > limit:
                # What is put last pushes out what is oldest: all of it is put anew, the session last.
                anew = list(reversed(routing))
            else:
                anew = [key for key in routing if key not in present]
            for key in anew:
                changes[key] = changes.pop(key, whole[key])
            _put(kept, changes)
            present = _plain(kept)
            if any(present.get(key) is value for key, value in secrets.items()):
                raise RuntimeError("the SDK's collection took no change")
        except Exception:
            _native.report("a span of OpenTelemetry's SDK could not be completed: it loses its attributes")
            # What may be a secret does not leave.
            span._attributes = {key: routing[key] for key in _SESSION if key in routing}

    def shutdown(self) -> None:
        """Shuts the exporter down, if there is one."""
        if self._exporter is not None:
            self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Asks the exporter, if there is one, whether all was delivered within this time."""
        # Exporters that have nothing to say return nothing.
        return self._exporter is None or self._exporter.force_flush(timeout_millis) is not False


def _put(kept: Any, changes: dict[str, Any]) -> None:
    """Puts attributes into the SDK's collection of a span that has its end's time: since 1.45 it is closed by then, but
    every processor and exporter has this very object."""
    closed = getattr(kept, "_immutable", False)
    if closed:
        kept._immutable = False
    try:
        for key, value in changes.items():
            kept[key] = value
    finally:
        if closed:
            kept._immutable = True


def _plain(attributes: Any) -> dict[str, Any]:
    """The dict in the SDK's collection, which is quicker to look at."""
    inner = getattr(attributes, "_dict", None)
    return inner if isinstance(inner, dict) else dict(attributes or {})


class TracebatonSpanExporter(SpanExporter):
    """Puts spans of OpenTelemetry's SDK into our queue, which delivers them to where `tracer` sends its own: batches,
    retries, limits and statistics (`tracer.stats()`) are those of the tracer, the resource is the spans' own.

    They go out as they are, with nothing added, but to HoneyHive: there a session is known by its UUID, and a span that
    names none gets the tracer's own session and an event type.

    Without `tracer` it is the one that is meant where none is given, or a new one by the environment's settings. A
    tracer whose `exporter=` is an object of the SDK's is a `ValueError`: give that object to your provider.

    `export` only encodes and queues; a `SimpleSpanProcessor` or `TracebatonSpanProcessor(exporter=)` suits it best.
    """

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._tracer = choose(tracer) or Tracer.init()
        if self._tracer._core.foreign:
            raise ValueError("tracer sends to an exporter of OpenTelemetry's: give that to the provider")
        self._is_shut_down = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Queues the spans: a success only if there was room for all of them."""
        if self._is_shut_down:
            return SpanExportResult.FAILURE
        if not self._tracer._core.enabled:
            return SpanExportResult.SUCCESS
        try:
            taken = _native.sdk_export(self._tracer._core, spans)
        except Exception:
            _native.report("spans of OpenTelemetry's SDK could not be encoded: they are dropped")
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS if taken else SpanExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Delivers what was exported so far: True only if all of it was delivered within the time."""
        return _native.sdk_flush(self._tracer._core, millis(timeout_millis), False)

    def shutdown(self, timeout_millis: int = 30_000) -> None:
        """Delivers what was exported so far, and takes no more. The tracer goes on."""
        if not self._is_shut_down:
            self._is_shut_down = True
            _native.sdk_flush(self._tracer._core, millis(timeout_millis), True)
