"""The ids by which HoneyHive knows an experiment, on what a tracer records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from opentelemetry.context.context import Context

from tracebaton import _native
from tracebaton._context import current
from tracebaton._sessions import session_of

if TYPE_CHECKING:
    from tracebaton._span import Span

IDS = ("run_id", "dataset_id", "datapoint_id")
"""The arguments of `init` that name them."""


class ExperimentProcessor:
    """A span processor that puts the ids into the metadata of every span, and of the tracer's own session at HoneyHive
    when that has its first span. It holds no tracer: the tracer holds it."""

    def __init__(self, ids: Mapping[str, str]) -> None:
        self._ids = dict(ids)
        self._attributes = {f"honeyhive_metadata.{name}": value for name, value in ids.items()}
        self._is_told = False

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Sets the attributes; metadata of the span itself may replace them."""
        span.set_attributes(self._attributes)
        if self._is_told:
            return
        context = current() if parent_context is None else parent_context
        if session_of(span._core, context) == span._core.session_id:
            self._is_told = True
            _native.enrich_session(span._core, None, True, {"metadata": self._ids})

    def on_end(self, span: Span) -> None:
        """Nothing is to be done."""

    def shutdown(self) -> None:
        """Nothing is held."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is held."""
        return True
