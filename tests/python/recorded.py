"""Spans as the tests look at them, read from OTLP: JSON (exporter "memory") or protobuf (the collector)."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2
from tracebaton import Tracer

HAS_IS_REMOTE = 0x100
IS_REMOTE = 0x200
ROUTING = (
    "honeyhive.session_id",
    "honeyhive.session_name",
    "honeyhive.session_auto_create",
    "honeyhive.project",
    "honeyhive.source",
    "session.id",
)


@dataclass
class RecordedEvent:
    name: str
    time_ns: int
    attributes: dict[str, Any]
    dropped_attributes: int


@dataclass
class RecordedLink:
    trace_id: str
    span_id: str
    trace_state: str
    flags: int
    attributes: dict[str, Any]
    dropped_attributes: int


@dataclass
class Recorded:
    """A span that was exported. Ids are lower-case hex; `parent_id` is empty for a root."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: int
    start_ns: int
    end_ns: int
    trace_state: str
    flags: int
    status: int
    message: str
    attributes: dict[str, Any]
    events: list[RecordedEvent]
    links: list[RecordedLink]
    dropped_attributes: int = 0
    dropped_events: int = 0
    dropped_links: int = 0
    resource: dict[str, Any] = field(default_factory=dict)
    scope: str = ""

    @property
    def session(self) -> Any:
        return self.attributes.get("honeyhive.session_id")

    @property
    def source(self) -> Any:
        return self.attributes.get("honeyhive.source")

    @property
    def project(self) -> Any:
        return self.attributes.get("honeyhive.project")

    @property
    def error(self) -> Any:
        return self.attributes.get("honeyhive_error")

    @property
    def exceptions(self) -> list[RecordedEvent]:
        return [event for event in self.events if event.name == "exception"]

    def under(self, bucket: str) -> dict[str, Any]:
        """The attributes of a bucket, by what follows its name: `under("inputs")`."""
        prefix = f"honeyhive_{bucket}."
        return {key.removeprefix(prefix): value for key, value in self.attributes.items() if key.startswith(prefix)}


def spans_of(tracer: Tracer) -> list[Recorded]:
    """What a tracer with `exporter="memory"` has recorded, in the order of the ends."""
    return [from_json(json.loads(line)) for line in tracer._core.memory()]


def only_span_of(tracer: Tracer) -> Recorded:
    spans = spans_of(tracer)
    assert len(spans) == 1, [span.name for span in spans]
    return spans[0]


def by_name(spans: list[Recorded]) -> dict[str, Recorded]:
    """The spans by their names, which must differ."""
    named = {span.name: span for span in spans}
    assert len(named) == len(spans), [span.name for span in spans]
    return named


def from_json(span: dict[str, Any]) -> Recorded:
    status = span.get("status", {})
    return Recorded(
        trace_id=span["traceId"],
        span_id=span["spanId"],
        parent_id=span.get("parentSpanId", ""),
        name=span.get("name", ""),
        kind=span.get("kind", 0),
        # What is zero is left out in JSON.
        start_ns=int(span.get("startTimeUnixNano", "0")),
        end_ns=int(span.get("endTimeUnixNano", "0")),
        trace_state=span.get("traceState", ""),
        flags=span.get("flags", 0),
        status=status.get("code", 0),
        message=status.get("message", ""),
        attributes=_json_attributes(span),
        events=[
            RecordedEvent(
                event.get("name", ""),
                int(event["timeUnixNano"]),
                _json_attributes(event),
                event.get("droppedAttributesCount", 0),
            )
            for event in span.get("events", [])
        ],
        links=[
            RecordedLink(
                link["traceId"],
                link["spanId"],
                link.get("traceState", ""),
                link.get("flags", 0),
                _json_attributes(link),
                link.get("droppedAttributesCount", 0),
            )
            for link in span.get("links", [])
        ],
        dropped_attributes=span.get("droppedAttributesCount", 0),
        dropped_events=span.get("droppedEventsCount", 0),
        dropped_links=span.get("droppedLinksCount", 0),
    )


def from_protobuf(span: trace_pb2.Span) -> Recorded:
    return Recorded(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        name=span.name,
        kind=span.kind,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        trace_state=span.trace_state,
        flags=span.flags,
        status=span.status.code,
        message=span.status.message,
        attributes=protobuf_attributes(span.attributes),
        events=[
            RecordedEvent(
                event.name,
                event.time_unix_nano,
                protobuf_attributes(event.attributes),
                event.dropped_attributes_count,
            )
            for event in span.events
        ],
        links=[
            RecordedLink(
                link.trace_id.hex(),
                link.span_id.hex(),
                link.trace_state,
                link.flags,
                protobuf_attributes(link.attributes),
                link.dropped_attributes_count,
            )
            for link in span.links
        ],
        dropped_attributes=span.dropped_attributes_count,
        dropped_events=span.dropped_events_count,
        dropped_links=span.dropped_links_count,
    )


def _json_attributes(holder: dict[str, Any]) -> dict[str, Any]:
    return json_attributes(holder.get("attributes", []))


def json_attributes(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    out = {pair["key"]: _json_value(pair.get("value", {})) for pair in pairs}
    assert len(out) == len(pairs), "a key comes twice"
    return out


def _json_value(value: dict[str, Any]) -> Any:
    if not value:
        return None
    ((kind, inner),) = value.items()
    match kind:
        case "intValue":
            assert isinstance(inner, str), "int64 is a string in OTLP/JSON"
            return int(inner)
        case "doubleValue":
            return float(inner)
        case "bytesValue":
            return base64.b64decode(inner)
        case "arrayValue":
            return [_json_value(item) for item in inner.get("values", [])]
        case "kvlistValue":
            return {pair["key"]: _json_value(pair.get("value", {})) for pair in inner.get("values", [])}
        case _:
            return inner


def protobuf_attributes(pairs: Any) -> dict[str, Any]:
    out = {pair.key: _protobuf_value(pair.value) for pair in pairs}
    assert len(out) == len(pairs), "a key comes twice"
    return out


def _protobuf_value(value: AnyValue) -> Any:
    match value.WhichOneof("value"):
        case None:
            return None
        case "array_value":
            return [_protobuf_value(item) for item in value.array_value.values]
        case "kvlist_value":
            pairs: list[KeyValue] = list(value.kvlist_value.values)
            return {pair.key: _protobuf_value(pair.value) for pair in pairs}
        case kind:
            return getattr(value, kind)
