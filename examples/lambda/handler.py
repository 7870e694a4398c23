"""A Lambda function: `lambda_handler` takes in the caller, begins a session, and delivers before the freeze."""

from __future__ import annotations

import json
from typing import Any

from tracebaton import Tracer, enrich_span_context
from tracebaton.serverless import lambda_handler

# Once per cold start. It opens no connection and waits for nothing.
tracer = Tracer.init(project="lambda-example", source="lambda")


@lambda_handler
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answers a question."""
    question = json.loads(event.get("body") or "{}").get("question", "")
    with enrich_span_context("answer", event_type="model", inputs={"question": question}):
        answer = f"{len(question)} characters"
        tracer.enrich_span(outputs={"answer": answer})
    return {"statusCode": 200, "body": json.dumps({"answer": answer})}
