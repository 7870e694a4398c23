"""One session over two services by its id alone: this one is told the id, and makes a tracer for each request."""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tracebaton import HoneyHiveTracer, enrich_span_context


def answer(question: str, session_id: str) -> str:
    """Works in the session of whoever asks."""
    tracer = HoneyHiveTracer.init(project="sessions-example", source="worker", session_id=session_id)
    with enrich_span_context("answer", tracer_instance=tracer, inputs={"question": question}, event_type="model"):
        result = f"{len(question)} characters"
        tracer.enrich_span(outputs={"answer": result})
    tracer.shutdown()
    return result


class Handler(BaseHTTPRequestHandler):
    """Answers POST requests."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps({"answer": answer(request["question"], request["session_id"])}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
