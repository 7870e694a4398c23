"""More contrib instrumentors: of threads, of log records, and of aiohttp's client."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import flask
import pytest
from instrumented import Instrument, sessions, tree
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.instrumentation.logging import LoggingInstrumentor
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from recorded import by_name, spans_of
from serving import serving_wsgi
from tracebaton import Tracer, enrich_span_context, with_distributed_trace_context

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_threads_and_pools(instrument: Instrument, tracer: Tracer) -> None:
    def work() -> None:
        with enrich_span_context("inner", tracer=tracer):
            pass

    headers = {"traceparent": CALLER, "baggage": "session_id=theirs"}
    with instrument(ThreadingInstrumentor()), with_distributed_trace_context(headers, tracer):
        with tracer.start_span("outer"), ThreadPoolExecutor(1) as pool:
            pool.submit(work).result()
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
    spans = spans_of(tracer)
    assert tree(spans) == ["? outer", "  inner", "  inner"]
    assert sessions(spans) == {"theirs"}


def test_log_records(instrument: Instrument, tracer: Tracer, caplog: pytest.LogCaptureFixture) -> None:
    with instrument(LoggingInstrumentor(), set_logging_format=True), tracer.start_span("s") as span:
        logging.getLogger("of the application").warning("said")
    (record,) = caplog.records
    assert record.otelTraceID == f"{span.context.trace_id:032x}"  # type: ignore[attr-defined]
    assert record.otelSpanID == f"{span.context.span_id:016x}"  # type: ignore[attr-defined]
    assert record.otelServiceName == span.resource.attributes["service.name"]  # type: ignore[attr-defined]


def test_aiohttps_client(instrument: Instrument, tracer: Tracer) -> None:
    got: dict[str, str] = {}
    app = flask.Flask("other")

    @app.get("/")
    def index() -> str:
        got.update({name.lower(): value for name, value in flask.request.headers})
        return ""

    async def get(url: str) -> None:
        async with tracer.start_span("call"), aiohttp.ClientSession() as session:
            async with session.get(url) as response:
                await response.read()

    with instrument(AioHttpClientInstrumentor()), serving_wsgi(app) as url:
        asyncio.run(get(url))
    spans = spans_of(tracer)
    assert tree(spans) == ["call", "  GET"]
    get_span = by_name(spans)["GET"]
    assert got["traceparent"][3:52] == f"{get_span.trace_id}-{get_span.span_id}"
    assert got["baggage"] == "session_id=the%20session,project=shop,source=dev"
