"""Trace, span and session ids in log records.

    logging.basicConfig(format="%(levelname)s %(trace_id)s %(session_id)s %(message)s")
    tracebaton.logs.install()

    structlog.configure(processors=[tracebaton.logs.structlog_processor, structlog.processors.JSONRenderer()])

In a configuration of `logging.config.dictConfig`: `"filters": {"trace": {"()": "tracebaton.logs.ContextFilter"}}`.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

from tracebaton import _native
from tracebaton._context import current
from tracebaton._registry import choose
from tracebaton._sessions import session_of
from tracebaton._tracer import Tracer

_NAMES = ("trace_id", "span_id", "session_id")


def ids(tracer: Tracer | None = None) -> dict[str, str]:
    """What holds here: `trace_id` (32 hex digits) and `span_id` (16) of the current span, and `session_id`.

    What there is not is not in it: ids where no span is current, the session where there is no tracer.
    """
    found = {}
    context = current()
    span = get_current_span(context).get_span_context()
    if span.is_valid:
        found["trace_id"] = format_trace_id(span.trace_id)
        found["span_id"] = format_span_id(span.span_id)
    chosen = choose(tracer, context)
    if chosen is not None:
        found["session_id"] = session_of(chosen._core, context)
    return found


class ContextFilter(logging.Filter):
    """Gives log records the attributes `trace_id`, `span_id` and `session_id`, and lets all of them pass.

    It belongs to a handler, which sees the records of all loggers. What there is no id of is an empty text, so that
    formats work everywhere. What a record has under these names already (`extra=`) stays.
    """

    def __init__(self, name: str = "", *, tracer: Tracer | None = None) -> None:
        super().__init__(name)
        if tracer is not None:
            choose(tracer)
        self._tracer = tracer

    def filter(self, record: logging.LogRecord) -> bool:
        """Puts the ids into a record."""
        try:
            found = ids(self._tracer)
        except Exception:
            _native.report("a log record could not be given its ids")
            found = {}
        for name in _NAMES:
            record.__dict__.setdefault(name, found.get(name, ""))
        return True


def install(*handlers: logging.Handler, tracer: Tracer | None = None) -> None:
    """Adds a `ContextFilter` to these handlers, or to those of the root logger; to none twice.

    A `ValueError` says that there is no handler yet, as before `logging.basicConfig()`.
    """
    for handler in handlers:
        if not isinstance(handler, logging.Handler):
            raise TypeError(f"handlers must be a logging.Handler each, not {type(handler).__name__}")
    chosen = handlers or tuple(logging.getLogger().handlers)
    if not chosen:
        raise ValueError(
            "handlers: there is none, and the root logger has none either: call logging.basicConfig() first"
        )
    context_filter = ContextFilter(tracer=tracer)
    for handler in chosen:
        if not any(isinstance(one, ContextFilter) for one in handler.filters):
            handler.addFilter(context_filter)


def structlog_processor(
    logger: Any, method_name: str, event_dict: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A processor of structlog that adds `trace_id`, `span_id` and `session_id`, as far as there are any. What is there
    under these names stays."""
    try:
        for name, value in ids().items():
            event_dict.setdefault(name, value)
    except Exception:
        _native.report("a log event could not be given its ids")
    return event_dict
