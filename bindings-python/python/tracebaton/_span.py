"""Spans, as OpenTelemetry's API has them, on a native base."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Mapping
from operator import attrgetter
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.trace.status import Status, StatusCode

from tracebaton import _native
from tracebaton._context import Block, current, derived
from tracebaton._span_view import Event as Event  # noqa: PLC0414  # the native side looks it up here
from tracebaton._span_view import EventList, InstrumentationScope, Resource, to_json

if TYPE_CHECKING:
    from opentelemetry.context.context import Context

    from tracebaton._provider import OtelTracer
    from tracebaton._tracer import Tracer

_KINDS = tuple(trace.SpanKind)
_CODES = (StatusCode.UNSET, StatusCode.OK, StatusCode.ERROR)
SPAN_KEY = trace.propagation._SPAN_KEY


MAX_FRAMES = 200
"""The frames of a stack trace that are recorded, the innermost ones: an endless recursion has a thousand, on every span
that it leaves."""


class Span(_native.SpanBase, trace.Span):
    """A span of a tracebaton tracer.

    Besides OpenTelemetry's API it has what instrumentors and processors read from the SDK's spans: `name`, `kind`,
    `status`, `attributes`, `events`, `links`, `start_time`, `end_time`, `parent`, `context`, `resource`,
    `instrumentation_scope`, `to_json`; and the private fields that processors of the SDK read and assign. What they
    leave in `_name`, `_status`, `_attributes` and `_events` when the span has ended is what is exported.
    """

    # Set where `start_span` was told otherwise.
    _records_exception = True
    _sets_status = True
    # The exception that was recorded last, by id and text: leaving the block with it does not record it again.
    _recorded: tuple[int, str] | None = None

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Sets the status: OK is final, unset is ignored, a description goes with an error only."""
        if isinstance(status, Status):
            self._set_status(status.status_code.value, status.description)
        elif isinstance(status, StatusCode):
            self._set_status(status.value, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Mapping[str, Any] | None = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Adds an event that describes the exception; the status stays as it is."""
        if not self.is_recording():
            return
        kind = type(exception)
        text = _text(exception)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        self._add_exception(name, text, _stacktrace(exception), bool(escaped), attributes or None, timestamp)
        self._recorded = (id(exception), text)

    def fail(self, exception: BaseException) -> None:
        """The exception leaves the span's block: records it unless that was done, and sets status and error."""
        if not self.is_recording() or isinstance(exception, GeneratorExit):
            return
        if isinstance(exception, SystemExit) and exception.code in (None, 0):
            return
        text = _text(exception)
        if self._records_exception and self._recorded != (id(exception), text):
            self.record_exception(exception)
        if self._sets_status:
            name = type(exception).__name__
            self.set_attribute("honeyhive_error", text or name)
            self._set_status(StatusCode.ERROR.value, f"{name}: {text}")

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        if exc_val is not None:
            self.fail(exc_val)
        self.end()

    @property
    def kind(self) -> trace.SpanKind:
        """What the span does in its trace."""
        return _KINDS[self._kind_number]

    @property
    def status(self) -> Status:
        """The status so far."""
        code, description = self._status_parts()
        return Status(_CODES[code], description)

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The attributes so far, those that route the span to its session included."""
        return MappingProxyType(self._all_attributes())

    @property
    def resource(self) -> Resource:
        """What the process says of itself."""
        return Resource(MappingProxyType(self._core.resource))

    @property
    def instrumentation_scope(self) -> InstrumentationScope:
        """The library that made the span."""
        scope = self._instrumentation
        return InstrumentationScope(scope.name, scope.version, scope.schema_url, scope.attributes)

    @property
    def instrumentation_info(self) -> InstrumentationScope:
        """The same, under its older name in the SDK."""
        return self.instrumentation_scope

    def to_json(self, indent: int | None = 4) -> str:
        """The span as the SDK's console exporter prints it."""
        return to_json(self, indent)

    _context = property(attrgetter("context"))
    _kind = property(attrgetter("kind"))
    _parent = property(attrgetter("parent"))
    _links = property(attrgetter("links"))
    _start_time = property(attrgetter("start_time"))
    _end_time = property(attrgetter("end_time"))
    _resource = property(attrgetter("resource"))
    _instrumentation_scope = property(attrgetter("instrumentation_scope"))
    _instrumentation_info = property(attrgetter("instrumentation_scope"))
    _name = property(attrgetter("name"), _native.span_replace_name)
    _attributes = property(attrgetter("_attribute_dict"), _native.span_replace_attributes)

    @property
    def _status(self) -> Status:
        return self.status

    @_status.setter
    def _status(self, status: Status | StatusCode) -> None:
        code = status.status_code if isinstance(status, Status) else status
        _native.span_replace_status(self, code.value, getattr(status, "description", None))

    @property
    def _events(self) -> EventList:
        return EventList(self)

    @_events.setter
    def _events(self, events: Iterable[Any]) -> None:
        _native.span_replace_events(self, tuple(events))

    def __repr__(self) -> str:
        context = self.get_span_context()
        ids = f"{trace.format_trace_id(context.trace_id)}-{trace.format_span_id(context.span_id)}"
        return f"<{type(self).__name__} {self.name!r} {ids}>"


_sdk_span: type[Span] | None = None


def span_class() -> type[Span]:
    """The class of new spans. Where OpenTelemetry's SDK is loaded, they are its `ReadableSpan`, too: processors and
    instrumentors ask for that before they look at a span."""
    global _sdk_span
    if _sdk_span is None:
        readable = getattr(sys.modules.get("opentelemetry.sdk.trace"), "ReadableSpan", None)
        if readable is None:
            return Span
        # Every field is ours; without an `__init__`, as `Span` is.
        body = {"__init__": object.__init__, "__module__": Span.__module__, "__doc__": Span.__doc__}
        _sdk_span = type(Span.__name__, (Span, readable), body)
    return _sdk_span


class RemoteSpan(_native.RemoteBase, trace.NonRecordingSpan):
    """The span of another process, as the parent of spans here."""

    # All is done when it is made; a function of Python's own would cost more than the rest.
    __init__ = object.__init__

    @property
    def _context(self) -> trace.SpanContext:  # type: ignore[override]
        return self.get_span_context()


def _text(exception: BaseException) -> str:
    try:
        return str(exception)
    except Exception:
        return f"<{type(exception).__name__} without a text>"


def _stacktrace(exception: BaseException) -> str:
    try:
        return "".join(
            traceback.format_exception(type(exception), exception, exception.__traceback__, limit=-MAX_FRAMES)
        )
    except Exception:
        return _text(exception)


class SpanBlock(Block):
    """A block with a span of its own: `with` starts it and makes it current, the end of the block ends it.

    Works as `async with` too. An exception that leaves the block is recorded on the span and goes on.
    """

    __slots__ = ("_base", "_ends", "_kwargs", "_name", "_otel_tracer")

    def __init__(
        self,
        otel_tracer: OtelTracer,
        tracer: Tracer | None,
        name: str,
        kwargs: dict[str, Any],
        base: Context | None = None,
        ends: bool = True,
    ) -> None:
        self._otel_tracer = otel_tracer
        self.tracer = tracer
        self._name = name
        self._kwargs = kwargs
        self._base = base
        self._ends = ends

    def __enter__(self) -> Span:
        previous = current()
        base = previous if self._base is None else self._base
        self.span = span = self._otel_tracer.start_span(self._name, base, **self._kwargs)
        context = derived(base, SPAN_KEY, span)
        self._enter(context, previous)
        return span

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self._leave()
        # What goes wrong here is ours: the block's own exception, or none, is what its user gets to see.
        try:
            if exc_val is not None and isinstance(self.span, Span):
                self.span.fail(exc_val)
        except Exception:
            _native.report("an exception could not be recorded")
        if self._ends:
            try:
                self.span.end()
            except Exception:
                _native.report("a span could not be ended")

    def _without_span(self) -> Any:
        """Begins the block although there is no span for it."""
        self._context = self._previous = current()
        self.outer = None
        self.span = trace.INVALID_SPAN
        return self.span

    async def __aenter__(self) -> Span:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.__exit__(exc_type, exc_val, exc_tb)
