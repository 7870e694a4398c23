"""Middleware for WSGI and ASGI: traces, sessions, spans, and that it never gets in the way."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults

import fastapi
import flask
import pytest
import requests
from collector import Collector
from opentelemetry import context as otel_context
from recorded import IS_REMOTE, by_name, only_span_of, spans_of
from serving import serving_asgi, serving_wsgi
from tracebaton import Tracer, _native, inject_context_into_carrier, trace
from tracebaton.middleware import AsgiMiddleware, WsgiMiddleware

Make = Callable[..., Tracer]
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
CALLER = f"00-{TRACE_ID}-{SPAN_ID}-01"
SERVER = 2
ERROR = 2


def environ(**more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"HTTP_TRACEPARENT": CALLER, "HTTP_BAGGAGE": "session_id=theirs", **more}
    setup_testing_defaults(made)
    return made


def call(app: Any, made: dict[str, Any] | None = None, close: bool = True) -> tuple[str, list[bytes]]:
    """What a WSGI server does with an application."""
    statuses: list[str] = []
    body = app(environ() if made is None else made, lambda status, headers, *_: statuses.append(status))
    try:
        return statuses[0] if statuses else "", list(body)
    finally:
        if close and hasattr(body, "close"):
            body.close()


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [json.dumps(inject_context_into_carrier({})).encode()]


def test_a_request_goes_on_in_the_callers_trace_and_session(tracer: Tracer) -> None:
    status, body = call(WsgiMiddleware(hello, tracer), environ(PATH_INFO="/items/1", HTTP_USER_AGENT="tests"))
    span = only_span_of(tracer)
    assert (span.trace_id, span.parent_id, span.session) == (TRACE_ID, SPAN_ID, "theirs")
    assert span.flags & IS_REMOTE
    assert (status, span.name, span.kind, span.status) == ("200 OK", "GET", SERVER, 0)
    expected = {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/items/1",
        "server.address": "127.0.0.1",
        "server.port": 80,
        "user_agent.original": "tests",
        "network.protocol.version": "1.0",
        "honeyhive_event_type": "chain",
    }
    assert expected.items() <= span.attributes.items()
    headers = json.loads(body[0])
    assert headers["traceparent"][3:52] == f"{TRACE_ID}-{span.span_id}"
    assert headers["baggage"] == "session_id=theirs,project=shop,source=dev"


def test_no_query_and_no_unknown_method_in_a_span(tracer: Tracer) -> None:
    call(WsgiMiddleware(hello, tracer), environ(QUERY_STRING="token=s3cr3t", REQUEST_METHOD="BREW\x00"))
    span = only_span_of(tracer)
    assert (span.name, span.attributes["http.request.method"]) == ("_OTHER", "_OTHER")
    assert "s3cr3t" not in json.dumps(span.attributes)


@pytest.mark.parametrize(("status", "failed"), [("204 No Content", False), ("404 No", False), ("503 Oh", True)])
def test_a_failure_of_the_server_is_an_error(tracer: Tracer, status: str, failed: bool) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response(status, [])
        return []

    call(WsgiMiddleware(app, tracer))
    span = only_span_of(tracer)
    assert span.attributes["http.response.status_code"] == int(status[:3])
    assert (span.status == ERROR) is failed
    assert span.attributes.get("error.type") == (status[:3] if failed else None)


def test_what_the_application_raises_goes_on_unchanged(tracer: Tracer) -> None:
    error = ValueError("no")

    def app(environ: Any, start_response: Any) -> list[bytes]:
        raise error

    with pytest.raises(ValueError, match="no") as raised:
        call(WsgiMiddleware(app, tracer))
    assert raised.value is error
    span = only_span_of(tracer)
    assert (span.status, span.error, len(span.exceptions)) == (ERROR, "no", 1)


def streaming(parts: list[Any], closed: list[str]) -> Any:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            for part in parts:
                if isinstance(part, BaseException):
                    raise part
                yield f"{part} {inject_context_into_carrier({})['traceparent'][36:52]}".encode()
        finally:
            closed.append("closed")

    return app


def test_a_streamed_response_is_made_inside(tracer: Tracer) -> None:
    closed: list[str] = []
    body = WsgiMiddleware(streaming(["a", "b"], closed), tracer)(environ(), lambda *_: None)
    parts = iter(body)
    first = next(parts)
    assert dict(otel_context.get_current()) == {}, "between the parts the server runs"
    assert spans_of(tracer) == []
    assert [first, *parts] == [f"{part} {only_span_of(tracer).span_id}".encode() for part in ("a", "b")]
    assert closed == ["closed"]
    body.close()  # type: ignore[attr-defined]
    only_span_of(tracer)


def test_a_response_that_is_closed_early_ends(tracer: Tracer) -> None:
    closed: list[str] = []
    body = WsgiMiddleware(streaming(["a", "b"], closed), tracer)(environ(), lambda *_: None)
    next(iter(body))
    body.close()  # type: ignore[attr-defined]
    assert closed == ["closed"]
    assert only_span_of(tracer).status == 0


def test_an_exception_in_a_stream_goes_on_unchanged(tracer: Tracer) -> None:
    error = RuntimeError("half-way")
    with pytest.raises(RuntimeError) as raised:
        call(WsgiMiddleware(streaming(["a", error], []), tracer))
    assert raised.value is error
    assert (only_span_of(tracer).status, only_span_of(tracer).error) == (ERROR, "half-way")


def test_a_stream_may_be_read_in_another_thread(tracer: Tracer) -> None:
    body = WsgiMiddleware(streaming(["a", "b"], []), tracer)(environ(), lambda *_: None)
    with ThreadPoolExecutor(1) as pool:
        parts = pool.submit(lambda: list(body)).result()
        assert pool.submit(lambda: dict(otel_context.get_current())).result() == {}
    assert parts == [f"{part} {only_span_of(tracer).span_id}".encode() for part in ("a", "b")]


def test_the_body_that_servers_do_more_for_stays_what_it_is(tracer: Tracer, tmp_path: Any) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"data")

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](file.open("rb"))

    with contextlib.closing(WsgiMiddleware(app, tracer)(environ(**{"wsgi.file_wrapper": FileWrapper}), print)) as body:
        assert type(body) is FileWrapper
    assert type(WsgiMiddleware(hello, tracer)(environ(), lambda *_: None)) is list
    assert len(spans_of(tracer)) == 2


def test_a_session_that_a_request_creates_ends_with_it(tracer: Tracer) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        tracer.create_session(session_id=environ["PATH_INFO"])
        with tracer.start_span("before"):
            pass
        start_response("200 OK", [])
        yield b"a"
        with tracer.start_span("in the stream"):
            pass

    wrapped = WsgiMiddleware(app, tracer)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(call, wrapped, environ(PATH_INFO="/one")).result()
        with_none = pool.submit(call, WsgiMiddleware(hello, tracer), {"REQUEST_METHOD": "GET"}).result()
        assert pool.submit(lambda: dict(otel_context.get_current())).result() == {}
    before, inside, first, second = spans_of(tracer)
    assert (before.session, inside.session) == ("/one", "/one")
    assert (first.session, second.session) == ("theirs", "own")
    assert "session_id=own" in json.loads(with_none[1][0])["baggage"]


def test_sessions_of_their_own_for_requests_without_one(tracer: Tracer) -> None:
    app = WsgiMiddleware(hello, tracer, sessions=True)
    call(app)
    for _ in range(2):
        call(app, {"REQUEST_METHOD": "GET"})
    sessions = [span.session for span in spans_of(tracer)]
    assert sessions[0] == "theirs"
    assert len({"own", *sessions}) == 4


def test_without_spans_there_is_the_context(tracer: Tracer) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        with tracer.start_span("work"):
            return hello(environ, start_response)

    call(WsgiMiddleware(app, tracer, spans=False))
    span = only_span_of(tracer)
    assert (span.name, span.parent_id, span.session) == ("work", SPAN_ID, "theirs")


def test_without_spans_a_span_around_it_goes_on(tracer: Tracer) -> None:
    with tracer.start_span("around") as around:
        assert call(WsgiMiddleware(hello, tracer, spans=False), {"REQUEST_METHOD": "GET"})[0] == "200 OK"
        assert around.is_recording()
        assert "http.response.status_code" not in around.attributes


def test_a_policy_of_its_own(tracer: Tracer) -> None:
    call(WsgiMiddleware(hello, tracer, policy={"inbound": "ignore"}))
    call(WsgiMiddleware(hello, tracer, policy={"inbound": "restart", "accept_session": False}))
    ignored, restarted = spans_of(tracer)
    assert (ignored.parent_id, ignored.session, ignored.links) == ("", "own", [])
    assert (restarted.parent_id, restarted.session) == ("", "own")
    assert [link.trace_id for link in restarted.links] == [TRACE_ID]


def test_the_default_tracer_is_looked_up_for_every_request(make_tracer: Make) -> None:
    app = WsgiMiddleware(hello)
    assert call(app)[0] == "200 OK", "without a tracer"
    tracer = make_tracer()
    call(app)
    assert only_span_of(tracer).session == "theirs"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tracer": 5}, "tracer must be a Tracer, not int"),
        ({"policy": 5}, "policy must be a Policy or a mapping, not int"),
        ({"spans": 1}, "spans must be a bool, not int"),
        ({"sessions": "yes"}, "sessions must be a bool, not str"),
    ],
)
@pytest.mark.parametrize("kind", [WsgiMiddleware, AsgiMiddleware])
def test_a_wrong_argument_is_named(kind: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        kind(hello, **arguments)


def test_nothing_of_ours_fails_a_request(tracer: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("ours")

    for name in ("extract", "report"):
        app = WsgiMiddleware(hello, tracer)
        if name == "extract":
            with monkeypatch.context() as patch:
                patch.setattr(_native, name, broken)
                assert call(app)[0] == "200 OK"
    for made in ({}, {"HTTP_HOST": 5, "SERVER_PORT": object(), "REQUEST_METHOD": None}):
        assert call(WsgiMiddleware(hello, tracer), made)[0] == "200 OK"
    monkeypatch.setattr("tracebaton.middleware.set_status", broken)
    monkeypatch.setattr("tracebaton.middleware._wsgi_route", broken)
    assert call(WsgiMiddleware(hello, tracer))[0] == "200 OK"
    assert len(spans_of(tracer)) == 3


async def drive(app: Any, scope: dict[str, Any], received: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    """What an ASGI server does with an application."""
    sent: list[dict[str, Any]] = []
    messages = list(received or [{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def http_scope(**more: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "POST",
        "path": "/chat",
        "scheme": "https",
        "http_version": "1.1",
        "server": ("10.0.0.1", 8443),
        "client": ("10.0.0.2", 5000),
        "headers": [(b"traceparent", CALLER.encode()), (b"baggage", b"session_id=theirs"), (b"host", b"shop:8443")],
        **more,
    }


async def asgi_hello(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await asyncio.sleep(0)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(inject_context_into_carrier({})).encode()})


async def test_asgi_a_request_goes_on_in_the_callers_trace_and_session(tracer: Tracer) -> None:
    sent = await drive(AsgiMiddleware(asgi_hello, tracer), http_scope())
    span = only_span_of(tracer)
    assert (span.trace_id, span.parent_id, span.session, span.name) == (TRACE_ID, SPAN_ID, "theirs", "POST")
    expected = {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "url.scheme": "https",
        "url.path": "/chat",
        "server.address": "shop",
        "server.port": 8443,
        "client.address": "10.0.0.2",
        "network.protocol.version": "1.1",
        "honeyhive_event_type": "chain",
    }
    assert expected.items() <= span.attributes.items()
    assert json.loads(sent[1]["body"])["traceparent"][36:52] == span.span_id


async def test_asgi_websocket(tracer: Tracer) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        with tracer.start_span("message"):
            await send({"type": "websocket.send", "text": "hello"})

    scope = http_scope(type="websocket", scheme="wss")
    del scope["method"]
    await drive(AsgiMiddleware(app, tracer), scope)
    spans = by_name(spans_of(tracer))
    assert spans["message"].parent_id == spans["GET"].span_id
    assert (spans["GET"].attributes["http.response.status_code"], spans["GET"].session) == (101, "theirs")


@pytest.mark.parametrize("kind", ["lifespan", "something.new"])
async def test_asgi_other_scopes_pass_through(tracer: Tracer, kind: str) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(await receive())
        await send({"type": "done"})

    assert await drive(AsgiMiddleware(app, tracer), {"type": kind}, [{"type": "x"}]) == [{"type": "done"}]
    assert seen == [{"type": "x"}]
    assert spans_of(tracer) == []


@pytest.mark.parametrize("end", ["complete", "failed"])
async def test_asgi_what_was_recorded_is_delivered_before_the_server_ends(collector: Collector, end: str) -> None:
    tracer = Tracer.init(exporter="otlp", otlp_endpoint=collector.url, flush_interval=3600)
    delivered: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.complete"})
        with tracer.start_span("at shutdown"):
            pass
        await send({"type": f"lifespan.shutdown.{end}"})

    async def send(message: Any) -> None:
        delivered.append(len(collector.spans))

    await AsgiMiddleware(app, tracer)({"type": "lifespan"}, None, send)  # type: ignore[arg-type]
    assert delivered == [0, 1]


async def test_asgi_what_the_application_raises_goes_on_unchanged(tracer: Tracer) -> None:
    error = KeyError("no")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise error

    with pytest.raises(KeyError) as raised:
        await drive(AsgiMiddleware(app, tracer), http_scope())
    assert raised.value is error
    assert only_span_of(tracer).status == ERROR


async def test_asgi_a_client_that_goes_away(tracer: Tracer) -> None:
    started = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(drive(AsgiMiddleware(app, tracer), http_scope()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert only_span_of(tracer).status == ERROR


async def test_asgi_concurrent_requests_stay_apart(tracer: Tracer) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await tracer.acreate_session(session_id=scope["path"])
        await asyncio.sleep(0)
        with tracer.start_span(scope["path"]):
            await asyncio.sleep(0)

    wrapped = AsgiMiddleware(app, tracer)
    await asyncio.gather(*(drive(wrapped, http_scope(path=f"/{number}")) for number in range(20)))
    await drive(AsgiMiddleware(asgi_hello, tracer), http_scope(headers=[]))
    *spans, last = spans_of(tracer)
    for span in spans:
        assert span.session == ("theirs" if span.name == "POST" else span.name)
    assert last.session == "own"


async def test_asgi_nothing_of_ours_fails_a_request(tracer: Tracer) -> None:
    for scope in (
        {"type": "http"},
        {"type": "http", "headers": None, "server": 5, "client": ()},
        {"type": "http", "headers": [(1, 2), 3], "method": b"GET"},
    ):
        sent = await drive(AsgiMiddleware(asgi_hello, tracer), scope)
        assert sent[0]["status"] == 200


def test_flask_over_a_socket(tracer: Tracer) -> None:
    app = flask.Flask("shop")

    @app.get("/items/<int:item>")
    def item(item: int) -> dict[str, Any]:
        @trace(tracer=tracer)
        def look_up() -> dict[str, Any]:
            return {"item": item}

        return look_up()

    app.wsgi_app = WsgiMiddleware(app.wsgi_app, tracer)  # type: ignore[method-assign]
    with serving_wsgi(app) as url:
        found = requests.get(f"{url}/items/7", headers={"Traceparent": CALLER}, timeout=20)
        assert found.json() == {"item": 7}
        assert requests.get(f"{url}/nothing", timeout=20).status_code == 404
    inner, served, missing = spans_of(tracer)
    assert (served.name, served.attributes["http.route"]) == ("GET /items/<int:item>", "/items/<int:item>")
    assert (served.parent_id, inner.parent_id) == (SPAN_ID, served.span_id)
    assert (missing.name, missing.status) == ("GET", 0)


def test_fastapi_over_a_socket(tracer: Tracer) -> None:
    app = fastapi.FastAPI()

    @app.get("/items/{item}")
    async def item(item: int) -> dict[str, int]:
        with tracer.start_span("look up"):
            return {"item": item}

    app.add_middleware(AsgiMiddleware, tracer=tracer)
    with serving_asgi(app) as url:
        found = requests.get(f"{url}/items/7", headers={"TRACEPARENT": CALLER}, timeout=20)
        assert found.json() == {"item": 7}
    inner, served = spans_of(tracer)
    assert (served.name, served.parent_id, inner.parent_id) == ("GET /items/{item}", SPAN_ID, served.span_id)
