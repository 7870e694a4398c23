"""A Lambda function as HoneyHive's documentation writes it: a tracer on first use, a session for every invocation."""

from __future__ import annotations

import functools
import json
from typing import Any

from tracebaton import HoneyHiveTracer, trace


@functools.lru_cache
def get_tracer() -> HoneyHiveTracer:
    """The tracer, made by the first invocation."""
    return HoneyHiveTracer.init(project="lambda-example", source="lambda")


@trace(event_type="model", event_name="answer")
def answer(question: str) -> str:
    """The work that is traced."""
    return f"{len(question)} characters"


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answers a question."""
    tracer = get_tracer()
    question = json.loads(event.get("body") or "{}").get("question", "")
    tracer.create_session(session_name=f"lambda-{context.aws_request_id}", inputs={"question": question})
    result = answer(question)
    tracer.enrich_session(outputs={"answer": result})
    # The process is frozen when this returns.
    tracer.flush(timeout_millis=2_000)
    return {"statusCode": 200, "body": json.dumps({"answer": result})}
