"""A provider of OpenTelemetry's SDK and ours in one process: their spans under ours, and ours under theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import fastapi
import flask
import pytest
import requests
from opentelemetry import trace as otel_trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from recorded import IS_REMOTE, by_name, only_span_of, spans_of
from serving import serving_asgi, serving_wsgi
from tracebaton import (
    Tracer,
    enrich_span,
    enrich_span_context,
    inject_context_into_carrier,
    trace,
    with_distributed_trace_context,
)

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
HEADERS = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01", "baggage": "session_id=theirs,k=v"}


class Sdk:
    """A provider of the SDK, and what it has recorded."""

    def __init__(self, **arguments: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(**arguments)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def spans(self) -> dict[str, ReadableSpan]:
        spans = self._exporter.get_finished_spans()
        named = {span.name: span for span in spans}
        assert len(named) == len(spans)
        return named


@pytest.fixture
def sdk() -> Iterator[Sdk]:
    sdk = Sdk()
    yield sdk
    sdk.provider.shutdown()


@pytest.fixture(params=["the SDK's is global", "ours is global", "none is global"])
def tracer(request: pytest.FixtureRequest, sdk: Sdk, make_tracer: Callable[..., Tracer]) -> Tracer:
    kind: str = request.param
    if kind == "the SDK's is global":
        otel_trace.set_tracer_provider(sdk.provider)
    return make_tracer(set_global=kind == "ours is global")


def ids(span: ReadableSpan) -> tuple[str, str]:
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


def parent_of(span: ReadableSpan) -> str:
    return "" if span.parent is None else f"{span.parent.span_id:016x}"


def test_in_turns(tracer: Tracer, sdk: Sdk) -> None:
    theirs = sdk.provider.get_tracer("theirs")

    @trace(event_name="2 ours", tracer=tracer)
    def second() -> None:
        with theirs.start_as_current_span("3 theirs"):
            # The innermost span is none of ours.
            assert not enrich_span(metadata={"lost": 1}, tracer=tracer)
            with enrich_span_context("4 ours", tracer=tracer):
                assert enrich_span(metadata={"kept": 1}, tracer=tracer)

    with theirs.start_as_current_span("1 theirs"):
        second()
    ours, others = by_name(spans_of(tracer)), sdk.spans()
    assert set(ours) == {"2 ours", "4 ours"}
    assert set(others) == {"1 theirs", "3 theirs"}
    assert ours["2 ours"].parent_id == ids(others["1 theirs"])[1]
    assert parent_of(others["3 theirs"]) == ours["2 ours"].span_id
    assert ours["4 ours"].parent_id == ids(others["3 theirs"])[1]
    assert {span.trace_id for span in ours.values()} == {ids(span)[0] for span in others.values()}
    assert not any(span.flags & IS_REMOTE for span in ours.values())
    assert {span.session for span in ours.values()} == {"own"}
    assert ours["4 ours"].under("metadata") == {"kept": 1}


def test_a_server_of_theirs_with_spans_of_ours(tracer: Tracer, sdk: Sdk) -> None:
    app = flask.Flask("shop")

    @app.get("/agent")
    def agent() -> dict[str, str]:
        with with_distributed_trace_context(flask.request.headers, tracer), enrich_span_context("handled"):
            return inject_context_into_carrier({})

    FlaskInstrumentor().instrument_app(app, tracer_provider=sdk.provider)
    with serving_wsgi(app) as url:
        answer = requests.get(f"{url}/agent", headers=HEADERS, timeout=20).json()
    handled, served = only_span_of(tracer), sdk.spans()["GET /agent"]
    assert ids(served)[0] == handled.trace_id == TRACE_ID
    assert parent_of(served) == SPAN_ID
    assert handled.parent_id == ids(served)[1]
    assert (handled.session, answer["baggage"]) == ("theirs", "session_id=theirs,project=shop,source=dev,k=v")
    assert handled.span_id in answer["traceparent"]


def test_an_async_server_of_theirs_with_spans_of_ours(tracer: Tracer, sdk: Sdk) -> None:
    app = fastapi.FastAPI()

    @app.get("/agent")
    async def agent(request: fastapi.Request) -> dict[str, str]:
        async with with_distributed_trace_context(request.headers, tracer), enrich_span_context("handled"):
            return inject_context_into_carrier({})

    FastAPIInstrumentor.instrument_app(app, tracer_provider=sdk.provider, exclude_spans=["receive", "send"])
    with serving_asgi(app) as url:
        requests.get(f"{url}/agent", headers=HEADERS, timeout=20)
    handled, served = only_span_of(tracer), sdk.spans()["GET /agent"]
    assert (handled.trace_id, handled.parent_id) == ids(served)
    assert handled.trace_id == TRACE_ID
    assert handled.session == "theirs"


def test_a_client_of_theirs_under_spans_of_ours(tracer: Tracer, sdk: Sdk) -> None:
    got: dict[str, str] = {}
    app = flask.Flask("other")

    @app.get("/")
    def index() -> str:
        got.update({name.lower(): value for name, value in flask.request.headers})
        return ""

    RequestsInstrumentor().instrument(tracer_provider=sdk.provider)
    try:
        with serving_wsgi(app) as url, tracer.start_span("call"):
            requests.get(url, timeout=20)
    finally:
        RequestsInstrumentor().uninstrument()
    call, get = only_span_of(tracer), sdk.spans()["GET"]
    assert parent_of(get) == call.span_id
    assert got["traceparent"][3:52] == "-".join(ids(get))
    assert got["baggage"] == "session_id=own,project=shop,source=dev"


def test_the_same_processor_on_both(tracer: Tracer, sdk: Sdk) -> None:
    exporter = InMemorySpanExporter()
    processor = SimpleSpanProcessor(exporter)
    tracer.provider.add_span_processor(processor)
    sdk.provider.add_span_processor(processor)
    with tracer.start_span("ours"), sdk.provider.get_tracer("theirs").start_as_current_span("theirs"):
        pass
    theirs, ours = exporter.get_finished_spans()
    assert (theirs.name, ours.name) == ("theirs", "ours")
    assert parent_of(theirs) == ids(ours)[1]


def test_a_link_from_one_to_the_other(tracer: Tracer, sdk: Sdk) -> None:
    ours = tracer.provider.get_tracer("i").start_span("ours")
    theirs = sdk.provider.get_tracer("i").start_span("theirs", links=[otel_trace.Link(ours.get_span_context())])
    ours.add_link(theirs.get_span_context(), {"k": 1})
    theirs.end()
    ours.end()
    (link,) = only_span_of(tracer).links
    assert (link.trace_id, link.span_id) == ids(sdk.spans()["theirs"])
    assert sdk.spans()["theirs"].links[0].context.span_id == ours.get_span_context().span_id


def test_a_server_that_no_provider_records(make_tracer: Callable[..., Tracer]) -> None:
    """An instrumentor with OpenTelemetry's default provider: what it makes current says where the caller is."""
    tracer = make_tracer()
    app = flask.Flask("shop")

    @app.get("/agent")
    def agent() -> str:
        with with_distributed_trace_context(flask.request.headers, tracer), enrich_span_context("handled"):
            return ""

    FlaskInstrumentor().instrument_app(app)
    with serving_wsgi(app) as url:
        requests.get(f"{url}/agent", headers=HEADERS, timeout=20)
        requests.get(f"{url}/agent", timeout=20)
    first, second = spans_of(tracer)
    assert (first.trace_id, first.parent_id, first.session) == (TRACE_ID, SPAN_ID, "theirs")
    assert first.flags & IS_REMOTE
    assert (second.parent_id, second.session) == ("", "own")


