"""`create_event`: a span with the times that it is given."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import format_span_id

from tracebaton import _native
from tracebaton._context import SCOPE_KEY, current, derived

if TYPE_CHECKING:
    from tracebaton._provider import OtelTracer

_MILLI = 1_000_000
_END_OF_TIME = 2**63 - 1
"""The last nanosecond since 1970 that a span can have."""
_FIELDS = frozenset(
    {
        "attributes",
        "config",
        "error",
        "event_id",
        "feedback",
        "inputs",
        "metadata",
        "metrics",
        "outputs",
        "project",
        "source",
        "user_properties",
    }
)


class Events:
    """What a tracer does about events that are told of afterwards."""

    _core: _native.Core
    _otel_tracer: OtelTracer

    def create_event(
        self,
        event_name: str | Mapping[str, Any],
        *,
        event_type: str = "tool",
        start_time: float | None = None,
        end_time: float | None = None,
        duration: float | None = None,
        session_id: str | None = None,
        **fields: Any,
    ) -> str | None:
        """Records something that has happened, as a span in the trace and session that hold here.

        `start_time` and `end_time` are milliseconds since 1970, `duration` is milliseconds. Of the three, what is not
        given follows from the others; an event of which only the start is known has no duration, one without any of
        them is now. The other keywords are those of `enrich_span_context`: `inputs`, `outputs`, `metadata`, `metrics`,
        `feedback`, `config`, `user_properties`, `error`, `attributes`. A mapping in place of the name holds the name as
        `event_name`, and the keywords. `session_id` puts it into another session.

        Returns the id of the span; `None` where it is not recorded.
        """
        if isinstance(event_name, Mapping):
            given = {"event_name": "event", "event_type": event_type, **event_name}
            for name, value in (
                ("start_time", start_time),
                ("end_time", end_time),
                ("duration", duration),
                ("session_id", session_id),
            ):
                if value is not None:
                    given[name] = value
            return self.create_event(given.pop("event_name"), **{**given, **fields})
        for name, text in (("event_name", event_name), ("event_type", event_type), ("session_id", session_id)):
            if not isinstance(text, str) and not (text is None and name == "session_id"):
                raise TypeError(f"{name} must be a str, not {type(text).__name__}")
        for name in fields:
            if name not in _FIELDS:
                raise TypeError(f"create_event() got an unexpected keyword argument {name!r}")
        begin, end = _times(start_time, end_time, duration)
        context = current()
        if session_id:
            _native.check_session_id(session_id)
            scope: Any = context.get(SCOPE_KEY)
            context = derived(context, SCOPE_KEY, _native.Scope.with_session(scope, self._core, session_id))
        try:
            from tracebaton._enrich import enrich

            span = self._otel_tracer.start_span(event_name, context, start_time=begin, _records_start=False)
            if not span.is_recording():
                return None
            enrich(span, {**fields, "event_type": event_type, "event_name": event_name})
            span.end(end)
            return format_span_id(span.get_span_context().span_id)
        except Exception:
            # What a value's own code raises is not the request's trouble.
            _native.report("an event could not be captured")
            return None


def _times(start: object, end: object, duration: object) -> tuple[int, int]:
    """Begin and end in nanoseconds since 1970."""
    begin_ns, end_ns, length = (
        _nanos("start_time", start),
        _nanos("end_time", end),
        _nanos("duration", duration),
    )
    if end_ns is None and begin_ns is None:
        end_ns = time.time_ns()
    if begin_ns is None:
        assert end_ns is not None
        begin_ns = max(end_ns - (length or 0), 0)
    if end_ns is None:
        end_ns = min(begin_ns + (length or 0), _END_OF_TIME)
    return begin_ns, max(begin_ns, end_ns)


def _nanos(name: str, millis: object) -> int | None:
    if millis is None:
        return None
    if isinstance(millis, bool) or not isinstance(millis, (int, float)):
        raise TypeError(f"{name} must be a number of milliseconds, not {type(millis).__name__}")
    if not 0 <= millis <= _END_OF_TIME // _MILLI:
        raise ValueError(f"{name} must be a number of milliseconds from 0 on")
    return int(millis * _MILLI)
