"""A `TraceState` that keeps its text.

OpenTelemetry's class refuses keys that level 2 of the W3C recommendation allows, and writes its members anew. This one
reads by core's rules and gives back what came in, byte for byte, until it is changed.
"""

from __future__ import annotations

from functools import cached_property

from opentelemetry import trace

from tracebaton import _native


class TraceState(trace.TraceState):
    """A tracestate by level 2 of the W3C recommendation."""

    _raw: str

    @classmethod
    def from_raw(cls, text: str) -> TraceState:
        """Takes a text that core has judged."""
        self = cls.__new__(cls)
        self._raw = text
        return self

    @cached_property
    def _dict(self) -> dict[str, str]:  # type: ignore[override]
        return dict(_native.tracestate_members(self._raw))

    def to_header(self) -> str:
        """The text for the header."""
        return self._raw

    def add(self, key: str, value: str) -> TraceState:
        """This state with a new member in front; the last one goes where there are 32. A bad key or value, or a key
        that is there already, changes nothing."""
        return self if key in self._dict else self.update(key, value)

    def update(self, key: str, value: str) -> TraceState:
        """This state with the member in front. A bad key or value changes nothing."""
        changed = _native.tracestate_insert(self._raw, key, value)
        return self if changed is None else self.from_raw(changed)

    def delete(self, key: str) -> TraceState:
        """This state without the member."""
        return self.from_raw(_native.tracestate_delete(self._raw, key)) if key in self._dict else self

    def __reduce__(self) -> tuple[object, ...]:
        return self.from_raw, (self._raw,)
