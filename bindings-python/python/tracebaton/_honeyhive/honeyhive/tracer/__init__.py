"""`honeyhive.tracer`: the tracer, its decorators and the functions around its life."""

from __future__ import annotations

from typing import Any as _Any

from opentelemetry import trace as _otel_trace

from tracebaton import (
    HoneyHiveTracer,
    _registry,
    atrace,
    enrich_session,
    enrich_span,
    flush,
    set_default_tracer,
    trace,
    trace_class,
)
from tracebaton._honeyhive.absent import attribute_of as _attribute_of
from tracebaton._registry import get_default_tracer

from . import processing


def clear_registry() -> None:
    """Forgets which tracer is the default one; the next that is made becomes it. Nothing is shut down."""
    _registry.clear_default()


def shutdown_tracer(tracer_instance: HoneyHiveTracer) -> bool:
    """Delivers what the tracer has recorded and ends it. True only if all of it was delivered."""
    chosen = _registry.choose(tracer_instance)
    return chosen is not None and chosen.shutdown()


def graceful_shutdown_all(timeout_millis: float = 30_000) -> bool:
    """`shutdown_tracer` for every tracer of the process, within one time limit."""
    return _registry.shutdown_all(timeout_millis)


def set_global_provider(provider: _Any) -> None:
    """Makes a provider OpenTelemetry's global one, where none is set."""
    _otel_trace.set_tracer_provider(provider)


def get_global_provider() -> _Any:
    """OpenTelemetry's global provider."""
    return _otel_trace.get_tracer_provider()


_absent = _attribute_of(__name__)


def __getattr__(name: str) -> _Any:
    if name == "HoneyHiveSpanProcessor":
        # Not at import: it needs OpenTelemetry's SDK, and nothing else does.
        from tracebaton._honeyhive.processor import HoneyHiveSpanProcessor

        return HoneyHiveSpanProcessor
    return _absent(name)


__all__ = [
    "HoneyHiveTracer",
    "atrace",
    "clear_registry",
    "enrich_session",
    "enrich_span",
    "flush",
    "get_default_tracer",
    "get_global_provider",
    "graceful_shutdown_all",
    "processing",
    "set_default_tracer",
    "set_global_provider",
    "shutdown_tracer",
    "trace",
    "trace_class",
]
