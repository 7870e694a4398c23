"""Real HTTP hops: what frameworks hand out for headers, as they come over a socket."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import fastapi
import flask
import httpx
import pytest
import requests
import uvicorn
import werkzeug.serving
from opentelemetry import trace as otel_trace
from recorded import IS_REMOTE, Recorded, by_name, only_span_of, spans_of
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
FOREIGN = "user=Am%C3%A9lie+x;p=1,k=%2520"


@pytest.fixture
def client(make_tracer: Callable[..., Tracer]) -> Tracer:
    tracer = make_tracer(source="client", session_id="the session", project="the project")
    set_default_tracer(tracer)
    return tracer


@pytest.fixture
def server(client: Tracer, make_tracer: Callable[..., Tracer]) -> Tracer:
    """The other side's tracer: its own session, project and source."""
    return make_tracer(source="server", session_id="servers own", project="servers project")


def handled(carrier: Any, server: Tracer) -> bytes:
    """What every server below does with its carrier: a span, and the headers for the next hop."""
    with with_distributed_trace_context(carrier, server), enrich_span_context("handled"):
        return json.dumps(inject_context_into_carrier({})).encode()


@contextlib.contextmanager
def serving(server: Any) -> Iterator[str]:
    """Runs one of the standard library's servers, or werkzeug's."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def serving_asgi(app: Any) -> Iterator[str]:
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not (server.started and server.servers):
        assert thread.is_alive()
        assert time.monotonic() < deadline, "uvicorn did not start"
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


class QuietWsgi(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def wsgi_environ(server: Tracer) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        body = handled(environ, server)
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    return serving(make_server("127.0.0.1", 0, app, handler_class=QuietWsgi))


def flask_app(server: Tracer, carrier: Callable[[], Any]) -> Any:
    app = flask.Flask("shop")

    @app.get("/")
    def index() -> Any:
        return flask.Response(handled(carrier(), server), content_type="application/json")

    class Quiet(werkzeug.serving.WSGIRequestHandler):
        def log(self, *_: Any, **__: Any) -> None:
            pass

    return serving(werkzeug.serving.make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet))


def http_server(server: Tracer) -> Any:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = handled(self.headers, server)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler))


def asgi_scope(server: Tracer) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = handled(scope["headers"], server)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": body})

    return serving_asgi(app)


def fastapi_app(server: Tracer, carrier: Callable[[fastapi.Request], Any]) -> Any:
    app = fastapi.FastAPI()

    @app.get("/")
    async def index(request: fastapi.Request) -> fastapi.Response:
        async with with_distributed_trace_context(carrier(request), server):
            async with enrich_span_context("handled"):
                await asyncio.sleep(0)
                body = json.dumps(inject_context_into_carrier({}))
        return fastapi.Response(body, media_type="application/json")

    return serving_asgi(app)


SERVERS: dict[str, Callable[[Tracer], Any]] = {
    "WSGI environ": wsgi_environ,
    "http.server headers": http_server,
    "flask request.headers": lambda it: flask_app(it, lambda: flask.request.headers),
    "flask dict(request.headers)": lambda it: flask_app(it, lambda: dict(flask.request.headers)),
    "flask request.environ": lambda it: flask_app(it, lambda: flask.request.environ),
    "ASGI scope headers": asgi_scope,
    "fastapi request.headers": lambda it: fastapi_app(it, lambda request: request.headers),
    "fastapi dict(request.headers)": lambda it: fastapi_app(it, lambda request: dict(request.headers)),
    "fastapi headers.raw": lambda it: fastapi_app(it, lambda request: request.headers.raw),
}
KINDS = pytest.mark.parametrize("kind", SERVERS)


def raw_get(url: str, lines: list[str]) -> dict[str, str]:
    """A request with exactly these header lines, as no client library would send them."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        head = "\r\n".join(["GET / HTTP/1.1", f"Host: {host}", "Connection: close", *lines, "", ""])
        connection.sendall(head.encode("latin-1"))
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 200
        found: dict[str, str] = json.loads(response.read())
        return found


