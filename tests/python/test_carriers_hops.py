"""Real hops beside those of test_hops.py: Django, Starlette, aiohttp, gRPC metadata, mail, a subprocess; and values in
every script over five hops."""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.message
import email.policy
import http.client
import json
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import aiohttp
import aiohttp.web
import django
import django.conf
import django.core.asgi
import django.core.wsgi
import django.http
import django.urls
import grpc
import grpc.aio
import pytest
import starlette.applications
import starlette.requests
import starlette.responses
import starlette.routing
import test_hops
from programs import output
from recorded import IS_REMOTE, Recorded, only_span_of, spans_of
from test_hops import CALLER, FOREIGN, SPAN_ID, TRACE_ID, check, handled, raw_get, serving, serving_asgi
from tracebaton import (
    Tracer,
    enrich_span_context,
    inject_context_into_carrier,
    set_default_tracer,
    with_distributed_trace_context,
)
from tracebaton.clients import aiohttp_trace_config

Make = Callable[..., Tracer]
client, server = test_hops.client, test_hops.server

# What services put into baggage, in many scripts, and what percent-encoding has most trouble with.
SCRIPTS = {
    "Latin": "Grüße, señor",
    "Greek": "Ελληνικά",
    "Cyrillic": "Привет мир",
    "Hebrew": "שלום",
    "Arabic": "مرحبا بالعالم",
    "Devanagari": "नमस्ते दुनिया",
    "Thai": "สวัสดี",
    "Chinese": "你好,世界",
    "Japanese": "こんにちは;世界",
    "Korean": "안녕하세요",
    "Ethiopic": "ሰላም",
    "Armenian": "Բարեւ",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈",
    "beyond the BMP": "𐌰𐌱𐌲 𐤀𐤁 𠀀",
    "combining": "e\u0301\u0323",
    "percent": "100%25 %41 %",
    "delimiters": 'a=b;c,d"e\\f',
    "plus and space": "a+b c  d",
}


