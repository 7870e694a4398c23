"""Servers of every framework whose headers we read, each with what its users take for a carrier."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import aiohttp.web
import django
import django.conf
import django.core.asgi
import django.core.wsgi
import django.http
import django.urls
import fastapi
import flask
import pytest
import starlette.applications
import starlette.requests
import starlette.responses
import starlette.routing
from recorded import IS_REMOTE, Recorded
from serving import serving, serving_asgi, serving_wsgi, serving_wsgiref
from tracebaton import (
    Tracer,
    enrich_span_context,
    inject_context_into_carrier,
    set_default_tracer,
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


def wsgi_environ(server: Tracer) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        body = handled(environ, server)
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    return serving_wsgiref(app)


def flask_app(server: Tracer, carrier: Callable[[], Any]) -> Any:
    app = flask.Flask("shop")

    @app.get("/")
    def index() -> Any:
        return flask.Response(handled(carrier(), server), content_type="application/json")

    return serving_wsgi(app)


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


def django_views(served: Tracer, carrier: Callable[[Any], Any]) -> Any:
    if not django.conf.settings.configured:
        django.conf.settings.configure(
            ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="x", LOGGING_CONFIG=None, USE_TZ=True
        )
        django.setup()

    def index(request: Any) -> Any:
        return django.http.HttpResponse(handled(carrier(request), served), content_type="application/json")

    urlpatterns[:] = [django.urls.path("", index)]
    # A process has one site, which another test module may have set up.
    django.conf.settings.ROOT_URLCONF = __name__
    django.urls.clear_url_caches()


urlpatterns: list[Any] = []


@contextlib.contextmanager
def django_wsgi(served: Tracer, carrier: Callable[[Any], Any]) -> Iterator[str]:
    django_views(served, carrier)
    with serving_wsgiref(django.core.wsgi.get_wsgi_application()) as url:
        yield url


@contextlib.contextmanager
def django_asgi(served: Tracer, carrier: Callable[[Any], Any]) -> Iterator[str]:
    django_views(served, carrier)
    with serving_asgi(django.core.asgi.get_asgi_application()) as url:
        yield url


def starlette_app(served: Tracer, carrier: Callable[[Any], Any]) -> Any:
    async def index(request: starlette.requests.Request) -> starlette.responses.Response:
        return starlette.responses.Response(handled(carrier(request), served), media_type="application/json")

    return serving_asgi(starlette.applications.Starlette(routes=[starlette.routing.Route("/", index)]))


@contextlib.contextmanager
def aiohttp_server(served: Tracer, carrier: Callable[[Any], Any]) -> Iterator[str]:
    async def index(request: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response(body=handled(carrier(request), served), content_type="application/json")

    app = aiohttp.web.Application()
    app.router.add_get("/", index)
    loop = asyncio.new_event_loop()
    runner = aiohttp.web.AppRunner(app, access_log=None)
    listening = socket.create_server(("127.0.0.1", 0))

    async def start() -> None:
        await runner.setup()
        await aiohttp.web.SockSite(runner, listening).start()

    loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


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
    "django request.headers": lambda it: django_wsgi(it, lambda request: request.headers),
    "django dict(request.headers)": lambda it: django_wsgi(it, lambda request: dict(request.headers)),
    "django request.META": lambda it: django_wsgi(it, lambda request: request.META),
    "django ASGI": lambda it: django_asgi(it, lambda request: request.headers),
    "starlette request.headers": lambda it: starlette_app(it, lambda request: request.headers),
    "starlette headers.items()": lambda it: starlette_app(it, lambda request: request.headers.items()),
    "starlette scope": lambda it: starlette_app(it, lambda request: request.scope["headers"]),
    "aiohttp request.headers": lambda it: aiohttp_server(it, lambda request: request.headers),
    "aiohttp dict(request.headers)": lambda it: aiohttp_server(it, lambda request: dict(request.headers)),
    "aiohttp raw_headers": lambda it: aiohttp_server(it, lambda request: request.raw_headers),
}
KINDS = pytest.mark.parametrize("kind", SERVERS)
# `dict(request.headers)` keeps one of several; a server that joins them keeps all.
_KEEPING_ONE = ("fastapi dict(request.headers)", "aiohttp dict(request.headers)")
KEEPING_ALL = pytest.mark.parametrize("kind", [kind for kind in SERVERS if kind not in _KEEPING_ONE])


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


def get(url: str, headers: dict[str, str]) -> dict[str, str]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", "/", headers=headers)
        found: dict[str, str] = json.loads(connection.getresponse().read())
        return found
