"""`honeyhive.tracer.processing`: where the functions for distributed tracing can be had, too."""

from tracebaton._honeyhive.absent import attribute_of as _attribute_of

from .context import (
    enrich_span_context,
    extract_context_from_carrier,
    get_current_baggage,
    inject_context_into_carrier,
    setup_baggage_context,
    with_distributed_trace_context,
)

__getattr__ = _attribute_of(__name__)

__all__ = [
    "enrich_span_context",
    "extract_context_from_carrier",
    "get_current_baggage",
    "inject_context_into_carrier",
    "setup_baggage_context",
    "with_distributed_trace_context",
]
