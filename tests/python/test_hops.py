"""Real HTTP hops: what frameworks hand out for headers, as they come over a socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import aiohttp
import fastapi
import flask
import hops
import httpx
import pytest
import requests
from hops import CALLER, FOREIGN, KEEPING_ALL, KINDS, SERVERS, SPAN_ID, TRACE_ID, check, get, handled, raw_get
from opentelemetry import trace as otel_trace
from recorded import IS_REMOTE, Recorded, by_name, only_span_of, spans_of
from serving import serving_asgi, serving_wsgi
from tracebaton import (
    Tracer,
    enrich_span_context,
    inject_context_into_carrier,
    trace,
    with_distributed_trace_context,
)
from tracebaton.clients import aiohttp_trace_config

Make = Callable[..., Tracer]
client, server = hops.client, hops.server

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
        return get(url, headers)

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


@KEEPING_ALL
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


@KEEPING_ALL
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
        "baggage: " + "=,;%zz\xe9 " * 1_000,
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


@KINDS
def test_the_client_of_aiohttp(client: Tracer, server: Tracer, kind: str) -> None:
    async def call(url: str) -> Any:
        async with aiohttp.ClientSession(trace_configs=[aiohttp_trace_config(client)]) as session:
            async with client.start_span("call"), session.get(url) as response:
                return await response.json(content_type=None)

    with SERVERS[kind](server) as url:
        next_hop = asyncio.run(call(url))
    sent = next(span for span in spans_of(client) if span.name == "GET")
    check(only_span_of(server), trace_id=sent.trace_id, parent_id=sent.span_id, next_hop=next_hop)


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


def test_instrumented_flask_and_requests(client: Tracer, server: Tracer) -> None:
    """The frameworks' own instrumentors, through the global propagator; ours only adds the session."""
    from opentelemetry.instrumentation.flask import FlaskInstrumentor
    from opentelemetry.instrumentation.requests import RequestsInstrumentor

    app = flask.Flask("shop")

    @app.get("/")
    def index() -> Any:
        return flask.Response(handled(dict(flask.request.headers), server), content_type="application/json")

    FlaskInstrumentor().instrument_app(app, tracer_provider=server.provider)
    RequestsInstrumentor().instrument(tracer_provider=client.provider)
    try:
        with serving_wsgi(app) as url, client.start_span("call"):
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
