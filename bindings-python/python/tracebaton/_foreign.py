"""An exporter of OpenTelemetry's SDK as the destination of a tracer: `Tracer.init(exporter=ConsoleSpanExporter())`.

Spans wait in a native queue as OTLP bytes, like all others; a thread of Python's takes them out by the same rules for
batches, makes the objects of them that exporters know, and calls the exporter, never twice at the same time.
"""

from __future__ import annotations

import contextvars
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import MappingProxyType
from typing import Any, Protocol

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace.status import Status, StatusCode

from tracebaton import _native
from tracebaton._span_view import Event, InstrumentationScope, Resource

FORK_SECONDS = 0.1
"""How long a fork waits for an exporter that is at work."""

_KINDS = tuple(trace.SpanKind)
_CODES = (StatusCode.UNSET, StatusCode.OK, StatusCode.ERROR)
_SUPPRESSED = otel_context.set_value(otel_context._SUPPRESS_INSTRUMENTATION_KEY, True, otel_context.Context())
_workers: weakref.WeakSet[ForeignWorker] = weakref.WeakSet()


class _Flush:
    """Someone who waits."""

    __slots__ = ("deadline", "flushed", "native", "shutdown", "told")

    def __init__(self, native: _native.ForeignFlush, shutdown: bool, deadline: float) -> None:
        self.native = native
        self.shutdown = shutdown
        self.deadline = deadline
        self.told: SimpleQueue[None] = SimpleQueue()
        """Something was delivered or dropped."""
        self.flushed: bool | None = None
        """Whether the exporter itself has delivered all that it took, once it was asked."""


class ForeignWorker:
    """Calls one exporter from a thread of its own, which runs while there is something to do.

    A `SimpleQueue` wakes the thread, and who waits for it: nothing else can be used while Python collects garbage,
    which may end spans at any time. A forked child has its own queue, and a thread when it first needs one.
    """

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter
        self._warned = False
        self._wants_shutdown = False
        self._is_shut_down = False
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._inbox: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._flushes: list[_Flush] = []
        self._is_parked = False

    def attach(self, queue: _native.ForeignQueue, resource: Mapping[str, str]) -> None:
        """Takes the queue that is to be emptied, and what its spans' resource says."""
        self._queue = queue
        self._spans = _Spans(resource)
        _workers.add(self)

    def wake(self) -> None:
        """Has the thread look at its queue, and starts it if it does not run."""
        self._inbox.put(None)
        if self._is_parked or (self._thread is not None and self._thread.is_alive()):
            return
        self._thread = threading.Thread(target=self._run, name="tracebaton-exporter", daemon=True)
        try:
            # It belongs to no request.
            contextvars.Context().run(self._thread.start)
        except RuntimeError:
            # Python 3.12 starts none at exit: a flush does the work itself.
            self._thread = None

    def begin(self, shutdown: bool, seconds: float) -> _Flush:
        """Begins a flush or a shutdown of what is queued by now, which has so many seconds."""
        self._wants_shutdown |= shutdown and not self._is_shut_down
        flush = _Flush(self._queue.begin(shutdown), shutdown, time.monotonic() + seconds)
        self._flushes.append(flush)
        self.wake()
        return flush

    def finish(self, flush: _Flush, seconds: float) -> bool:
        """Waits until a flush is over, so many seconds at most: whether all was delivered."""
        deadline = time.monotonic() + seconds
        # An exporter that flushes would wait for itself.
        is_own = threading.current_thread() is self._thread
        try:
            if self._thread is None:
                self._work()
            while not (is_own or self._is_over(flush)):
                try:
                    flush.told.get(timeout=max(deadline - time.monotonic(), 0))
                except Empty:
                    break
        finally:
            self._flushes.remove(flush)
            done = self._queue.end(flush.native)
        return done and (flush.shutdown or flush.flushed is True)

    def _is_over(self, flush: _Flush) -> bool:
        if not self._queue.is_over(flush.native):
            return False
        return self._is_shut_down if flush.shutdown else flush.flushed is not None

    def close(self) -> None:
        """The tracer is gone: what is queued gets one attempt, and the thread ends."""
        self._queue.close()
        if self._thread is not None or not self._queue.is_finished():
            self.wake()

    def _run(self) -> None:
        while True:
            seconds = self._work()
            if self._is_parked or self._queue.is_finished():
                break
            try:
                self._inbox.get(timeout=seconds)
                while True:
                    self._inbox.get_nowait()
            except Empty:
                pass
        self._thread = None
        # Who put something into the queue since then saw a thread.
        if not (self._is_parked or self._queue.is_empty()):
            self.wake()

    def _work(self) -> float | None:
        """Exports what is due. Returns for how many seconds the next batch is to wait, if there is one."""
        seconds = None
        while not self._is_parked:
            batch, seconds = self._queue.poll()
            if batch is None:
                break
            self._deliver(batch)
            self._tell()
            self._flush()
        self._flush()
        if self._wants_shutdown and self._queue.is_finished():
            self._wants_shutdown = False
            failure = self._called(self._exporter.shutdown)
            if failure is not None:
                _native.report(f"exporter {type(self._exporter).__name__}: at its shutdown {failure}")
            self._is_shut_down = True
            self._tell()
        return seconds

    def _flush(self) -> None:
        """Asks the exporter to deliver what it took, for those who wait and whose spans it has by now."""
        over = [
            flush
            for flush in list(self._flushes)
            if not flush.shutdown and flush.flushed is None and self._queue.is_over(flush.native)
        ]
        if not over or self._is_parked:
            return
        done = True
        function = getattr(self._exporter, "force_flush", None)
        if callable(function) and not self._is_shut_down:
            left = max(flush.deadline for flush in over) - time.monotonic()
            answers: list[Any] = []
            failure = self._called(lambda: answers.append(function(max(int(left * 1_000), 0))))
            if failure is not None:
                _native.report(f"exporter {type(self._exporter).__name__}: at a flush {failure}")
            # Exporters that have nothing to say return nothing.
            done = failure is None and answers[0] is not False
        for flush in over:
            flush.flushed = done
        self._tell()

    def _tell(self) -> None:
        for flush in list(self._flushes):
            flush.told.put(None)

    def _deliver(self, batch: _native.ForeignBatch) -> None:
        failure: str | None = "it was interrupted"
        try:
            failure = self._called(lambda: self._exporter.export(self._spans.of(batch)))
        finally:
            # Said first: who waits for the batch may be the end of the program.
            if failure is not None and not self._warned:
                _native.report(f"exporter {type(self._exporter).__name__}: {failure}; spans are dropped and counted")
            self._warned = failure is not None
            self._queue.answered(batch, failure)

    def _called(self, function: Callable[[], Any]) -> str | None:
        """Calls the exporter; if it fails, returns why. Its own requests are no part of any trace."""
        context = contextvars.Context()
        context.run(otel_context.attach, _SUPPRESSED)
        try:
            result = context.run(function)
        except BaseException as error:
            # An exit, or Ctrl-C, ends nothing but this where the thread is ours.
            if not isinstance(error, Exception) and threading.current_thread() is not self._thread:
                raise
            return f"it raised {type(error).__name__}"
        return "it says FAILURE" if getattr(result, "name", None) == "FAILURE" else None

    def park(self) -> threading.Thread | None:
        """Tells the thread to end, since a fork is near: the thread, if there is one to be waited for."""
        thread = self._thread
        self._is_parked = True
        self._inbox.put(None)
        return None if thread is threading.current_thread() else thread

    def unpark(self) -> None:
        """Goes on after a fork, in the parent."""
        self._is_parked = False
        if self._flushes or not self._queue.is_empty():
            self.wake()


