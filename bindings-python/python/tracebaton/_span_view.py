"""What OpenTelemetry's SDK offers to those who read a span, and what its processors change in one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry import trace

from tracebaton import _native

if TYPE_CHECKING:
    from tracebaton._span import Span


class Resource(NamedTuple):
    """What a process says of itself."""

    attributes: Mapping[str, Any]
    schema_url: str = ""

    def merge(self, other: Any) -> Resource:
        """This resource with the attributes of another, which win. Of two schemas the first holds."""
        return Resource({**self.attributes, **other.attributes}, self.schema_url or other.schema_url)

    def to_json(self, indent: int | None = 4) -> str:
        """As the SDK's console exporter prints it."""
        import json

        return json.dumps({"attributes": dict(self.attributes), "schema_url": self.schema_url}, indent=indent)

    # Exporters group spans by it. Mappings have no hash of their own.
    def __hash__(self) -> int:
        return hash((frozenset(self.attributes), self.schema_url))


class InstrumentationScope(NamedTuple):
    """The library that makes spans."""

    name: str
    version: str | None
    schema_url: str | None
    attributes: Mapping[str, Any] | None

    def to_json(self, indent: int | None = 4) -> str:
        """As the SDK prints it."""
        import json

        attributes = dict(self.attributes) if self.attributes else None
        return json.dumps({**self._asdict(), "attributes": attributes}, indent=indent)

    def __hash__(self) -> int:
        return hash((self.name, self.version, self.schema_url))


class Event(NamedTuple):
    """An event of a span."""

    name: str
    attributes: Mapping[str, Any] | None
    timestamp: int
    """Nanoseconds since 1970."""
    dropped_attributes: int = 0


class EventList(list[Any]):
    """A span's events for those who change them: what is done to the list is done to the span."""

    def __init__(self, span: Span) -> None:
        super().__init__(span.events)
        self._span = span


def _writing_back(name: str) -> Any:
    change = getattr(list, name)

    def method(self: EventList, *arguments: Any) -> Any:
        result = change(self, *arguments)
        _native.span_replace_events(self._span, self)
        return result

    return method


for _name in ("append", "clear", "extend", "insert", "pop", "remove", "__delitem__", "__iadd__", "__setitem__"):
    setattr(EventList, _name, _writing_back(_name))


def to_json(span: Span, indent: int | None) -> str:
    """A span as the SDK's `ReadableSpan.to_json` writes it."""
    import json

    status: dict[str, Any] = {"status_code": span.status.status_code.name}
    if span.status.description:
        status["description"] = span.status.description
    parent = span.parent
    events = [
        {"name": event.name, "timestamp": _time(event.timestamp), "attributes": dict(event.attributes or {})}
        for event in span.events
    ]
    links = [{"context": _context(link.context), "attributes": dict(link.attributes or {})} for link in span.links]
    fields = {
        "name": span.name,
        "context": _context(span.context),
        "kind": str(span.kind),
        "parent_id": None if parent is None else f"0x{trace.format_span_id(parent.span_id)}",
        "start_time": _time(span.start_time),
        "end_time": _time(span.end_time),
        "status": status,
        "attributes": dict(span.attributes),
        "events": events,
        "links": links,
        "resource": json.loads(span.resource.to_json()),
    }
    # Processors put what they like among the attributes.
    return json.dumps(fields, indent=indent, default=str)


def _context(context: trace.SpanContext) -> dict[str, str]:
    return {
        "trace_id": f"0x{trace.format_trace_id(context.trace_id)}",
        "span_id": f"0x{trace.format_span_id(context.span_id)}",
        "trace_state": repr(context.trace_state),
    }


def _time(time_ns: int | None) -> str | None:
    from datetime import datetime, timezone

    if not time_ns:
        return None
    seconds, rest = divmod(time_ns, 10**9)
    try:
        moment = datetime.fromtimestamp(seconds, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None  # a time that an application gave, past the years that datetime knows
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest // 1000:06}Z"
