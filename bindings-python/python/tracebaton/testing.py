"""Helpers for tests of programs that are traced.

With pytest the fixture `tracebaton_spans` is there wherever this package is installed:

    def test_answer(tracebaton_spans):
        answer("why?")
        tracebaton_spans.assert_tree('''
            answer (chain)
              think (model)
        ''')

Elsewhere `with recording() as spans:` does the same.
"""

from __future__ import annotations

import base64
import difflib
import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from opentelemetry import propagate

from tracebaton import _registry
from tracebaton._tracer import Tracer

_KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
_STATUSES = ("unset", "ok", "error")


@dataclass(frozen=True)
class RecordedEvent:
    """An event of a span."""

    name: str
    time_ns: int
    """Nanoseconds since 1970."""
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class RecordedSpan:
    """A span that has ended, as it would be exported."""

    name: str
    trace_id: str
    """32 hex digits."""
    span_id: str
    """16 hex digits."""
    parent_id: str
    """16 hex digits; empty for the root of a trace."""
    kind: str
    """`internal`, `server`, `client`, `producer` or `consumer`."""
    start_ns: int
    """Nanoseconds since 1970."""
    end_ns: int
    """Nanoseconds since 1970."""
    status: str
    """`unset`, `ok` or `error`."""
    status_message: str
    attributes: Mapping[str, Any]
    events: Sequence[RecordedEvent]

    @property
    def event_type(self) -> str | None:
        """HoneyHive's event type."""
        return self.attributes.get("honeyhive_event_type")

    @property
    def error(self) -> str | None:
        """What went wrong, in words."""
        return self.attributes.get("honeyhive_error")

    @property
    def session_id(self) -> str | None:
        """The session that it is in."""
        return self.attributes.get("honeyhive.session_id")

    def under(self, bucket: str) -> dict[str, Any]:
        """What a bucket holds, by the rest of the key: `span.under("inputs")` has `question`."""
        prefix = f"honeyhive_{bucket}."
        return {key.removeprefix(prefix): value for key, value in self.attributes.items() if key.startswith(prefix)}


def spans_of(tracer: Tracer) -> list[RecordedSpan]:
    """The spans of a tracer with `exporter="memory"`, in the order in which they ended."""
    if not isinstance(tracer, Tracer):
        raise TypeError(f"tracer must be a Tracer, not {type(tracer).__name__}")
    return [_span(json.loads(line)) for line in tracer._core.memory()]


def tree(spans: Iterable[RecordedSpan], *, types: bool = True) -> str:
    """The spans as lines of text: one each, indented by two spaces under its parent, in the order in which they began.

    A line is the span's name, its event type in brackets unless `types=False`, and `ERROR` if it failed. A span whose
    parent is not among them is a root.
    """
    ordered = sorted(spans, key=lambda span: span.start_ns)
    known = {span.span_id for span in ordered}
    children: dict[str, list[RecordedSpan]] = {}
    for span in ordered:
        parent = span.parent_id if span.parent_id in known and span.parent_id != span.span_id else ""
        children.setdefault(parent, []).append(span)
    lines = []
    left = [(span, 0) for span in reversed(children.get("", ()))]
    while left:
        span, depth = left.pop()
        kind = f" ({span.event_type})" if types and span.event_type else ""
        lines.append(f"{'  ' * depth}{span.name}{kind}{' ERROR' if span.status == 'error' else ''}")
        left.extend((child, depth + 1) for child in reversed(children.get(span.span_id, ())))
    return "\n".join(lines)


def assert_tree(spans: Iterable[RecordedSpan], expected: str, *, types: bool = True) -> None:
    """Fails with the difference, line by line, unless `tree(spans)` is this text.

    Blank lines at both ends of `expected`, and what all of its lines are indented by, do not count.
    """
    __tracebackhide__ = True
    wanted = [line.rstrip() for line in textwrap.dedent(expected).strip("\n").rstrip().splitlines()]
    found = tree(spans, types=types).splitlines()
    if found != wanted:
        difference = "\n".join(difflib.unified_diff(wanted, found, "expected", "recorded", lineterm="", n=1000))
        raise AssertionError(f"the spans are not the tree that was expected\n{difference}")


class Recording:
    """A block in which the spans of the program are kept in memory: see `recording`."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._arguments = arguments
        self._seen = 0
        self.tracer: Tracer
        """The default tracer inside."""

    @property
    def spans(self) -> list[RecordedSpan]:
        """The spans that have ended since the beginning, or since `clear`, in the order in which they ended."""
        return spans_of(self.tracer)[self._seen :]

    def named(self, name: str) -> RecordedSpan:
        """The span of this name, of which there must be one."""
        __tracebackhide__ = True
        found = [span for span in self.spans if span.name == name]
        if len(found) != 1:
            names = ", ".join(sorted({span.name for span in self.spans})) or "none"
            raise AssertionError(f"there are {len(found)} spans named {name!r}; the names are: {names}")
        return found[0]

    def tree(self, *, types: bool = True) -> str:
        """`tree` of the spans."""
        return tree(self.spans, types=types)

    def assert_tree(self, expected: str, *, types: bool = True) -> None:
        """`assert_tree` for the spans."""
        __tracebackhide__ = True
        assert_tree(self.spans, expected, types=types)

    def clear(self) -> None:
        """Forgets the spans that have ended."""
        self._seen += len(self.spans)

    def __enter__(self) -> Recording:
        self._propagator = propagate.get_global_textmap()
        self._before = _registry._default
        self.tracer = Tracer.init(**self._arguments)
        _registry.set_default_tracer(self.tracer)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.tracer.shutdown(0)
        _registry.set_default_tracer(self._before if self._before in _registry.tracers() else None)
        propagate.set_global_textmap(self._propagator)


def recording(**arguments: Any) -> Recording:
    """A block whose default tracer keeps its spans in memory and sends nothing: `with recording() as spans:`.

    The arguments are those of `Tracer.init`. The default tracer and the propagator from before are there again at its
    end.
    """
    return Recording({"exporter": "memory", "project": "test", "sampler": "always_on", **arguments})


def _span(span: Mapping[str, Any]) -> RecordedSpan:
    status = span.get("status", {})
    return RecordedSpan(
        name=span.get("name", ""),
        trace_id=span["traceId"],
        span_id=span["spanId"],
        parent_id=span.get("parentSpanId", ""),
        kind=_KINDS[span.get("kind", 0)],
        # What is zero is left out in JSON.
        start_ns=int(span.get("startTimeUnixNano", 0)),
        end_ns=int(span.get("endTimeUnixNano", 0)),
        status=_STATUSES[status.get("code", 0)],
        status_message=status.get("message", ""),
        attributes=_attributes(span),
        events=tuple(
            RecordedEvent(event.get("name", ""), int(event.get("timeUnixNano", 0)), _attributes(event))
            for event in span.get("events", ())
        ),
    )


def _attributes(holder: Mapping[str, Any]) -> dict[str, Any]:
    return {pair["key"]: _value(pair.get("value", {})) for pair in holder.get("attributes", ())}


def _value(value: Mapping[str, Any]) -> Any:
    """What an OTLP value holds."""
    for kind, inner in value.items():
        match kind:
            case "intValue":
                return int(inner)
            case "doubleValue":
                return float(inner)
            case "bytesValue":
                return base64.b64decode(inner)
            case "arrayValue":
                return [_value(item) for item in inner.get("values", ())]
            case "kvlistValue":
                return {pair["key"]: _value(pair.get("value", {})) for pair in inner.get("values", ())}
            case _:
                return inner
    return None
