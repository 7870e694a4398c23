"""HoneyHive's fields on spans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.context.context import Context

from tracebaton import _native
from tracebaton._context import current
from tracebaton._span import SPAN_KEY, Span, SpanBlock
from tracebaton._tracer import Tracer, with_session

_BUCKETS = ("inputs", "outputs", "metadata", "metrics", "feedback", "config", "user_properties")


def enrich(span: Span, fields: Mapping[str, Any]) -> bool:
    """Puts fields on a span: buckets, `attributes`, `error`, `event_type`, `event_name`. Whether any was put."""
    some = False
    for bucket in _BUCKETS:
        value = fields.get(bucket)
        if value is not None:
            some |= span._enrich(f"honeyhive_{bucket}", value)
    if not span.is_recording():
        return False
    for name, key in (
        ("event_type", "honeyhive_event_type"),
        ("event_name", "honeyhive_event_name"),
        ("error", "honeyhive_error"),
        ("event_id", "honeyhive_event_id"),
        ("user_id", "honeyhive_user_id"),
        ("session_name", "honeyhive_session_name"),
        ("source", "honeyhive_source"),
        ("project", "honeyhive_project"),
    ):
        value = fields.get(name)
        if value is not None:
            some |= span._set(key, value if isinstance(value, str) else str(value))
    attributes = fields.get("attributes")
    if isinstance(attributes, Mapping):
        for key, value in attributes.items():
            some |= span._set(key, value)
    return some


def own_span(tracer: Tracer, context: Context) -> Span | None:
    """The innermost span of this tracer in a context that is still recorded, seen through those of others."""
    span: Any = context.get(SPAN_KEY)
    while isinstance(span, Span):
        if span._core is tracer._core and span.is_recording():
            return span
        span = span._outer
    return None


class EnrichedBlock(SpanBlock):
    """A block with a span that has HoneyHive's fields."""

    __slots__ = ("_fields", "_session_id")

    def __init__(self, tracer: Tracer, name: str, fields: Mapping[str, Any], session_id: str | None = None) -> None:
        super().__init__(tracer._otel_tracer, tracer, name, {})
        self._fields = {"event_name": name, **fields}
        self._session_id = session_id

    def __enter__(self) -> Span:
        if self._session_id is not None and self.tracer is not None:
            self._base = with_session(current(), self.tracer, self._session_id)
        try:
            span = super().__enter__()
        except Exception:
            _native.report("a span could not be started")
            return self._without_span()  # type: ignore[no-any-return]  # it has a span's methods
        try:
            enrich(span, self._fields)
            if self.tracer is not None and self.tracer._records_starts:
                # Now the inputs are there.
                span._record_start()
        except Exception:
            # What a value's own code raises is not the request's trouble.
            _native.report("a field of a span could not be captured")
        return span