def check(span: Recorded, *, trace_id: str, parent_id: str, next_hop: dict[str, str]) -> None:
    """Same trace, same session, the right parent, and the server's own source."""
    assert span.name == "handled"
    assert (span.trace_id, span.parent_id) == (trace_id, parent_id)
    assert span.flags & IS_REMOTE
    assert (span.session, span.project, span.source) == ("the session", "the project", "server")
    assert next_hop["traceparent"][3:52] == f"{trace_id}-{span.span_id}"
    assert next_hop["baggage"].startswith("session_id=the%20session,project=the%20project,source=server")


@KINDS
@pytest.mark.parametrize("library", ["requests", "httpx", "http.client"])
def test_a_hop(client: Tracer, server: Tracer, kind: str, library: str) -> None:
    @trace(event_name="call")
    def call(url: str) -> dict[str, str]:
        headers = inject_context_into_carrier({"accept": "application/json"}, client)
        if library == "requests":
            return dict(requests.get(url, headers=headers, timeout=20).json())
        if library == "httpx":
            return dict(httpx.get(url, headers=headers, timeout=20, trust_env=False).json())
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
        connection.request("GET", "/", headers=headers)
        with contextlib.closing(connection):
            return dict(json.loads(connection.getresponse().read()))

    with SERVERS[kind](server) as url:
        next_hop = call(url)
    sent = only_span_of(client)
    assert (sent.session, sent.source) == ("the session", "client")
    check(only_span_of(server), trace_id=sent.trace_id, parent_id=sent.span_id, next_hop=next_hop)


@KINDS
@pytest.mark.parametrize("spelling", [str.lower, str.title, str.upper], ids=["lower", "title", "upper"])
def test_letter_case(server: Tracer, kind: str, spelling: Callable[[str], str]) -> None:
    lines = [
        f"{spelling('traceparent')}: {CALLER}",
        f"{spelling('tracestate')}: 9k=v , a= 1",
        f"{spelling('baggage')}: session_id=the%20session,project=the%20project,source=elsewhere,{FOREIGN}",
    ]
    with SERVERS[kind](server) as url:
        next_hop = raw_get(url, lines)
    span = only_span_of(server)
    check(span, trace_id=TRACE_ID, parent_id=SPAN_ID, next_hop=next_hop)
    assert span.trace_state == next_hop["tracestate"] == "9k=v , a= 1"
    assert next_hop["baggage"].endswith(f"source=server,{FOREIGN}")


# `dict(request.headers)` keeps one of several; a server that joins them keeps all.
KEEPING_ALL = [kind for kind in SERVERS if kind != "fastapi dict(request.headers)"]


@pytest.mark.parametrize("kind", KEEPING_ALL)
def test_repeated_baggage_headers(server: Tracer, kind: str) -> None:
    lines = [
        f"TRACEPARENT: {CALLER}",
        f"Baggage: {FOREIGN}",
        "BAGGAGE: session_id=the%20session",
        "baggage: project=the%20project,z=1",
    ]
    with SERVERS[kind](server) as url:
        next_hop = raw_get(url, lines)
    check(only_span_of(server), trace_id=TRACE_ID, parent_id=SPAN_ID, next_hop=next_hop)
    assert next_hop["baggage"].endswith(f"source=server,{FOREIGN},z=1")


@pytest.mark.parametrize("kind", KEEPING_ALL)
def test_a_repeated_traceparent_starts_a_new_trace(server: Tracer, kind: str) -> None:
    with SERVERS[kind](server) as url:
        raw_get(url, [f"traceparent: {CALLER}", f"Traceparent: {CALLER}", "baggage: session_id=the%20session"])
    span = only_span_of(server)
    assert span.trace_id != TRACE_ID
    assert (span.parent_id, span.session) == ("", "the session")


