"""Context across processes: carriers in, carriers out, and OpenTelemetry's propagator interface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from opentelemetry.context.context import Context
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace import SpanKind

from tracebaton import _native
from tracebaton._context import current
from tracebaton._native import Policy
from tracebaton._registry import choose, core_of
from tracebaton._span import SPAN_KEY, RemoteSpan, Span
from tracebaton._tracer import Tracer

_Carrier = TypeVar("_Carrier")


def as_policy(policy: Any) -> Policy | None:
    """A policy as it may be given: an object, or a mapping of its keywords."""
    if policy is None or isinstance(policy, Policy):
        return policy
    if isinstance(policy, Mapping):
        try:
            return Policy(**policy)
        except (TypeError, ValueError) as error:
            raise type(error)(f"policy: {error}") from None
    raise TypeError(f"policy must be a Policy or a mapping, not {type(policy).__name__}")


def inject_context_into_carrier(
    carrier: _Carrier, tracer: Tracer | None = None, *, url: str | None = None, tracer_instance: Tracer | None = None
) -> _Carrier:
    """Writes the current trace, session and baggage into a carrier's headers, and returns the carrier.

    The carrier is any mutable mapping (headers of every framework, `os.environ`) or list of pairs. What it holds of
    our headers, in any letter case, is replaced; a `baggage` that is there is merged. With `url` the outbound policy
    decides what may go there; without it there is no destination, and all of it is written. A carrier that cannot be
    written stays as it is: nothing is raised into a request.
    """
    context = current()
    core = core_of(tracer if tracer is not None else tracer_instance, context)
    if url is not None and not isinstance(url, str):
        raise TypeError(f"url must be a str, not {type(url).__name__}")
    _native.inject(context, carrier, core, url, None)
    return carrier


class TracebatonPropagator(TextMapPropagator):
    """OpenTelemetry's propagator over core's codecs: trace context, session and baggage, strict and without loss.

    Works with a tracer of ours (`tracer`, or the one that is meant where none is given) and without any: an
    application that stays on OpenTelemetry's SDK passes on what came in.
    """

    def __init__(self, tracer: Tracer | None = None) -> None:
        choose(tracer)
        self._tracer = tracer

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        """`context` with what the carrier holds.

        It is for every tracer of the process, unless one was given. Whether the caller's trace goes on is a matter of
        the policy of the tracer that is meant, which also counts what is left out.
        """
        base = current() if context is None else context
        core = None if self._tracer is None else self._tracer._core
        meant = None if core is not None else core_of(None, base)
        policy = None if meant is None else meant.inbound_policy
        if getter is default_getter:
            return _native.extract(base, carrier, core, policy, meant)
        if policy is not None:
            return _native.extract(base, self._read(carrier, getter), None, policy, meant)
        return _native.extract_with_getter(base, carrier, getter, core, meant)

    def _read(self, carrier: Any, getter: Getter[Any]) -> dict[str, list[str]]:
        """What a getter finds of our headers; one that raises finds nothing."""
        found = {}
        for name in self.fields:
            try:
                found[name] = getter.get(carrier, name) or []
            except Exception:
                continue
        return found

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """Writes what `context` holds into the carrier, as the outbound policy lets it.

        The destination is what an instrumentor says of the current client span: `server.address`, `url.full` or
        `http.url`. Where none says anything, all is written.
        """
        base = current() if context is None else context
        core = core_of(None, base) if self._tracer is None else self._tracer._core
        span = base.get(SPAN_KEY)
        # A caller's span says nothing of a destination.
        url = None if type(span) is RemoteSpan else _destination(span)
        _native.inject(base, carrier, core, url, None if setter is default_setter else setter)

    @property
    def fields(self) -> set[str]:
        """The headers that `inject` writes."""
        return {"traceparent", "tracestate", "baggage"}


def _destination(span: Any) -> str | None:
    if span is None or getattr(span, "kind", None) is not SpanKind.CLIENT:
        return None
    attributes = span._attributes if isinstance(span, Span) else getattr(span, "attributes", None)
    if not isinstance(attributes, Mapping):
        return None
    for key in ("url.full", "http.url", "server.address", "net.peer.name"):
        value = attributes.get(key)
        if isinstance(value, str) and value:
            return value
    return None


def is_default_propagator(propagator: TextMapPropagator) -> bool:
    """Whether this is what OpenTelemetry sets up where nobody says anything."""
    # A quarter of what importing this package would take otherwise; who asks has loaded them.
    from opentelemetry.baggage.propagation import W3CBaggagePropagator
    from opentelemetry.propagators.composite import CompositePropagator
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    parts = getattr(propagator, "_propagators", None)
    return (
        type(propagator) is CompositePropagator
        and parts is not None
        and [type(part) for part in parts] == [TraceContextTextMapPropagator, W3CBaggagePropagator]
    )


def install_propagator() -> None:
    """Makes ours the global propagator, unless another was chosen."""
    import os

    if os.environ.get("OTEL_PROPAGATORS"):
        return
    try:
        # Not with this module: it loads what `OTEL_PROPAGATORS` names, which may be this package.
        from opentelemetry import propagate
    except Exception:
        _native.report("OpenTelemetry's propagators could not be loaded")
        return
    if is_default_propagator(propagate.get_global_textmap()):
        propagate.set_global_textmap(TracebatonPropagator())
