"""The first service: it starts the trace and calls the second one."""

import sys

import requests
from tracebaton import Tracer, inject_context_into_carrier, trace

tracer = Tracer.init(project="quickstart", source="gateway", service_name="gateway")


@trace(event_type="chain", event_name="ask")
def ask(agent: str, question: str) -> str:
    headers = inject_context_into_carrier({})
    response = requests.post(f"{agent}/answer", json={"question": question}, headers=headers, timeout=10)
    return response.json()["reply"]


if __name__ == "__main__":
    print(ask(sys.argv[1], "What is six times seven?"))
    print(f"session {tracer.session_id}")
    tracer.flush()
