"""`tracer.provider`: OpenTelemetry's provider and tracer interfaces, for instrumentors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from opentelemetry import trace
from opentelemetry.context.context import Context
from opentelemetry.util._decorator import _agnosticcontextmanager

from tracebaton import _native
from tracebaton._context import current
from tracebaton._registry import millis
from tracebaton._span import Resource, Span, SpanBlock

_INTERNAL = trace.SpanKind.INTERNAL


class OtelTracer(trace.Tracer):
    """OpenTelemetry's `Tracer`. A class of Python's own: instrumentors call its functions on proxies of it."""

    def __init__(self, instrumentation: _native.Instrumentation) -> None:
        self._instrumentation = instrumentation

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: trace.SpanKind = _INTERNAL,
        attributes: Mapping[str, Any] | None = None,
        links: Sequence[trace.Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Span:
        """Starts a span whose parent is the current span of `context`, without making it current."""
        context = current() if context is None else context
        if kind is _INTERNAL:
            number = 0
        elif isinstance(kind, trace.SpanKind):
            number = kind.value
        else:
            raise TypeError(f"kind must be a SpanKind, not {type(kind).__name__}")
        span = Span(self._instrumentation, name, context, number, attributes, links, start_time)
        if not record_exception:
            span._records_exception = False
        if not set_status_on_exception:
            span._sets_status = False
        processor = self._instrumentation.processor
        if processor is not None and span.is_recording():
            processor.on_start(span, context)
        return span

    @_agnosticcontextmanager
    def start_as_current_span(  # type: ignore[override]  # a manager of a `Span` is one of the API's spans
        self,
        name: str,
        context: Context | None = None,
        kind: trace.SpanKind = _INTERNAL,
        attributes: Mapping[str, Any] | None = None,
        links: Sequence[trace.Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Iterator[Span]:
        """A block with a span that is the current one inside. Also a decorator of functions, async ones included."""
        kwargs: dict[str, Any] = {
            "kind": kind,
            "attributes": attributes,
            "links": links,
            "start_time": start_time,
            "record_exception": record_exception,
            "set_status_on_exception": set_status_on_exception,
        }
        with SpanBlock(self, None, name, kwargs, context, end_on_exit) as span:
            yield span


class _Processors:
    """The span processors of a provider, called one after the other. What one raises stays here."""

    def __init__(self) -> None:
        self._span_processors: tuple[Any, ...] = ()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        for processor in self._span_processors:
            try:
                processor.on_start(span, parent_context=parent_context)
            except Exception:
                _native.report("a span processor raised in on_start")

    def on_end(self, span: Span) -> None:
        for processor in self._span_processors:
            try:
                processor.on_end(span)
            except Exception:
                _native.report("a span processor raised in on_end")


class Sampler(NamedTuple):
    """A sampler, to be looked at: the decisions are made elsewhere."""

    description: str

    def get_description(self) -> str:
        """What it is called."""
        return self.description


class IdGenerator:
    """New ids, from the operating system's entropy."""

    def generate_trace_id(self) -> int:
        """A new trace id: 128 random bits."""
        return _native.new_trace_id()

    def generate_span_id(self) -> int:
        """A new span id: 64 random bits."""
        return _native.new_span_id()

    def is_trace_id_random(self) -> bool:
        """Whether trace ids deserve the random flag."""
        return True


class TracerProvider(trace.TracerProvider):
    """OpenTelemetry's `TracerProvider` over one tracebaton tracer: `instrument(tracer_provider=tracer.provider)`."""

    def __init__(self, core: _native.Core) -> None:
        self._core = core
        self._tracers: dict[tuple[Any, ...], OtelTracer] = {}
        self._active_span_processor = _Processors()

    @property
    def sampler(self) -> Sampler:
        """What decides which traces are recorded."""
        return Sampler(self._core.sampler)

    @property
    def id_generator(self) -> IdGenerator:
        """What makes new ids."""
        return IdGenerator()

    @property
    def resource(self) -> Resource:
        """What the process says of itself."""
        return Resource(MappingProxyType(self._core.resource))

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> OtelTracer:
        """The tracer of an instrumenting library: the same one for the same arguments."""
        name = str(instrumenting_module_name or "")
        items = tuple(sorted((str(key), str(value)) for key, value in attributes.items())) if attributes else ()
        key = (name, instrumenting_library_version, schema_url, items)
        tracer = self._tracers.get(key)
        if tracer is None:
            instrumentation = self._core.instrumentation(name, instrumenting_library_version, schema_url, attributes)
            tracer = self._tracers.setdefault(key, OtelTracer(instrumentation))
        return tracer

    def add_span_processor(self, span_processor: Any) -> None:
        """Has a processor of OpenTelemetry's SDK called at the start and end of every span."""
        processors = self._active_span_processor
        processors._span_processors = (*processors._span_processors, span_processor)
        self._core.set_processor(processors)

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Delivers what has ended so far: True only if all of it was delivered within the time."""
        return self._core.flush(millis(timeout_millis))

    def shutdown(self, timeout_millis: float = 30_000) -> bool:
        """Delivers what has ended so far, and takes no more: True only if all of it was delivered within the time."""
        for processor in self._active_span_processor._span_processors:
            try:
                processor.shutdown()
            except Exception:
                _native.report("a span processor raised in shutdown")
        return self._core.shutdown(millis(timeout_millis))
