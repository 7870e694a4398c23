"""Distributed trace context for AI services.

One request through several services becomes one tree in one session. `Tracer.init()` makes a tracer (also under the
name `HoneyHiveTracer`), `@trace` and `enrich_span_context` record spans, `inject_context_into_carrier` and
`with_distributed_trace_context` carry trace and session to the next service, whatever it is written in.
"""

from tracebaton import _native
from tracebaton._classes import trace_class
from tracebaton._decorate import enrich_span_context, trace
from tracebaton._enrich_session import enrich_session
from tracebaton._enrich_span import enrich_span
from tracebaton._explain import Finding, explain
from tracebaton._native import VERSION as __version__
from tracebaton._native import Policy, extract_context_from_carrier, with_distributed_trace_context
from tracebaton._propagation import TracebatonPropagator, inject_context_into_carrier
from tracebaton._registry import flush, get_tracer, set_default_tracer
from tracebaton._span import Span
from tracebaton._threads import ContextThreadPoolExecutor, patch_threads, unpatch_threads, wrap
from tracebaton._tracer import Tracer

_native.set_up()

HoneyHiveTracer = Tracer
atrace = trace

__all__ = [
    "Finding",
    "ContextThreadPoolExecutor",
    "HoneyHiveTracer",
    "Policy",
    "Span",
    "Tracer",
    "TracebatonPropagator",
    "__version__",
    "atrace",
    "enrich_session",
    "enrich_span",
    "enrich_span_context",
    "explain",
    "extract_context_from_carrier",
    "flush",
    "get_tracer",
    "inject_context_into_carrier",
    "patch_threads",
    "set_default_tracer",
    "trace",
    "trace_class",
    "unpatch_threads",
    "with_distributed_trace_context",
    "wrap",
]