class Exporter(Protocol):
    """OpenTelemetry's `SpanExporter`, as far as it is used here."""

    def export(self, spans: Sequence[Any], /) -> Any:
        """Sends these spans; a result that is named FAILURE says that they are lost."""

    def shutdown(self) -> Any:
        """Ends it."""


def is_exporter(candidate: object) -> bool:
    """Whether this is an exporter of spans: an object, not a class, with the functions of OpenTelemetry's interface."""
    return not isinstance(candidate, type) and all(
        callable(getattr(candidate, name, None)) for name in ("export", "shutdown")
    )


@dataclass(frozen=True)
class PlainSpan:
    """An ended span where OpenTelemetry's SDK is not installed; its fields are those of the SDK's `ReadableSpan`."""

    name: str
    context: trace.SpanContext
    parent: trace.SpanContext | None
    resource: Any
    attributes: Mapping[str, Any]
    events: Sequence[Any]
    links: Sequence[trace.Link]
    kind: trace.SpanKind
    status: Status
    start_time: int
    """Nanoseconds since 1970."""
    end_time: int
    """Nanoseconds since 1970."""
    instrumentation_scope: Any
    dropped_attributes: int
    dropped_events: int
    dropped_links: int

    def get_span_context(self) -> trace.SpanContext:
        """The span's own context."""
        return self.context


class _Spans:
    """Makes the objects that exporters know: the SDK's own, if it is installed."""

    def __init__(self, resource: Mapping[str, str]) -> None:
        try:
            from tracebaton import _readable
        except ImportError:
            self._kinds: Any = None
            self._resource: Any = Resource(MappingProxyType(dict(resource)))
        else:
            self._kinds = _readable
            self._resource = _readable.resource(resource)

    def of(self, batch: _native.ForeignBatch) -> list[Any]:
        """The spans of a batch."""
        return list(self._each(batch))

    def _each(self, batch: _native.ForeignBatch) -> Iterator[Any]:
        kinds = self._kinds
        for (scope_name, version, schema_url, scope_attributes), spans in batch.runs():
            make_scope = InstrumentationScope if kinds is None else kinds.scope
            scope = make_scope(scope_name, version or None, schema_url, scope_attributes)
            for fixed, (attributes, events, links), (code, description), dropped in spans:
                name, context, parent, kind, start_time, end_time = fixed
                status = Status(_CODES[code], description or None)
                make_event, make_link = (_event, _link) if kinds is None else (kinds.event, kinds.link)
                parts = (
                    name,
                    context,
                    parent,
                    self._resource,
                    attributes,
                    tuple(make_event(*event) for event in events),
                    tuple(make_link(*link) for link in links),
                    _KINDS[kind],
                    status,
                    start_time,
                    end_time,
                    scope,
                    *dropped,
                )
                yield PlainSpan(*parts) if kinds is None else kinds.Span(*parts)


def _event(name: str, timestamp: int, attributes: Mapping[str, Any], _: int) -> Event:
    return Event(name, attributes, timestamp)


def _link(context: trace.SpanContext, attributes: Mapping[str, Any], _: int) -> trace.Link:
    return trace.Link(context, attributes)


def _before_fork() -> None:
    threads = [thread for worker in list(_workers) if (thread := worker.park()) is not None]
    deadline = time.monotonic() + FORK_SECONDS
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))


def _after_fork_in_parent() -> None:
    for worker in list(_workers):
        worker.unpark()


def _after_fork_in_child() -> None:
    for worker in list(_workers):
        worker._begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
