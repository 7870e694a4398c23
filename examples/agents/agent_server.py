"""The remote agent: a Flask service that runs a Google ADK agent inside the trace and session of its caller.

    python agent_server.py [--port PORT]

It calls `init` by itself and knows nothing of the client's tracer: trace and session come with the request's headers.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from typing import Any

from flask import Flask, request
from google.adk.sessions import InMemorySessionService
from openinference.instrumentation.google_adk import GoogleADKInstrumentor
from tracebaton import HoneyHiveTracer, with_distributed_trace_context
from werkzeug.serving import make_server

import adk_agents

tracer = HoneyHiveTracer.init(project="agents-demo", source="agent-server", service_name="agent-server")
GoogleADKInstrumentor().instrument(tracer_provider=tracer.provider)

app = Flask("agent_server")
# The conversations of the callers, by session id.
sessions = InMemorySessionService()


@app.get("/healthz")
def healthz() -> dict[str, str]:
    """Says that the service takes requests."""
    return {"status": "ok"}


@app.post("/agent/invoke")
async def invoke() -> Any:
    """Runs one turn of the research agent: takes `{"query", "session_id"}`, answers `{"agent", "response"}`."""
    asked = request.get_json()
    query, session_id = asked.get("query"), asked.get("session_id")
    if not isinstance(query, str) or not isinstance(session_id, str):
        return {"error": "query and session_id must be strings"}, 400
    with with_distributed_trace_context(dict(request.headers), tracer):
        agent = adk_agents.research_agent()
        answer = await adk_agents.ask(agent, sessions, session_id, query)
    return {"agent": agent.name, "response": answer}


def main() -> int:
    """Serves until SIGTERM or Ctrl-C, then delivers what is left of the traces."""
    arguments = argparse.ArgumentParser(description="The research agent as an HTTP service on 127.0.0.1.")
    arguments.add_argument(
        "--port", type=int, default=0, help="the port to listen on; 0, the default, takes a free one"
    )
    server = make_server("127.0.0.1", arguments.parse_args().port, app, threaded=True)
    # shutdown() waits for serve_forever() to return, which runs on the thread that gets the signal.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown, daemon=True).start())
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
    server.server_close()
    delivered = tracer.flush()
    tracer.shutdown()
    return 0 if delivered else 1


if __name__ == "__main__":
    sys.exit(main())
