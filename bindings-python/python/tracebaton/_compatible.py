"""Names of HoneyHive's tracer for what has another name here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from opentelemetry import baggage
from opentelemetry.context.context import Context

from tracebaton import _native, _registry
from tracebaton._context import current, set_current

if TYPE_CHECKING:
    from tracebaton._propagation import TracebatonPropagator
    from tracebaton._provider import OtelTracer
    from tracebaton._tracer import Tracer

_Carrier = TypeVar("_Carrier")


class Compatible:
    """Methods and attributes that programs written for HoneyHive's tracer use."""

    _core: _native.Core
    _otel_tracer: OtelTracer

    @property
    def project_name(self) -> str | None:
        """`project`."""
        return self._core.project

    @property
    def source_environment(self) -> str:
        """`source`."""
        return self._core.source

    @property
    def tracer(self) -> OtelTracer:
        """OpenTelemetry's tracer, which the spans of this one come from."""
        return self._otel_tracer

    @property
    def propagator(self) -> TracebatonPropagator:
        """A `TracebatonPropagator` for this tracer."""
        from tracebaton._propagation import TracebatonPropagator

        return TracebatonPropagator(self._self)

    def inject_context(self, carrier: _Carrier) -> _Carrier:
        """`inject_context_into_carrier` for this tracer."""
        from tracebaton._propagation import inject_context_into_carrier

        return inject_context_into_carrier(carrier, self._self)

    inject = inject_context

    def extract_context(self, carrier: object) -> Context:
        """`extract_context_from_carrier` for this tracer."""
        return _native.extract_context_from_carrier(carrier, self._self)

    def link(self, carrier: object) -> _native.DistributedContext:
        """Goes on in the trace and session of whoever sent the carrier, until `unlink` with what this returns.

        `with_distributed_trace_context` does the same for a block, and needs no `unlink`.
        """
        block = _native.with_distributed_trace_context(carrier, self._self)
        block.__enter__()
        return block

    def unlink(self, token: _native.DistributedContext) -> None:
        """Goes back to where `link` was called."""
        if not hasattr(token, "_leave"):
            raise TypeError(f"token must be what link() returned, not {type(token).__name__}")
        token._leave()

    def get_baggage(self, key: str) -> str | None:
        """The value of a member of OpenTelemetry's baggage, if it is a text."""
        value = baggage.get_baggage(key, current())
        return value if isinstance(value, str) else None

    def set_baggage(self, key: str, value: str) -> None:
        """Sets a member of OpenTelemetry's baggage, until the block around it ends."""
        for name, text in (("key", key), ("value", value)):
            if not isinstance(text, str):
                raise TypeError(f"{name} must be a str, not {type(text).__name__}")
        set_current(baggage.set_baggage(key, value, current()))

    @staticmethod
    def flush_all(timeout_millis: float = 30_000) -> bool:
        """`flush` for all tracers: True only if all of it was delivered within the time."""
        return _registry.flush(timeout_millis=timeout_millis)

    @property
    def _self(self) -> Tracer:
        this: Any = self
        return this  # type: ignore[no-any-return]
