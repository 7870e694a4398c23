"""A stand-in for the Gemini REST API on the loopback interface, for running the agents without a key.

    python gemini_standin.py [--port PORT]

Point `google-genai` at it with `GOOGLE_GEMINI_BASE_URL` and any `GOOGLE_API_KEY`. It prints `listening on URL` when it
is ready, refuses what the real service would refuse (see `gemini_request.py`), and answers the same request always in
the same way: where a tool is declared it asks for a call of it, from the tool's result it makes a sentence, and
without tools it sums up what it was told. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import gemini_request
from gemini_request import Invalid

_MAX_BODY_BYTES = 20 * 1024 * 1024
_PATH_PREFIX = "/v1beta/models/"


class Refused(Exception):
    """An error answer of the API: HTTP status, status name and message."""

    def __init__(self, code: int, status: str, message: str) -> None:
        super().__init__(message)
        self.code, self.status = code, status


def answer_part(request: dict[str, Any]) -> dict[str, Any]:
    """The model's answer to a checked request: one part, either a function call or a text."""
    last = request["contents"][-1]
    results = gemini_request.responses(last)
    if results:
        told = "; ".join(f"{one['name']} says {_spoken(one['response'])}" for one in results)
        return {"text": f"I looked it up: {told}"}
    declared = gemini_request.declarations(request)
    if declared:
        return {
            "functionCall": {"name": declared[0]["name"], "args": _arguments(declared[0], gemini_request.text(last))}
        }
    return {"text": f"In other words: {gemini_request.text(last)}"}


def _spoken(result: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} = {value if isinstance(value, str) else json.dumps(value)}" for name, value in result.items()
    )


def _arguments(declaration: dict[str, Any], question: str) -> dict[str, Any]:
    """Arguments for every required parameter; for a string it is the last word of the question."""
    words = question.split() or [""]
    examples = {"string": words[-1].strip(".,;:!?\"'"), "integer": 1, "number": 1.5, "boolean": True}
    schema = declaration.get("parametersJsonSchema") or declaration.get("parameters") or {}
    arguments = {}
    for name in schema.get("required", []):
        kind = str(schema.get("properties", {}).get(name, {}).get("type", "string")).lower()
        if kind not in examples:
            raise Refused(501, "UNIMPLEMENTED", f"the stand-in makes up no {kind} for parameter {name!r}")
        arguments[name] = examples[kind]
    return arguments


def answers(model: str, request: dict[str, Any], streamed: bool) -> list[dict[str, Any]]:
    """The response objects for a checked request: several when it is streamed and a text, else one."""
    part = answer_part(request)
    parts = [part]
    if streamed and "text" in part:
        middle = len(part["text"]) // 2
        parts = [{"text": part["text"][:middle]}, {"text": part["text"][middle:]}]
    asked, told = _tokens(request["contents"]), _tokens(part)
    identity = sha256(json.dumps([model, request], sort_keys=True).encode()).hexdigest()[:22]
    out = []
    for at, one in enumerate(parts):
        candidate: dict[str, Any] = {"content": {"parts": [one], "role": "model"}, "index": 0}
        if at == len(parts) - 1:
            candidate["finishReason"] = "STOP"
        usage = {"promptTokenCount": asked, "candidatesTokenCount": told, "totalTokenCount": asked + told}
        out.append({"candidates": [candidate], "usageMetadata": usage, "modelVersion": model, "responseId": identity})
    return out


def _tokens(value: Any) -> int:
    """A count that grows with the text, as a real one does."""
    return max(1, len(json.dumps(value)) // 4)


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    server_version = "gemini-standin"
    # A client that stalls is not waited for.
    timeout = 60

    def do_POST(self) -> None:
        try:
            model, streamed = self._target()
            out = answers(model, self._request(), streamed)
        except Refused as refused:
            self._refuse(refused)
        except Invalid as invalid:
            self._refuse(Refused(400, "INVALID_ARGUMENT", str(invalid)))
        else:
            if streamed:
                body = "".join(f"data: {json.dumps(one)}\r\n\r\n" for one in out)
                self._send(200, "text/event-stream", body)
            else:
                self._send(200, "application/json; charset=UTF-8", json.dumps(out[0]))

    def _other_method(self) -> None:
        self._refuse(Refused(404, "NOT_FOUND", f"there is no {self.command} {urlsplit(self.path).path}"))

    do_GET = do_PUT = do_PATCH = do_DELETE = _other_method

    def _target(self) -> tuple[str, bool]:
        """The model and whether the answer is to be streamed, from path and query."""
        url = urlsplit(self.path)
        model, _, method = url.path.removeprefix(_PATH_PREFIX).partition(":")
        if not url.path.startswith(_PATH_PREFIX) or method not in ("generateContent", "streamGenerateContent"):
            raise Refused(404, "NOT_FOUND", f"there is no POST {url.path}")
        if not model.startswith("gemini-") or "/" in model:
            raise Refused(404, "NOT_FOUND", f"there is no model {model!r}")
        streamed = method == "streamGenerateContent"
        query = parse_qs(url.query)
        if streamed and query.get("alt") != ["sse"]:
            raise Refused(501, "UNIMPLEMENTED", "the stand-in streams only with alt=sse")
        if not streamed and query.get("alt", ["json"]) != ["json"]:
            raise Invalid(f"alt: invalid value {query['alt']}")
        return model, streamed

    def _request(self) -> dict[str, Any]:
        body = self._body()
        if not self.headers.get("x-goog-api-key", "").strip():
            raise Refused(403, "PERMISSION_DENIED", "the x-goog-api-key header is missing")
        if self.headers.get_content_type() != "application/json" or "Content-Type" not in self.headers:
            raise Invalid(f"content type: must be application/json, not {self.headers.get('Content-Type')}")
        try:
            parsed = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Invalid(f"the body is no JSON: {error}") from None
        return gemini_request.check(parsed)

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            self.close_connection = True
            raise Refused(411, "FAILED_PRECONDITION", "a Content-Length is needed")
        if int(length) > _MAX_BODY_BYTES:
            self.close_connection = True
            raise Invalid(f"the body is larger than {_MAX_BODY_BYTES} bytes")
        return self.rfile.read(int(length))

    def _refuse(self, refused: Refused) -> None:
        # The body of a refused request may be unread: nothing else can come on this connection.
        self.close_connection = True
        error = {"code": refused.code, "message": str(refused), "status": refused.status}
        print(f"refused: {error['code']} {error['message']}", file=sys.stderr, flush=True)
        self._send(refused.code, "application/json; charset=UTF-8", json.dumps({"error": error}))

    def _send(self, code: int, content_type: str, text: str) -> None:
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def main() -> int:
    """Serves until SIGTERM or Ctrl-C."""
    arguments = argparse.ArgumentParser(description="A stand-in for the Gemini REST API on 127.0.0.1.")
    arguments.add_argument(
        "--port", type=int, default=0, help="the port to listen on; 0, the default, takes a free one"
    )
    server = ThreadingHTTPServer(("127.0.0.1", arguments.parse_args().port), Handler)
    server.daemon_threads = True
    # shutdown() waits for serve_forever() to return, which runs on the thread that gets the signal.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown, daemon=True).start())
    print(f"listening on http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
    server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
