"""Ids in log records of `logging` and structlog."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import logging.handlers
import queue
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from opentelemetry.trace import format_span_id, format_trace_id
from tracebaton import Tracer, enrich_span_context, logs, with_distributed_trace_context

Make = Callable[..., Tracer]
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FORMAT = "%(trace_id)s|%(span_id)s|%(session_id)s|%(message)s"


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger with a handler of its own, and what that has written."""
    logger, written = logging.getLogger("tests.logs"), io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logging.Formatter(FORMAT))
    logs.install(handler)
    logger.addHandler(handler)
    logger.propagate = False
    yield logger, written
    logger.removeHandler(handler)
    logger.propagate = True


Log = tuple[logging.Logger, io.StringIO]


def test_a_record_has_the_ids_of_the_span_and_the_session(log: Log, tracer: Tracer) -> None:
    logger, written = log
    logger.warning("outside")
    with enrich_span_context("work") as span:
        logger.warning("inside %s", 1)
        context = span.get_span_context()
    trace_id, span_id = format_trace_id(context.trace_id), format_span_id(context.span_id)
    assert written.getvalue().splitlines() == ["||own|outside", f"{trace_id}|{span_id}|own|inside 1"]


def test_the_session_that_holds(log: Log, tracer: Tracer) -> None:
    logger, written = log
    with with_distributed_trace_context({"traceparent": CALLER, "baggage": "session_id=theirs"}):
        logger.warning("caller")
        with tracer.with_session(session_id="mine"):
            logger.warning("mine")
    assert written.getvalue().splitlines() == [
        f"{CALLER[3:35]}|{CALLER[36:52]}|theirs|caller",
        f"{CALLER[3:35]}|{CALLER[36:52]}|mine|mine",
    ]


def test_without_a_tracer_formats_work(log: Log) -> None:
    logger, written = log
    logger.warning("plain")
    assert written.getvalue() == "|||plain\n"


def test_what_a_record_says_itself_stays(log: Log, tracer: Tracer) -> None:
    logger, written = log
    logger.warning("mine", extra={"session_id": "of the application", "trace_id": 5})
    assert written.getvalue() == "5||of the application|mine\n"


def test_a_queue_takes_the_ids_where_the_record_is_made(tracer: Tracer) -> None:
    records: queue.Queue[Any] = queue.Queue()
    handler = logging.handlers.QueueHandler(records)
    logs.install(handler)
    logger = logging.Logger("queued")
    logger.addHandler(handler)
    with with_distributed_trace_context({"baggage": "session_id=theirs"}):
        logger.warning("x")
    assert records.get_nowait().session_id == "theirs"


def test_a_tracer_of_its_own(make_tracer: Make) -> None:
    make_tracer()
    other = make_tracer(session_id="others")
    record = logging.makeLogRecord({"msg": "x"})
    assert logs.ContextFilter(tracer=other).filter(record) is True
    assert record.__dict__["session_id"] == "others"


def test_install_adds_one_filter_to_the_handlers_of_the_root_logger(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    with pytest.raises(ValueError, match="logging.basicConfig"):
        logs.install()
    handler = logging.StreamHandler(io.StringIO())
    root.handlers.append(handler)
    logs.install()
    logs.install(handler)
    assert [type(one) for one in handler.filters] == [logs.ContextFilter]
    with pytest.raises(TypeError, match="handlers must be a logging.Handler each, not str"):
        logs.install("root")  # type: ignore[arg-type]


def test_in_a_configuration(tracer: Tracer) -> None:
    written = io.StringIO()
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"trace": {"()": "tracebaton.logs.ContextFilter"}},
            "formatters": {"trace": {"format": FORMAT}},
            "handlers": {
                "out": {
                    "class": "logging.StreamHandler",
                    "stream": written,
                    "filters": ["trace"],
                    "formatter": "trace",
                }
            },
            "loggers": {"tests.configured": {"handlers": ["out"], "propagate": False}},
        }
    )
    logging.getLogger("tests.configured").warning("x")
    assert written.getvalue() == "||own|x\n"


def test_nothing_of_ours_fails_a_log_call(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    logger, written = log
    monkeypatch.setattr(logs, "ids", lambda *_: 1 / 0)
    logger.warning("x")
    assert "|||x\n" in written.getvalue()
    assert logs.structlog_processor(None, "info", {"event": "x"}) == {"event": "x"}


def test_structlog(tracer: Tracer) -> None:
    written = io.StringIO()
    logger = structlog.wrap_logger(
        structlog.PrintLogger(written), [logs.structlog_processor, structlog.processors.JSONRenderer()]
    )
    logger.info("outside")
    with enrich_span_context("work") as span:
        logger.info("inside", session_id="of the application")
        context = span.get_span_context()
    outside, inside = (json.loads(line) for line in written.getvalue().splitlines())
    assert outside == {"event": "outside", "session_id": "own"}
    assert inside == {
        "event": "inside",
        "session_id": "of the application",
        "trace_id": format_trace_id(context.trace_id),
        "span_id": format_span_id(context.span_id),
    }
