"""The contrib instrumentors of web servers: what user code records in a handler is under the server's span.

Every server below is instrumented and has a handler that uses `with_distributed_trace_context`, as the documentation
says; the caller is instrumented, too, or sends headers by hand, or sends none.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import fastapi
import flask
import pytest
import requests
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django_app import django_application
from instrumented import Instrument, sessions, tree
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware as WsgiMiddleware
from recorded import IS_REMOTE, by_name, spans_of
from serving import serving_asgi, serving_wsgi
from tracebaton import (
    Tracer,
    enrich_span_context,
    inject_context_into_carrier,
    set_default_tracer,
    trace,
    with_distributed_trace_context,
)

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
CALLER = f"00-{TRACE_ID}-{SPAN_ID}-01"
BAGGAGE = "session_id=theirs,project=their%20project,source=elsewhere,user=Am%C3%A9lie+x;p"

Serve = Callable[["Server"], contextlib.AbstractContextManager[str]]


class Server:
    """What a server needs to know: its tracer, the arguments for its instrumentor, and what its handler does."""

    def __init__(self, tracer: Tracer, given: bool) -> None:
        self.tracer = tracer
        self.arguments: dict[str, Any] = {"tracer_provider": tracer.provider} if given else {}
        self.fails = False

    def handle(self, carrier: Any) -> dict[str, str]:
        with with_distributed_trace_context(carrier, self.tracer):
            return self.work()

    async def handle_async(self, carrier: Any) -> dict[str, str]:
        async with with_distributed_trace_context(carrier, self.tracer):
            await asyncio.sleep(0)
            answer = self.work()
            await asyncio.sleep(0)
            return answer

    def work(self) -> dict[str, str]:
        @trace(event_name="step", tracer=self.tracer)
        def step() -> dict[str, str]:
            if self.fails:
                raise ValueError("mine")
            return inject_context_into_carrier({})

        with enrich_span_context("handled"):
            return step()


@contextlib.contextmanager
def flask_sync(server: Server) -> Iterator[str]:
    app = flask.Flask("shop")
    app.add_url_rule("/agent", view_func=lambda: server.handle(flask.request.headers), endpoint="agent")
    FlaskInstrumentor().instrument_app(app, **server.arguments)
    with serving_wsgi(app) as url:
        yield url


@contextlib.contextmanager
def flask_async(server: Server) -> Iterator[str]:
    app = flask.Flask("shop")

    @app.get("/agent")
    async def agent() -> dict[str, str]:
        return await server.handle_async(dict(flask.request.headers))

    FlaskInstrumentor().instrument_app(app, **server.arguments)
    with serving_wsgi(app) as url:
        yield url


@contextlib.contextmanager
def fastapi_async(server: Server) -> Iterator[str]:
    app = fastapi.FastAPI()

    @app.get("/agent")
    async def agent(request: fastapi.Request) -> dict[str, str]:
        return await server.handle_async(request.headers)

    FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"], **server.arguments)
    with serving_asgi(app) as url:
        yield url


@contextlib.contextmanager
def fastapi_sync(server: Server) -> Iterator[str]:
    """A handler that FastAPI runs on a thread."""
    app = fastapi.FastAPI()

    @app.get("/agent")
    def agent(request: fastapi.Request) -> dict[str, str]:
        return server.handle(dict(request.headers))

    FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"], **server.arguments)
    with serving_asgi(app) as url:
        yield url


@contextlib.contextmanager
def fastapi_middleware(server: Server) -> Iterator[str]:
    """The block is around the handler, in a middleware of the application."""
    app = fastapi.FastAPI()

    @app.middleware("http")
    async def continued(request: fastapi.Request, call_next: Any) -> Any:
        async with with_distributed_trace_context(request.headers, server.tracer):
            return await call_next(request)

    @app.get("/agent")
    async def agent() -> dict[str, str]:
        return server.work()

    FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"], **server.arguments)
    with serving_asgi(app) as url:
        yield url


@contextlib.contextmanager
def fastapi_dependency(server: Server) -> Iterator[str]:
    """The block is a dependency of the handler."""
    app = fastapi.FastAPI()

    async def continued(request: fastapi.Request) -> Any:
        async with with_distributed_trace_context(request.headers, server.tracer) as context:
            yield context

    @app.get("/agent", dependencies=[fastapi.Depends(continued)])
    async def agent() -> dict[str, str]:
        await asyncio.sleep(0)
        return server.work()

    FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"], **server.arguments)
    with serving_asgi(app) as url:
        yield url


@contextlib.contextmanager
def wsgi(server: Server) -> Iterator[str]:
    """No framework: the contrib middleware around an application."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        body = json.dumps(server.handle(environ)).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    with serving_wsgi(WsgiMiddleware(app, **server.arguments)) as url:
        yield url


