"""A service that stays on OpenTelemetry's SDK: no line of it knows of tracebaton. `sdk_hop.py FRAMEWORK URL COLLECTOR`
serves until its standard input ends, and asks URL in every request."""

from __future__ import annotations

import sys
from typing import Any

import fastapi
import flask
import httpx
import requests
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from serving import serving_asgi, serving_wsgi


def flask_and_requests(next_url: str) -> Any:
    app = flask.Flask("hop")

    @app.get("/agent")
    def agent() -> Any:
        return requests.get(next_url, timeout=20).json()

    FlaskInstrumentor().instrument_app(app)
    RequestsInstrumentor().instrument()
    return serving_wsgi(app)


def fastapi_and_httpx(next_url: str) -> Any:
    app = fastapi.FastAPI()

    @app.get("/agent")
    async def agent() -> Any:
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.get(next_url, timeout=20)).json()

    FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"])
    HTTPXClientInstrumentor().instrument()
    return serving_asgi(app)


def main(framework: str, next_url: str, collector: str) -> None:
    provider = TracerProvider(resource=Resource.create({"service.name": framework}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=f"{collector}/v1/traces")))
    trace.set_tracer_provider(provider)
    servers = {"flask": flask_and_requests, "fastapi": fastapi_and_httpx}
    with servers[framework](next_url) as url:
        print(url, flush=True)
        sys.stdin.read()
    assert "tracebaton._tracer" not in sys.modules or not __import__("tracebaton").get_tracer()


if __name__ == "__main__":
    main(*sys.argv[1:])
