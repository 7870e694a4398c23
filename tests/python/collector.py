"""An OTLP collector on the loopback that remembers what it got, and answers as it is told."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from recorded import Recorded, from_json, from_protobuf, json_attributes, protobuf_attributes

WAIT_SECONDS = 20.0


@dataclass
class Answer:
    """What one request gets."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay: float = 0.0
    """Seconds before the answer."""
    hang: bool = False
    """No answer until the collector closes; the connection ends without one then."""
    drop: bool = False
    """The connection ends without an answer at once."""


@dataclass
class Request:
    """What came in."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    spans: list[Recorded]
    accepted: bool
    method: str = "POST"


class Collector:
    """Answers 200 unless told otherwise: by `answers`, the next ones in order, or by `always`.

    Paths in `apart` have their own answers."""

    def __init__(self) -> None:
        self.answers: deque[Answer] = deque()
        self.apart: dict[str, Answer] = {}
        self.always = Answer()
        self._requests: list[Request] = []
        self._changed = threading.Condition()
        self._closing = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # An answer goes out at once: without this its parts wait for acknowledgements.
            wbufsize = -1

            def do_POST(self) -> None:
                collector._handle(self)

            do_PUT = do_POST

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            # Connections that wait to be accepted: the five of the standard library are soon too few.
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def requests(self) -> list[Request]:
        with self._changed:
            return list(self._requests)

    @property
    def spans(self) -> list[Recorded]:
        """The spans that were accepted: sent twice, they are here twice."""
        return [span for request in self.requests if request.accepted for span in request.spans]

    def wait(self, condition: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
        """Waits until the condition holds, which is asked after every request."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not condition():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"waited {seconds} s; {len(self._requests)} requests came")
                self._changed.wait(left)

    def requests_to(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]

    def wait_for_spans(self, count: int) -> list[Recorded]:
        self.wait(lambda: len(self._accepted()) >= count)
        return self.spans

    def wait_for_requests(self, count: int) -> list[Request]:
        self.wait(lambda: len(self._requests) >= count)
        return self.requests

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _accepted(self) -> list[Recorded]:
        return [span for request in self._requests if request.accepted for span in request.spans]

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length", "0")))
        with self._changed:
            apart = self.apart.get(handler.path)
            answer = apart or (self.answers.popleft() if self.answers else self.always)
            accepted = 200 <= answer.status < 300 and not (answer.hang or answer.drop)
            headers = {name.lower(): value for name, value in handler.headers.items()}
            spans = _decoded(headers, body) if handler.path.endswith("/v1/traces") else []
            self._requests.append(Request(handler.path, headers, body, spans, accepted, handler.command))
            self._changed.notify_all()
        if answer.hang:
            self._closing.wait()
            handler.close_connection = True
            return
        if answer.drop:
            handler.close_connection = True
            return
        if answer.delay:
            self._closing.wait(answer.delay)
        try:
            handler.send_response(answer.status)
            handler.send_header("content-type", headers.get("content-type", "application/x-protobuf"))
            for name, value in answer.headers.items():
                handler.send_header(name, value)
            handler.send_header("content-length", str(len(answer.body)))
            handler.end_headers()
            handler.wfile.write(answer.body)
        except OSError:
            handler.close_connection = True


def _decoded(headers: Mapping[str, str], body: bytes) -> list[Recorded]:
    if headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    if headers.get("content-type") == "application/json":
        return _from_json(json.loads(body))
    assert headers.get("content-type") == "application/x-protobuf", headers.get("content-type")
    request = ExportTraceServiceRequest.FromString(body)
    spans = []
    for of_resource in request.resource_spans:
        resource = protobuf_attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                spans.append(_placed(from_protobuf(span), resource, of_scope.scope.name))
    return spans


def _from_json(request: dict[str, Any]) -> list[Recorded]:
    spans = []
    for of_resource in request["resourceSpans"]:
        resource = json_attributes(of_resource.get("resource", {}).get("attributes", []))
        for of_scope in of_resource["scopeSpans"]:
            for span in of_scope["spans"]:
                spans.append(_placed(from_json(span), resource, of_scope.get("scope", {}).get("name", "")))
    return spans


def _placed(span: Recorded, resource: dict[str, Any], scope: str) -> Recorded:
    span.resource, span.scope = resource, scope
    return span