@contextlib.contextmanager
def asgi(server: Server) -> Iterator[str]:
    """No framework: the contrib middleware around an application."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = json.dumps(await server.handle_async(scope["headers"])).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": body})

    wrapped = OpenTelemetryMiddleware(app, exclude_spans=["receive", "send"], **server.arguments)
    with serving_asgi(wrapped) as url:
        yield url


@contextlib.contextmanager
def django_wsgi(server: Server, view: str) -> Iterator[str]:
    with django_application(server, view, get_wsgi_application) as app, serving_wsgi(app) as url:
        yield url


@contextlib.contextmanager
def django_asgi(server: Server, view: str) -> Iterator[str]:
    with django_application(server, view, get_asgi_application) as app, serving_asgi(app) as url:
        yield url


SERVERS: dict[str, Serve] = {
    "flask, sync": flask_sync,
    "flask, async": flask_async,
    "fastapi, async": fastapi_async,
    "fastapi, sync": fastapi_sync,
    "fastapi, middleware": fastapi_middleware,
    "fastapi, dependency": fastapi_dependency,
    "wsgi": wsgi,
    "asgi": asgi,
    "django, wsgi, sync": lambda it: django_wsgi(it, "sync"),
    "django, wsgi, environ": lambda it: django_wsgi(it, "environ"),
    "django, wsgi, async": lambda it: django_wsgi(it, "async"),
    "django, asgi, sync": lambda it: django_asgi(it, "sync"),
    "django, asgi, async": lambda it: django_asgi(it, "async"),
}


@pytest.fixture
def server(tracer: Tracer, how: str) -> Server:
    return Server(tracer, how == "given")


@pytest.fixture
def client(make_tracer: Callable[..., Tracer], tracer: Tracer) -> Tracer:
    """The caller's tracer, in the same process; the server's is the global one, if any is."""
    client = make_tracer(session_id="theirs", project="their project", source="client")
    set_default_tracer(client)
    return client


KINDS = pytest.mark.parametrize("kind", SERVERS)


def server_span(server: Server) -> Any:
    """The one span of kind SERVER."""
    (span,) = (span for span in spans_of(server.tracer) if span.kind == 2)
    return span


@KINDS
def test_user_spans_are_under_the_servers_span(server: Server, client: Tracer, kind: str) -> None:
    requests_instrumentor = RequestsInstrumentor()
    requests_instrumentor.instrument(tracer_provider=client.provider)
    try:
        with SERVERS[kind](server) as url, client.start_span("call"):
            next_hop = requests.get(f"{url}/agent", timeout=20).json()
    finally:
        requests_instrumentor.uninstrument()
    sent, served = spans_of(client), spans_of(server.tracer)
    assert tree(sent) == ["call", "  GET"]
    root = server_span(server)
    assert tree(served) == [f"? {root.name}", "  handled", "    step"]
    assert root.parent_id == by_name(sent)["GET"].span_id
    assert root.flags & IS_REMOTE
    assert {span.trace_id for span in [*sent, *served]} == {root.trace_id}
    assert sessions([*sent, *served]) == {"theirs"}
    assert {span.project for span in served} == {"their project"}
    assert {span.source for span in served} == {"dev"}
    assert next_hop["traceparent"][3:52] == f"{root.trace_id}-{by_name(served)['step'].span_id}"
    assert next_hop["baggage"].startswith("session_id=theirs,project=their%20project,source=dev")


@KINDS
def test_headers_sent_by_hand(server: Server, kind: str) -> None:
    headers = {"Traceparent": CALLER, "Baggage": BAGGAGE, "TRACESTATE": "9k=v , a=1"}
    with SERVERS[kind](server) as url:
        next_hop = requests.get(f"{url}/agent", headers=headers, timeout=20).json()
    served = spans_of(server.tracer)
    root = server_span(server)
    assert tree(served) == [f"? {root.name}", "  handled", "    step"]
    assert (root.trace_id, root.parent_id) == (TRACE_ID, SPAN_ID)
    assert {(span.session, span.project, span.source) for span in served} == {("theirs", "their project", "dev")}
    assert {span.trace_state for span in served} == {"9k=v , a=1"}
    assert next_hop["baggage"].endswith("source=dev,user=Am%C3%A9lie+x;p")


@KINDS
@pytest.mark.parametrize("headers", [{}, {"baggage": BAGGAGE}], ids=["no headers", "only baggage"])
def test_a_trace_that_begins_at_the_server(server: Server, kind: str, headers: dict[str, str]) -> None:
    with SERVERS[kind](server) as url:
        assert requests.get(f"{url}/agent", headers=headers, timeout=20).status_code == 200
    served = spans_of(server.tracer)
    assert tree(served) == [server_span(server).name, "  handled", "    step"]
    assert sessions(served) == {"theirs" if headers else "the session"}


@KINDS
def test_two_requests_have_nothing_of_each_other(server: Server, kind: str) -> None:
    with SERVERS[kind](server) as url, requests.Session() as connection:
        connection.get(f"{url}/agent", headers={"traceparent": CALLER, "baggage": BAGGAGE}, timeout=20)
        connection.get(f"{url}/agent", timeout=20)
    first, second = (span for span in spans_of(server.tracer) if span.kind == 2)
    assert (first.session, second.session) == ("theirs", "the session")
    assert second.trace_id != first.trace_id
    steps = [span for span in spans_of(server.tracer) if span.name == "step"]
    assert [(span.session, span.trace_id) for span in steps] == [
        ("theirs", first.trace_id),
        ("the session", second.trace_id),
    ]


@KINDS
def test_hostile_headers(server: Server, kind: str) -> None:
    headers = {"traceparent": "x" * 5_000, "tracestate": b"\xff\xfe==,,", "baggage": b"=,;%zz\xe9 " * 2_000}
    with SERVERS[kind](server) as url:
        assert requests.get(f"{url}/agent", headers=headers, timeout=20).status_code == 200
    served = spans_of(server.tracer)
    assert tree(served) == [server_span(server).name, "  handled", "    step"]
    assert sessions(served) == {"the session"}


@KINDS
@pytest.mark.parametrize("inbound", ["restart", "ignore"])
def test_callers_that_are_not_trusted(make_tracer: Callable[..., Tracer], kind: str, inbound: str) -> None:
    """The server's span is where the trace begins anew: the instrumentor reads the headers first."""
    server = Server(make_tracer(policy={"inbound": inbound}), given=True)
    with SERVERS[kind](server) as url:
        requests.get(f"{url}/agent", headers={"traceparent": CALLER, "baggage": BAGGAGE}, timeout=20)
    served = spans_of(server.tracer)
    root = server_span(server)
    assert tree(served) == [root.name, "  handled", "    step"]
    assert root.trace_id != TRACE_ID
    links = [(link.trace_id, link.span_id) for link in root.links]
    assert links == ([(TRACE_ID, SPAN_ID)] if inbound == "restart" else [])
    assert sessions(served) == {"theirs" if inbound == "restart" else "own"}
    assert [span.links for span in served if span is not root and span.name != root.name] == [[], []]


