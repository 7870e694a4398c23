"""HoneyHive's fields on spans."""

from __future__ import annotations

from typing import Any

from opentelemetry.context.context import Context

from tracebaton import _native
from tracebaton._span import SPAN_KEY, Span
from tracebaton._tracer import Tracer

enrich = _native.enrich
"""Puts fields on a span: buckets, `attributes`, `error`, `event_type`, `event_name`. Whether any was put."""


def own_span(tracer: Tracer, context: Context) -> Span | None:
    """The innermost span of this tracer in a context that is still recorded, seen through those of others."""
    span: Any = context.get(SPAN_KEY)
    while isinstance(span, Span):
        if span._core is tracer._core and span.is_recording():
            return span
        span = span._outer
    return None
