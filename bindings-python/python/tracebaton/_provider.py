"""`tracer.provider`: OpenTelemetry's provider and tracer interfaces, for instrumentors."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from opentelemetry import trace
from opentelemetry.context.context import Context
from opentelemetry.util._decorator import _agnosticcontextmanager

from tracebaton import _native
from tracebaton._context import current
from tracebaton._registry import millis
from tracebaton._span import Span, SpanBlock, span_class
from tracebaton._span_view import Resource

_INTERNAL = trace.SpanKind.INTERNAL


class OtelTracer(trace.Tracer):
    """OpenTelemetry's `Tracer`. A class of Python's own: instrumentors call its functions on proxies of it."""

    def __init__(self, instrumentation: _native.Instrumentation) -> None:
        self._instrumentation = instrumentation
        self._span_class = span_class()

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
        _records_start: bool = True,
    ) -> Span:
        """Starts a span whose parent is the current span of `context`, without making it current."""
        context = current() if context is None else context
        if links is not None and not isinstance(links, (list, tuple)):
            links = tuple(links)  # a sampler may look at them first
        if kind is _INTERNAL:
            number = 0
        elif isinstance(kind, trace.SpanKind):
            number = kind.value
        else:
            raise TypeError(f"kind must be a SpanKind, not {type(kind).__name__}")
        span = self._span_class(
            self._instrumentation, name, context, number, attributes, links, start_time, _records_start
        )
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
    """The span processors of a provider, called one after the other, as the SDK does it. What one raises stays here."""

    def __init__(self) -> None:
        # A tuple, so that those who go through it see no change.
        self._span_processors: tuple[Any, ...] = ()
        self._adding = threading.Lock()

    def add_span_processor(self, span_processor: Any) -> None:
        """Has one more called, after the others."""
        with self._adding:
            self._span_processors = (*self._span_processors, span_processor)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        for processor in self._span_processors:
            try:
                processor.on_start(span, parent_context=parent_context)
            except Exception:
                _native.report("a span processor raised in on_start")

    def _on_ending(self, span: Span) -> None:
        for processor in self._span_processors:
            # Only those of newer SDKs have it.
            ending = getattr(processor, "_on_ending", None)
            if ending is None:
                continue
            try:
                ending(span)
            except Exception:
                _native.report("a span processor raised in _on_ending")

    def on_end(self, span: Span) -> None:
        for processor in self._span_processors:
            try:
                processor.on_end(span)
            except Exception:
                _native.report("a span processor raised in on_end")

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Has every processor deliver what it holds: False if one says that it did not, or the time was over."""
        deadline = time.monotonic() + timeout_millis / 1_000
        done = True
        for processor in self._span_processors:
            if not hasattr(processor, "force_flush"):
                # A processor of two methods holds nothing.
                continue
            left = int((deadline - time.monotonic()) * 1_000)
            if left <= 0:
                return False
            try:
                done &= processor.force_flush(left) is not False
            except Exception:
                _native.report("a span processor raised in force_flush")
                done = False
        return done

    def shutdown(self) -> None:
        """Shuts every processor down, once."""
        processors, self._span_processors = self._span_processors, ()
        for processor in processors:
            try:
                processor.shutdown()
            except Exception:
                _native.report("a span processor raised in shutdown")


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
    def sampler(self) -> Any:
        """What decides which traces are recorded: the sampler that was given, or a description of ours."""
        given = self._core.foreign_sampler
        return Sampler(self._core.sampler) if given is None else given

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
        items = tuple(sorted((str(key), repr(value)) for key, value in attributes.items())) if attributes else ()
        key = (name, instrumenting_library_version, schema_url, items)
        tracer = self._tracers.get(key)
        if tracer is None:
            instrumentation = self._core.instrumentation(name, instrumenting_library_version, schema_url, attributes)
            tracer = self._tracers.setdefault(key, OtelTracer(instrumentation))
        return tracer

    def add_span_processor(self, span_processor: Any) -> None:
        """Has a processor of OpenTelemetry's SDK called at the start and end of every span. It may change the span:
        what is exported elsewhere is what the processors leave."""
        self._active_span_processor.add_span_processor(span_processor)
        self._core.set_processor(self._active_span_processor)
        # The processor brought the SDK with it.
        for tracer in list(self._tracers.values()):
            tracer._span_class = span_class()

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Delivers what has ended so far: True only if all of it was delivered within the time."""
        left, flushed = self.flush_processors(millis(timeout_millis))
        return self._core.flush(left) and flushed

    def shutdown(self, timeout_millis: float = 30_000) -> bool:
        """Delivers what has ended so far, and takes no more: True only if all of it was delivered within the time."""
        return self._core.shutdown(self.shutdown_processors(millis(timeout_millis)))

    def flush_processors(self, timeout_millis: int) -> tuple[int, bool]:
        """Flushes the span processors: the milliseconds that are left, and whether all was delivered."""
        if not self._active_span_processor._span_processors:
            return timeout_millis, True
        begin = time.monotonic()
        done = self._active_span_processor.force_flush(timeout_millis)
        return _left(timeout_millis, begin), done

    def shutdown_processors(self, timeout_millis: int) -> int:
        """Shuts the span processors down, which take the time that they take: the milliseconds that are left."""
        begin = time.monotonic()
        self._active_span_processor.shutdown()
        return _left(timeout_millis, begin)


def _left(timeout_millis: int, begin: float) -> int:
    return max(timeout_millis - int((time.monotonic() - begin) * 1_000), 0)
