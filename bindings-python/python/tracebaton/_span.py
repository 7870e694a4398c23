"""Spans, as OpenTelemetry's API has them, on a native base."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry import trace
from opentelemetry.trace.status import Status, StatusCode

from tracebaton import _native
from tracebaton._context import Block, current, derived

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


class Resource(NamedTuple):
    """What a process says of itself."""

    attributes: Mapping[str, Any]
    schema_url: str = ""


class InstrumentationScope(NamedTuple):
    """The library that makes spans."""

    name: str
    version: str | None
    schema_url: str | None
    attributes: Mapping[str, Any] | None


class Event(NamedTuple):
    """An event of a span."""

    name: str
    attributes: Mapping[str, Any] | None
    timestamp: int
    """Nanoseconds since 1970."""


class Span(_native.SpanBase, trace.Span):
    """A span of a tracebaton tracer.

    Besides OpenTelemetry's API it has what instrumentors read from the SDK's spans: `name`, `kind`, `status`,
    `attributes`, `events`, `links`, `start_time`, `end_time`, `parent`, `context`, `resource`,
    `instrumentation_scope`.
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
        described: dict[str, Any] = {
            "exception.type": kind.__qualname__
            if kind.__module__ == "builtins"
            else f"{kind.__module__}.{kind.__qualname__}",
            "exception.message": text,
            "exception.stacktrace": _stacktrace(exception),
            "exception.escaped": str(escaped),
        }
        if attributes:
            described.update(attributes)
        self.add_event("exception", described, timestamp)
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
        return _KINDS[self._kind]

    @property
    def status(self) -> Status:
        """The status so far."""
        code, description = self._status()
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

    def __repr__(self) -> str:
        context = self.get_span_context()
        ids = f"{trace.format_trace_id(context.trace_id)}-{trace.format_span_id(context.span_id)}"
        return f"<{type(self).__name__} {self.name!r} {ids}>"


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