@KINDS
def test_hostile_headers_do_not_fail_a_request(server: Tracer, kind: str) -> None:
    lines = [
        "traceparent: " + "x" * 5_000,
        "tracestate: \xff\xfe==,,",
        "baggage: " + "=,;%zz\xe9 " * 2_000,
    ]
    with SERVERS[kind](server) as url:
        next_hop = raw_get(url, lines)
    assert only_span_of(server).session == "servers own"
    assert next_hop["baggage"].startswith("session_id=servers%20own,project=servers%20project,source=server")


@KINDS
def test_no_headers_at_all(server: Tracer, kind: str) -> None:
    with SERVERS[kind](server) as url:
        raw_get(url, [])
        raw_get(url, [f"traceparent: {CALLER}"])
        raw_get(url, [])
    first, second, third = spans_of(server)
    assert (first.parent_id, second.parent_id, third.parent_id) == ("", SPAN_ID, "")
    assert {span.session for span in (first, second, third)} == {"servers own"}


def test_instrumented_flask_and_requests(client: Tracer, server: Tracer) -> None:
    """The frameworks' own instrumentors, through the global propagator; ours only adds the session."""
    from opentelemetry.instrumentation.flask import FlaskInstrumentor
    from opentelemetry.instrumentation.requests import RequestsInstrumentor

    app = flask.Flask("shop")

    @app.get("/")
    def index() -> Any:
        return flask.Response(handled(dict(flask.request.headers), server), content_type="application/json")

    class Quiet(werkzeug.serving.WSGIRequestHandler):
        def log(self, *_: Any, **__: Any) -> None:
            pass

    FlaskInstrumentor().instrument_app(app, tracer_provider=server.provider)
    RequestsInstrumentor().instrument(tracer_provider=client.provider)
    try:
        made = werkzeug.serving.make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
        with serving(made) as url, client.start_span("call"):
            assert requests.get(url, timeout=20).status_code == 200
    finally:
        RequestsInstrumentor().uninstrument()
        FlaskInstrumentor.uninstrument_app(app)
    sent, served = by_name(spans_of(client)), by_name(spans_of(server))
    assert set(sent) == {"call", "GET"}
    assert set(served) == {"GET /", "handled"}
    assert sent["GET"].kind == 3
    assert served["GET /"].kind == 2
    assert sent["GET"].parent_id == sent["call"].span_id
    assert served["GET /"].parent_id == sent["GET"].span_id
    assert served["handled"].parent_id == served["GET /"].span_id
    assert {span.trace_id for span in [*sent.values(), *served.values()]} == {sent["call"].trace_id}
    assert {span.session for span in [*sent.values(), *served.values()]} == {"the session"}
    assert {span.source for span in served.values()} == {"server"}


def test_instrumented_fastapi_and_httpx(client: Tracer, server: Tracer) -> None:
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

    app = fastapi.FastAPI()

    @app.get("/")
    async def index(request: fastapi.Request) -> Any:
        async with with_distributed_trace_context(request.headers, server):
            async with enrich_span_context("handled"):
                return inject_context_into_carrier({})

    FastAPIInstrumentor.instrument_app(app, tracer_provider=server.provider)

    async def call(url: str) -> int:
        async with httpx.AsyncClient(trust_env=False) as http_client:
            HTTPXClientInstrumentor.instrument_client(http_client, tracer_provider=client.provider)
            async with client.start_span("call"):
                return (await http_client.get(url, timeout=20)).status_code

    with serving_asgi(app) as url:
        assert asyncio.run(call(url)) == 200
    sent, served = by_name(spans_of(client)), {span.name: span for span in spans_of(server)}
    assert served["GET /"].parent_id == sent["GET"].span_id
    assert served["handled"].parent_id == served["GET /"].span_id
    everything = [*sent.values(), *spans_of(server)]
    assert {span.trace_id for span in everything} == {sent["call"].trace_id}
    assert {span.session for span in everything} == {"the session"}
    assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN
