"""What opentelemetry-api reads in the headers of cases.jsonl, a line for each: python_sdk.py CASES OUT."""

import json
import logging
import sys
from pathlib import Path

from opentelemetry import baggage, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def read(kind: str, values: list[str]) -> object:
    if kind == "baggage":
        context = W3CBaggagePropagator().extract({"baggage": values}, Context())
        # Their baggage has no properties.
        return [[name, value, ""] for name, value in baggage.get_all(context).items()]
    carrier = {"traceparent": [TRACEPARENT], kind: values}
    context = TraceContextTextMapPropagator().extract(carrier, Context())
    span = trace.get_current_span(context).get_span_context()
    if kind == "tracestate":
        return list(span.trace_state.items())
    if not span.is_valid:
        return None
    return [trace.format_trace_id(span.trace_id), trace.format_span_id(span.span_id), int(span.trace_flags)]


def main() -> None:
    # They log every header they refuse.
    logging.disable()
    cases, out = map(Path, sys.argv[1:])
    with cases.open(encoding="utf-8") as lines, out.open("w", encoding="utf-8") as answers:
        for line in lines:
            case = json.loads(line)
            answers.write(json.dumps(read(case["kind"], case["values"])) + "\n")


if __name__ == "__main__":
    main()
