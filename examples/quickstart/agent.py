"""The second service: it goes on in the trace and session of whoever calls it."""

from flask import Flask, request
from tracebaton import Tracer, enrich_span_context, with_distributed_trace_context

tracer = Tracer.init(project="quickstart", source="agent", service_name="agent")
app = Flask(__name__)


@app.post("/answer")
def answer():
    with with_distributed_trace_context(dict(request.headers), tracer):
        with enrich_span_context("think", inputs=request.get_json(), event_type="model") as span:
            reply = "42"
            span.set_attribute("app.confidence", 0.9)
            tracer.enrich_span(outputs={"reply": reply})
    return {"reply": reply}
