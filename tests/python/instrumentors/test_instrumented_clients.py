"""The contrib instrumentors of HTTP clients: a span for the request, and the session with it where it may go."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from typing import Any

import flask
import httpx
import pytest
import requests
from instrumented import Instrument, sessions, tree
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from recorded import by_name, only_span_of, spans_of
from serving import serving_wsgi
from tracebaton import Tracer, trace, with_distributed_trace_context

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OWN = "session_id=the%20session,project=shop,source=dev"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server that says what headers it got."""
    app = flask.Flask("other")

    @app.get("/")
    def index() -> dict[str, str]:
        return {name.lower(): value for name, value in flask.request.headers}

    @app.get("/moved")
    def moved() -> Any:
        return flask.redirect("/")

    @app.get("/broken")
    def broken() -> Any:
        return {}, 503

    with serving_wsgi(app) as url:
        yield url


def with_requests(url: str) -> dict[str, str]:
    return dict(requests.get(url, timeout=20).json())


def with_httpx(url: str) -> dict[str, str]:
    with httpx.Client(trust_env=False, follow_redirects=True) as client:
        return dict(client.get(url, timeout=20).json())


def with_async_httpx(url: str) -> dict[str, str]:
    async def get() -> dict[str, str]:
        async with httpx.AsyncClient(trust_env=False, follow_redirects=True) as client:
            return dict((await client.get(url, timeout=20)).json())

    return asyncio.run(get())


CLIENTS = {
    "requests": (RequestsInstrumentor, with_requests),
    "httpx": (HTTPXClientInstrumentor, with_httpx),
    "httpx, async": (HTTPXClientInstrumentor, with_async_httpx),
}
ALL = pytest.mark.parametrize("client", CLIENTS)


@ALL
def test_a_request(instrument: Instrument, tracer: Tracer, url: str, client: str) -> None:
    instrumentor, get = CLIENTS[client]
    with instrument(instrumentor()), tracer.start_span("call"):
        got = get(f"{url}/")
    spans = spans_of(tracer)
    assert tree(spans) == ["call", "  GET"]
    assert sessions(spans) == {"the session"}
    span = by_name(spans)["GET"]
    assert (span.kind, span.status) == (3, 0)
    assert got["traceparent"][3:52] == f"{span.trace_id}-{span.span_id}"
    assert got["baggage"] == OWN


@ALL
def test_a_request_outside_any_span(instrument: Instrument, tracer: Tracer, url: str, client: str) -> None:
    instrumentor, get = CLIENTS[client]
    with instrument(instrumentor()):
        got = get(f"{url}/")
    span = only_span_of(tracer)
    assert (span.name, span.parent_id, span.session) == ("GET", "", "the session")
    assert (got["traceparent"][3:52], got["baggage"]) == (f"{span.trace_id}-{span.span_id}", OWN)


@ALL
def test_a_callers_session_and_baggage(instrument: Instrument, tracer: Tracer, url: str, client: str) -> None:
    foreign = "user=Am%C3%A9lie+x;p=1, b = c"
    headers = {"traceparent": CALLER, "tracestate": "9key@x=v , a=1", "baggage": f"session_id=theirs,{foreign}"}

    @trace(event_name="answer", tracer=tracer)
    def answer() -> dict[str, str]:
        return get(f"{url}/")

    instrumentor, get = CLIENTS[client]
    with instrument(instrumentor()), with_distributed_trace_context(headers, tracer):
        got = answer()
    spans = spans_of(tracer)
    assert tree(spans) == ["? answer", "  GET"]
    assert sessions(spans) == {"theirs"}
    assert got["traceparent"][3:35] == CALLER[3:35]
    assert got["tracestate"] == "9key@x=v , a=1"
    assert got["baggage"] == f"session_id=theirs,project=shop,source=dev,{foreign}"


@ALL
def test_redirects_and_errors(instrument: Instrument, tracer: Tracer, url: str, client: str) -> None:
    instrumentor, get = CLIENTS[client]
    with instrument(instrumentor()), tracer.start_span("call"):
        assert get(f"{url}/moved")["baggage"] == OWN
        get(f"{url}/broken")
        # Nothing listens on this port.
        with pytest.raises((requests.ConnectionError, httpx.ConnectError)):
            get("http://127.0.0.1:1/")
    gets = [span for span in spans_of(tracer) if span.name == "GET"]
    assert sessions(gets) == {"the session"}
    assert {span.status for span in gets} == {0, 2}
    assert gets[-1].status == 2
    (call,) = (span for span in spans_of(tracer) if span.name == "call")
    assert {span.parent_id for span in gets} == {call.span_id}


class Answering(requests.adapters.BaseAdapter):
    """Answers without a network, and remembers the headers."""

    def __init__(self) -> None:
        super().__init__()
        self.headers: dict[str, str] = {}

    def send(self, request: Any, *_: Any, **__: Any) -> requests.Response:
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        response = requests.Response()
        response.status_code, response.request, response.url, response.raw = 200, request, request.url, io.BytesIO()
        return response

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("destination", "with_baggage"),
    [
        ("https://api.openai.com/v1/chat", False),
        ("http://agent.internal:8080/", True),
        ("http://10.1.2.3/", True),
        ("http://other-service/", True),
    ],
)
def test_where_the_session_goes(
    how: str, instrument: Instrument, tracer: Tracer, destination: str, with_baggage: bool
) -> None:
    """The outbound policy, by what the instrumentors say of the destination before they inject."""
    adapter = Answering()
    with instrument(RequestsInstrumentor()), requests.Session() as session:
        session.mount(destination, adapter)
        session.get(destination)
    assert "traceparent" in adapter.headers
    assert ("baggage" in adapter.headers) is with_baggage

    got: dict[str, str] = {}

    def answer(request: httpx.Request) -> httpx.Response:
        got.update(request.headers)
        return httpx.Response(200)

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        provider = tracer.provider if how == "given" else None
        HTTPXClientInstrumentor.instrument_client(client, tracer_provider=provider)
        client.get(destination)
    assert len(spans_of(tracer)) == 2
    assert "traceparent" in got
    assert ("baggage" in got) is with_baggage
