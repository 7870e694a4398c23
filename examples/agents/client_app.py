"""The caller: two turns of a conversation, each asking the remote agent over HTTP and then a local one.

    python client_app.py --server URL

Prints the answers and, as `session: ID`, the session in which all spans of both turns are.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

import requests
from google.adk.sessions import InMemorySessionService
from openinference.instrumentation.google_adk import GoogleADKInstrumentor
from tracebaton import HoneyHiveTracer, enrich_span_context, inject_context_into_carrier, trace

import adk_agents

QUESTIONS = ("What is worth knowing about tides?", "And what about volcanoes?")
_TIMEOUT_SECONDS = 60

tracer = HoneyHiveTracer.init(project="agents-demo", source="client-app", service_name="client-app")
GoogleADKInstrumentor().instrument(tracer_provider=tracer.provider)

sessions = InMemorySessionService()


@trace(event_type="chain", event_name="user_call")
def user_call(server: str, question: str) -> str:
    """One turn, as the user sees it."""
    return call_principal(server, question)


@trace(event_type="chain", event_name="call_principal")
def call_principal(server: str, question: str) -> str:
    """Has the question researched by the remote agent and the findings judged by the local one."""
    findings = call_remote_agent(server, question)
    return asyncio.run(call_local_agent(f"{question} {findings}"))


def call_remote_agent(server: str, question: str) -> str:
    """Asks the research agent in the other process, which goes on in this trace and session."""
    with enrich_span_context(event_name="call_remote_agent", inputs={"question": question, "server": server}):
        headers: dict[str, str] = {}
        inject_context_into_carrier(headers, tracer)
        response = requests.post(
            f"{server}/agent/invoke",
            json={"query": question, "session_id": tracer.session_id},
            headers=headers,
            timeout=_TIMEOUT_SECONDS,
        )
        response.raise_for_status()
        answer = response.json()
        tracer.enrich_span(outputs={"response": answer["response"]}, metadata={"agent": answer["agent"]})
        return answer["response"]


@trace(event_type="chain", event_name="call_local_agent")
async def call_local_agent(text: str) -> str:
    """Asks the analysis agent in this process."""
    return await adk_agents.ask(adk_agents.analysis_agent(), sessions, tracer.session_id, text)


def main() -> int:
    """Runs the conversation; fails if not every span was delivered."""
    arguments = argparse.ArgumentParser(description="Asks the remote and the local agent, two turns in one session.")
    arguments.add_argument("--server", required=True, metavar="URL", help="where agent_server.py listens")
    server = arguments.parse_args().server
    print(f"session: {tracer.session_id}", flush=True)
    for question in QUESTIONS:
        print(f"> {question}\n{user_call(server, question)}", flush=True)
    if not tracer.flush():
        print("not all spans were delivered", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
