"""The last service: an agent with a tracer, which answers with the headers that it got and those it would send on."""

from __future__ import annotations

import sys
from typing import Any

import flask
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from serving import serving_wsgi
from tracebaton import Tracer, inject_context_into_carrier, trace, with_distributed_trace_context


def main() -> None:
    tracer = Tracer.init(session_id="the agent's own", source="agent", service_name="agent")
    app = flask.Flask("agent")

    @trace(event_name="answer")
    def answer() -> dict[str, str]:
        return inject_context_into_carrier({})

    @app.get("/agent")
    def agent() -> dict[str, Any]:
        with with_distributed_trace_context(flask.request.headers):
            return {"got": dict(flask.request.headers), "sent": answer()}

    FlaskInstrumentor().instrument_app(app, tracer_provider=tracer.provider)
    with serving_wsgi(app) as url:
        print(url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
