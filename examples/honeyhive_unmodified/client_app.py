"""The caller of `agent_server.py`: two turns in one session, written for the `honeyhive` package and nothing else.

AGENT_SERVER_URL=http://127.0.0.1:5003 tracebaton-run client_app.py
"""

import os

import requests
from honeyhive import HoneyHiveTracer, trace
from honeyhive.tracer.processing.context import enrich_span_context, inject_context_into_carrier

tracer = HoneyHiveTracer.init(
    api_key=os.getenv("HH_API_KEY"),
    project=os.getenv("HH_PROJECT"),
    source="client-app",
)

SERVER = os.getenv("AGENT_SERVER_URL", "http://127.0.0.1:5003")


@trace(event_type="chain", event_name="user_call")
def user_call(query: str) -> str:
    """One turn, as the user sees it."""
    return call_agent(query)


def call_agent(query: str) -> str:
    """Asks the agent in the other process."""
    with enrich_span_context(event_name="call_agent", inputs={"query": query}):
        headers: dict[str, str] = {}
        inject_context_into_carrier(headers, tracer)
        response = requests.post(f"{SERVER}/agent/invoke", json={"query": query}, headers=headers, timeout=60)
        response.raise_for_status()
        answer = response.json()["response"]
        tracer.enrich_span(outputs={"response": answer}, metadata={"status_code": response.status_code})
        return answer


if __name__ == "__main__":
    print(f"session: {tracer.session_id}")
    for question in ("what are tides?", "and volcanoes?"):
        print(user_call(question))
    tracer.flush()
