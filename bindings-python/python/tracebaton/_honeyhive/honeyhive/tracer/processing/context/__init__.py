"""`honeyhive.tracer.processing.context`: the functions for distributed tracing."""

from opentelemetry import baggage as _baggage
from opentelemetry.context.context import Context as _Context

from tracebaton import (
    HoneyHiveTracer,
    _native,
    _registry,
    enrich_span_context,
    extract_context_from_carrier,
    inject_context_into_carrier,
    with_distributed_trace_context,
)
from tracebaton._honeyhive.absent import attribute_of as _attribute_of


def get_current_baggage() -> dict[str, str]:
    """The baggage that a request from here would carry: session, project and source, then everybody else's."""
    carrier: dict[str, str] = inject_context_into_carrier({})
    context = _native.extract(_Context(), carrier, None, None)
    return {name: str(value) for name, value in _baggage.get_all(context).items()}


def setup_baggage_context(tracer_instance: HoneyHiveTracer | None = None) -> None:
    """There is nothing to set up: session, project and source are written wherever a request is made."""
    _registry.choose(tracer_instance)


__getattr__ = _attribute_of(__name__)

__all__ = [
    "enrich_span_context",
    "extract_context_from_carrier",
    "get_current_baggage",
    "inject_context_into_carrier",
    "setup_baggage_context",
    "with_distributed_trace_context",
]
