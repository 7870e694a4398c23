"""One session over two services by its id alone: this one sends its session's id along."""

from __future__ import annotations

import sys

import requests
from tracebaton import HoneyHiveTracer, trace

tracer = HoneyHiveTracer.init(project="sessions-example", source="client", session_name="questions")


@trace(event_type="chain", event_name="ask")
def ask(worker: str, question: str) -> str:
    """Has the worker answer."""
    body = {"question": question, "session_id": tracer.session_id}
    return str(requests.post(worker, json=body, timeout=10).json()["answer"])


if __name__ == "__main__":
    for question in ("What is it?", "And why?"):
        print(ask(sys.argv[1], question))
    tracer.enrich_session(outputs={"questions": 2})
    print(f"session {tracer.session_id}")
    tracer.flush()