@pytest.mark.parametrize("kind", [kind for kind in SERVERS if kind.startswith("flask")])
def test_an_exception_of_the_handlers(server: Server, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    server.fails = True
    with SERVERS[kind](server) as url:
        assert requests.get(f"{url}/agent", timeout=20).status_code == 500
    caplog.clear()  # Flask itself logs it
    served = by_name(spans_of(server.tracer))
    assert (served["handled"].error, served["step"].error) == ("mine", "mine")
    assert len(served["step"].exceptions) == 1
    assert server_span(server).attributes.get("http.status_code", 500) == 500


def test_every_span_of_fastapis_instrumentor(server: Server) -> None:
    app = fastapi.FastAPI()

    @app.get("/agent")
    async def agent(request: fastapi.Request) -> dict[str, str]:
        return await server.handle_async(request.headers)

    FastAPIInstrumentor.instrument_app(app, **server.arguments)
    with serving_asgi(app) as url:
        requests.get(f"{url}/agent", headers={"traceparent": CALLER, "baggage": BAGGAGE}, timeout=20)
    served = spans_of(server.tracer)
    assert tree(served) == [
        "? GET /agent",
        "  handled",
        "    step",
        "  GET /agent http send",
        "  GET /agent http send",
    ]
    assert sessions(served) == {"theirs"}


@pytest.mark.parametrize("framework", ["flask", "fastapi"])
def test_every_application_of_a_framework(server: Server, instrument: Instrument, framework: str) -> None:
    """`instrument()` in place of `instrument_app`: the classes of applications are patched."""
    if framework == "flask":
        with instrument(FlaskInstrumentor()):
            app = flask.Flask("shop")
            app.add_url_rule("/agent", view_func=lambda: server.handle(flask.request.headers), endpoint="agent")
            with serving_wsgi(app) as url:
                requests.get(f"{url}/agent", headers={"traceparent": CALLER, "baggage": BAGGAGE}, timeout=20)
    else:
        with instrument(FastAPIInstrumentor(), exclude_spans=["receive", "send"]):
            api = fastapi.FastAPI()

            @api.get("/agent")
            async def agent(request: fastapi.Request) -> dict[str, str]:
                return await server.handle_async(request.headers)

            with serving_asgi(api) as url:
                requests.get(f"{url}/agent", headers={"traceparent": CALLER, "baggage": BAGGAGE}, timeout=20)
    served = spans_of(server.tracer)
    assert tree(served) == ["? GET /agent", "  handled", "    step"]
    assert sessions(served) == {"theirs"}
