"""Span trees by name, which is how the tests say what they expect."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from recorded import Recorded

Instrument = Callable[..., contextlib.AbstractContextManager[None]]
"""What the fixture `instrument` is."""


def tree(spans: list[Recorded]) -> list[str]:
    """The spans in the order of their starts, each indented under its parent: `["a", "  b", "  c"]`.

    A span whose parent is not among them is at the left, with a `?` in front of its name if it has one at all.
    """
    ids = {span.span_id for span in spans}
    lines: list[str] = []

    def add(span: Recorded, depth: int) -> None:
        orphan = "? " if span.parent_id and span.parent_id not in ids else ""
        lines.append("  " * depth + orphan + span.name)
        for child in sorted(spans, key=lambda it: it.start_ns):
            if child.parent_id == span.span_id:
                assert child.trace_id == span.trace_id
                add(child, depth + 1)

    for span in sorted(spans, key=lambda it: it.start_ns):
        if span.parent_id not in ids:
            add(span, 0)
    assert len(lines) == len(spans)
    return lines


def sessions(spans: list[Recorded]) -> set[str]:
    """The sessions that the spans are in."""
    return {span.session for span in spans}
