"""`enrich_session`: fields for a whole session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tracebaton import _native
from tracebaton._context import SCOPE_KEY, current, derived
from tracebaton._registry import choose

if TYPE_CHECKING:
    from tracebaton._tracer import Tracer


def enrich_session_of(tracer: Tracer, session_id: str | None, fields: dict[str, Any]) -> bool:
    """Merges fields into a session of this tracer; whether anything was put."""
    from tracebaton._enrich import enrich

    if session_id is not None and not isinstance(session_id, str):
        raise TypeError(f"session_id must be a str, not {type(session_id).__name__}")
    if session_id is not None:
        _native.check_session_id(session_id)
    fields = {name: value for name, value in fields.items() if value is not None}
    if not fields or not tracer._core.enabled:
        return False
    context = current()
    scope: Any = context.get(SCOPE_KEY)
    if session_id is not None:
        # One that is named is another's to register, and to name.
        scope = _native.Scope.with_session(scope, tracer._core, session_id, None, True)
        context = derived(context, SCOPE_KEY, scope)
    try:
        put = False
        if tracer._core.elsewhere:
            span = tracer._otel_tracer.start_span("enrich_session", context, _records_start=False)
            enrich(span, {**fields, "event_type": "session"})
            put = span._end_elsewhere()
        return _native.enrich_session(tracer._core, scope, session_id is None, fields) or put
    except Exception:
        # What a value's own code raises is not the request's trouble.
        _native.report("a field of a session could not be captured")
        return False


def enrich_session(
    session_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    tracer: Tracer | None = None,
    *,
    inputs: object = None,
    outputs: object = None,
    metrics: object = None,
    feedback: object = None,
    config: object = None,
    user_properties: object = None,
    tracer_instance: Tracer | None = None,
    **named_metadata: Any,
) -> bool:
    """Merges fields into a session, the one that holds here unless one is named: `Tracer.enrich_session` for the tracer
    that is meant here."""
    chosen = choose(tracer if tracer is not None else tracer_instance)
    if chosen is None:
        return False
    return chosen.enrich_session(
        metadata,
        inputs=inputs,
        outputs=outputs,
        metrics=metrics,
        feedback=feedback,
        config=config,
        user_properties=user_properties,
        session_id=session_id,
        **named_metadata,
    )
