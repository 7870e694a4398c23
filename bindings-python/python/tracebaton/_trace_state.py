"""A `TraceState` that keeps its text.

OpenTelemetry's class refuses keys that level 2 of the W3C recommendation allows, and writes its members anew. This one
reads by core's rules and gives back what came in, byte for byte, until it is changed.
"""

from __future__ import annotations

from functools import cached_property

from opentelemetry import trace

from tracebaton import _native


class TraceState(_native.TraceStateBase, trace.TraceState):
    """A tracestate by level 2 of the W3C recommendation."""

    # All is done when it is made.
    __init__ = object.__init__

    @cached_property
    def _dict(self) -> dict[str, str]:  # type: ignore[override]
        return dict(self._members())

    def add(self, key: str, value: str) -> TraceState:
        """This state with a new member in front; the last one goes where there are 32. A bad key or value, or a key
        that is there already, changes nothing."""
        return self if key in self._dict else self.update(key, value)

    def update(self, key: str, value: str) -> TraceState:
        """This state with the member in front. A bad key or value changes nothing."""
        return self._insert(key, value) or self

    def delete(self, key: str) -> TraceState:
        """This state without the member."""
        return self._delete(key)

    def __reduce__(self) -> tuple[object, ...]:
        return self.from_raw, (self.to_header(),)