def django_views(served: Tracer, carrier: Callable[[Any], Any]) -> Any:
    if not django.conf.settings.configured:
        django.conf.settings.configure(
            ALLOWED_HOSTS=["*"], ROOT_URLCONF="test_carriers_hops", SECRET_KEY="x", LOGGING_CONFIG=None, USE_TZ=True
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
    from wsgiref.simple_server import make_server

    django_views(served, carrier)
    application = django.core.wsgi.get_wsgi_application()
    with serving(make_server("127.0.0.1", 0, application, handler_class=test_hops.QuietWsgi)) as url:
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
# A `dict` keeps one of several.
KEEPING_ALL = [kind for kind in SERVERS if kind != "aiohttp dict(request.headers)"]


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


@KINDS
def test_no_headers_and_hostile_ones(server: Tracer, kind: str) -> None:
    with SERVERS[kind](server) as url:
        raw_get(url, [])
        raw_get(url, ["traceparent: " + "x" * 5_000, "baggage: " + "=,;%zz " * 1_000])
    assert [span.session for span in spans_of(server)] == ["servers own"] * 2


@KINDS
def test_the_client_of_aiohttp(client: Tracer, server: Tracer, kind: str) -> None:
    async def call(url: str) -> Any:
        async with aiohttp.ClientSession(trace_configs=[aiohttp_trace_config(client)]) as session:
            async with client.start_span("call"), session.get(url) as response:
                return await response.json()

    with SERVERS[kind](server) as url:
        next_hop = asyncio.run(call(url))
    sent = next(span for span in spans_of(client) if span.name == "GET")
    check(only_span_of(server), trace_id=sent.trace_id, parent_id=sent.span_id, next_hop=next_hop)


# gRPC: bytes in, bytes out, and metadata as headers.


def grpc_handler(method: Any) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler("shop", {"Answer": grpc.unary_unary_rpc_method_handler(method)})


def grpc_metadata(client: Tracer, shape: str) -> Any:
    if shape == "list":
        return inject_context_into_carrier([("accept", "x")], client)
    if shape == "aio.Metadata":
        return inject_context_into_carrier(grpc.aio.Metadata(("accept", "x")), client)
    return list(inject_context_into_carrier({"accept": "x"}, client).items())


@pytest.mark.parametrize("shape", ["list", "dict"])
def test_grpc_metadata(client: Tracer, server: Tracer, shape: str) -> None:
    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        return handled(context.invocation_metadata(), server)

    serving_grpc = grpc.server(ThreadPoolExecutor(2), handlers=[grpc_handler(answer)])
    port = serving_grpc.add_insecure_port("127.0.0.1:0")
    serving_grpc.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, client.start_span("call"):
            call = channel.unary_unary("/shop/Answer")
            next_hop = json.loads(call(b"", metadata=grpc_metadata(client, shape), timeout=20))
    finally:
        serving_grpc.stop(None).wait()
    sent = only_span_of(client)
    check(only_span_of(server), trace_id=sent.trace_id, parent_id=sent.span_id, next_hop=next_hop)


@pytest.mark.parametrize("shape", ["list", "dict", "aio.Metadata"])
def test_grpc_aio_metadata(client: Tracer, server: Tracer, shape: str) -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        return handled(context.invocation_metadata(), server)

    async def program() -> Any:
        serving_grpc = grpc.aio.server(handlers=[grpc_handler(answer)])
        port = serving_grpc.add_insecure_port("127.0.0.1:0")
        await serving_grpc.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel, client.start_span("call"):
                call = channel.unary_unary("/shop/Answer")
                return json.loads(await call(b"", metadata=grpc_metadata(client, shape), timeout=20))
        finally:
            await serving_grpc.stop(None)

    next_hop = asyncio.run(program())
    sent = only_span_of(client)
    check(only_span_of(server), trace_id=sent.trace_id, parent_id=sent.span_id, next_hop=next_hop)


@pytest.mark.parametrize("policy", [email.policy.compat32, email.policy.default, email.policy.SMTP])
def test_a_mail(client: Tracer, server: Tracer, policy: Any) -> None:
    kind = email.message.Message if policy is email.policy.compat32 else email.message.EmailMessage
    mail = kind(policy)
    mail["Subject"] = "hello"
    with client.start_span("send"):
        inject_context_into_carrier(mail, client)
    received = email.message_from_bytes(mail.as_bytes(), policy=policy)
    next_hop = json.loads(handled(received, server))
    sent = only_span_of(client)
    check(only_span_of(server), trace_id=sent.trace_id, parent_id=sent.span_id, next_hop=next_hop)
    with client.start_span("send again"):
        inject_context_into_carrier(mail, client)
    assert len(mail.get_all("traceparent", [])) == len(mail.get_all("baggage", [])) == 1


def test_the_environment_of_a_subprocess(client: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
import json, os, tracebaton
tracer = tracebaton.Tracer.init(exporter="memory", source="child")
with tracebaton.with_distributed_trace_context(os.environ), tracer.start_span("child"):
    headers = tracebaton.inject_context_into_carrier({})
(span,) = tracer._core.memory()
print(json.dumps([json.loads(span), headers]))
"""
    with client.start_span("parent"):
        environment = inject_context_into_carrier({**os.environ, "TRACESTATE": "old=1"}, client)
        span, headers = json.loads(output(code, environment))
    sent = only_span_of(client)
    assert (span["traceId"], span["parentSpanId"]) == (sent.trace_id, sent.span_id)
    assert headers["baggage"].startswith("session_id=the%20session,project=the%20project,source=child")


@pytest.mark.parametrize("script", SCRIPTS)
def test_five_hops_in_every_script(make_tracer: Make, script: str) -> None:
    """Session, project and another service's baggage arrive as they left, by bytes from the second hop on."""
    text = SCRIPTS[script]
    foreign = f"user={quote(text)};note={quote(text)},x=1"
    tracers = [make_tracer(source=f"s{hop}", session_id=f"own {hop}", project=None) for hop in range(5)]
    headers = {"traceparent": CALLER, "baggage": foreign}
    wires = []
    with contextlib.ExitStack() as servers:
        order = ["django request.META", "starlette request.headers", "aiohttp raw_headers", "django ASGI"]
        with with_distributed_trace_context(headers, tracers[0], session_id=text):
            with enrich_span_context("handled", tracer=tracers[0]):
                headers = inject_context_into_carrier({}, tracers[0])
        for tracer, kind in zip(tracers[1:], order, strict=True):
            wires.append(headers["baggage"])
            with SERVERS[kind](tracer) as url:
                headers = get(url, headers)
        servers.close()
    wires.append(headers["baggage"])
    spans: list[Recorded] = [only_span_of(tracer) for tracer in tracers]
    assert [span.session for span in spans] == [text] * 5
    assert [span.trace_id for span in spans] == [TRACE_ID] * 5
    assert [span.parent_id for span in spans] == [SPAN_ID, *(span.span_id for span in spans[:-1])]
    assert all(span.flags & IS_REMOTE for span in spans)
    for hop, wire in enumerate(wires):
        assert wire.isascii()
        session, source, rest = wire.split(",", 2)
        assert (session, source, rest) == (wires[0].partition(",")[0], f"source=s{hop}", foreign)


def get(url: str, headers: dict[str, str]) -> dict[str, str]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", "/", headers=headers)
        found: dict[str, str] = json.loads(connection.getresponse().read())
        return found


async def test_bytes_and_pairs_of_a_queue(client: Tracer, server: Tracer) -> None:
    """What message brokers have for headers: lists of a `str` and `bytes`."""

    async def messages() -> AsyncIterator[list[tuple[str, bytes]]]:
        with client.start_span("send"):
            sent = inject_context_into_carrier({}, client)
        yield [(name, value.encode()) for name, value in sent.items()]

    async for headers in messages():
        next_hop = json.loads(handled(headers, server))
    sent = only_span_of(client)
    check(only_span_of(server), trace_id=sent.trace_id, parent_id=sent.span_id, next_hop=next_hop)


def test_bytes_are_written_where_bytes_are(client: Tracer) -> None:
    set_default_tracer(client)
    with client.start_span("send"):
        headers: list[tuple[bytes, bytes]] = inject_context_into_carrier([(b"accept", b"x")])
    assert {type(part) for pair in headers for part in pair} == {bytes}
    assert {name for name, _ in headers} == {b"accept", b"traceparent", b"baggage"}
