"""`enrich_span`: fields for the span that is current where it is called."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from opentelemetry.trace import INVALID_SPAN
from opentelemetry.trace import Span as OtelSpan

from tracebaton._context import current
from tracebaton._enrich import own_span
from tracebaton._registry import choose
from tracebaton._tracer import Tracer


class Enriched:
    """What came of `enrich_span`: true if something was put on a span. As a block it yields that span."""

    __slots__ = ("_done", "_span")

    def __init__(self, span: OtelSpan, done: bool) -> None:
        self._span = span
        self._done = done

    def __bool__(self) -> bool:
        return self._done

    def __enter__(self) -> OtelSpan:
        return self._span

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        pass

    def __repr__(self) -> str:
        return f"<Enriched {self._done}>"


def enrich_span(
    more_metadata: Mapping[str, Any] | None = None,
    /,
    *,
    inputs: object = None,
    outputs: object = None,
    metadata: Mapping[str, Any] | None = None,
    metrics: object = None,
    feedback: object = None,
    config: object = None,
    user_properties: object = None,
    error: str | None = None,
    attributes: Mapping[str, Any] | None = None,
    event_type: str | None = None,
    event_name: str | None = None,
    event_id: str | None = None,
    tracer: Tracer | None = None,
    tracer_instance: Tracer | None = None,
    **named_metadata: Any,
) -> Enriched:
    """Puts fields on the current span at once: `Tracer.enrich_span` for the tracer that is meant here.

    The result is true if something was put. `with enrich_span(...) as span:` yields the span; it starts none.
    """
    chosen = choose(tracer if tracer is not None else tracer_instance)
    if chosen is None:
        return Enriched(INVALID_SPAN, False)
    span = own_span(chosen, current())
    done = chosen.enrich_span(
        more_metadata,
        inputs=inputs,
        outputs=outputs,
        metadata=metadata,
        metrics=metrics,
        feedback=feedback,
        config=config,
        user_properties=user_properties,
        error=error,
        attributes=attributes,
        event_type=event_type,
        event_name=event_name,
        event_id=event_id,
        **named_metadata,
    )
    return Enriched(INVALID_SPAN if span is None else span, done)