@pytest.mark.parametrize("sampler", ["parentbased_always_on", "always_on"])
def test_spans_that_the_sdk_leaves_out(
    make_tracer: Callable[..., Tracer], sampler: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its word is its traceparent's: a parent-based sampler of ours follows it, another one need not."""
    tracer = make_tracer(sampler=sampler)
    sdk = Sdk(sampler=ALWAYS_OFF)
    with sdk.provider.get_tracer("theirs").start_as_current_span("theirs") as theirs, tracer.start_span("ours"):
        pass
    spans = spans_of(tracer)
    if sampler == "always_on":
        assert [span.parent_id for span in spans] == [f"{theirs.get_span_context().span_id:016x}"]
    else:
        assert spans == []
        assert tracer.stats()["not_sampled"] == 1
        caplog.clear()  # said once, as a warning
    sdk.provider.shutdown()


def test_who_comes_second_is_not_global(sdk: Sdk, make_tracer: Callable[..., Tracer]) -> None:
    otel_trace.set_tracer_provider(sdk.provider)
    tracer = make_tracer(set_global=True)
    assert otel_trace.get_tracer_provider() is sdk.provider
    with tracer.start_span("ours"), otel_trace.get_tracer("i").start_as_current_span("theirs"):
        pass
    assert parent_of(sdk.spans()["theirs"]) == only_span_of(tracer).span_id
