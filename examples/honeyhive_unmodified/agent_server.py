"""A Flask service that goes on in its caller's trace, written for the `honeyhive` package and nothing else.

    tracebaton-run agent_server.py

HH_API_KEY, HH_PROJECT and HH_API_URL say where its spans go, PORT where it listens (0: on a free port).
"""

import os

from flask import Flask, jsonify, request
from honeyhive import HoneyHiveTracer, trace
from honeyhive.models import EventType
from honeyhive.tracer.processing.context import with_distributed_trace_context

tracer = HoneyHiveTracer.init(
    api_key=os.getenv("HH_API_KEY"),
    project=os.getenv("HH_PROJECT"),
    source="agent-server",
)

app = Flask(__name__)


@app.route("/agent/invoke", methods=["POST"])
async def invoke():
    """One turn of the agent, as a part of the caller's trace and session."""
    with with_distributed_trace_context(dict(request.headers), tracer):
        answer = await run_agent(request.get_json()["query"])
        return jsonify({"response": answer})


@trace(event_type="chain", event_name="agent_run")
async def run_agent(query: str) -> str:
    """Thinks about the question."""
    tracer.enrich_span(metadata={"agent": "research"})
    return look_up(query).upper()


@trace(event_type=EventType.tool)
def look_up(query: str) -> str:
    """Stands for a tool of the agent."""
    return f"found: {query}"


if __name__ == "__main__":
    app.run(port=int(os.getenv("PORT", "5003")))
