"""Ended spans as objects of OpenTelemetry's SDK, which has to be installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace.status import Status

__all__ = ["Span", "event", "link", "resource", "scope"]


class Span(ReadableSpan):
    """An ended span, with what was dropped of it."""

    def __init__(
        self,
        name: str,
        context: trace.SpanContext,
        parent: trace.SpanContext | None,
        resource: Resource,
        attributes: Mapping[str, Any],
        events: Sequence[Event],
        links: Sequence[trace.Link],
        kind: trace.SpanKind,
        status: Status,
        start_time: int,
        end_time: int,
        scope: InstrumentationScope,
        *dropped: int,
    ) -> None:
        super().__init__(
            name=name,
            context=context,
            parent=parent,
            resource=resource,
            attributes=attributes,
            events=events,
            links=links,
            kind=kind,
            status=status,
            start_time=start_time,
            end_time=end_time,
            instrumentation_scope=scope,
        )
        self._dropped = dropped

    @property
    def dropped_attributes(self) -> int:
        """How many attributes were dropped."""
        return self._dropped[0]

    @property
    def dropped_events(self) -> int:
        """How many events were dropped."""
        return self._dropped[1]

    @property
    def dropped_links(self) -> int:
        """How many links were dropped."""
        return self._dropped[2]


def resource(attributes: Mapping[str, str]) -> Resource:
    """A resource with these attributes and no others."""
    return Resource(dict(attributes))


def scope(name: str, version: str | None, schema_url: str, attributes: Mapping[str, Any]) -> InstrumentationScope:
    """The library that makes spans; SDKs before 1.28 know no attributes of it."""
    if hasattr(InstrumentationScope, "attributes"):
        return InstrumentationScope(name, version, schema_url, attributes)
    return InstrumentationScope(name, version, schema_url)


def event(name: str, timestamp: int, attributes: Mapping[str, Any], dropped: int) -> Event:
    """An event at this time, in nanoseconds since 1970."""
    return Event(name, _counted(attributes, dropped), timestamp)


def link(context: trace.SpanContext, attributes: Mapping[str, Any], dropped: int) -> trace.Link:
    """A link to another span."""
    made = trace.Link(context)
    made._attributes = _counted(attributes, dropped)
    return made


def _counted(attributes: Mapping[str, Any], dropped: int) -> BoundedAttributes:
    counted = BoundedAttributes(attributes=dict(attributes), immutable=True)
    counted.dropped = dropped
    return counted
