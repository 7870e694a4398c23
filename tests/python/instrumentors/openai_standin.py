"""What answers in place of a model's host: the chat completions of OpenAI's HTTP interface, on the loopback."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_COMMON = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": "gpt-4o-mini"}
_USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def _whole() -> dict[str, Any]:
    message = {"role": "assistant", "content": "Hello there"}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return {**_COMMON, "object": "chat.completion", "choices": [choice], "usage": _USAGE}


def _chunk(delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
    return {
        **_COMMON,
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if body["messages"][-1]["content"] == "fail":
            self._answer(400, "application/json", json.dumps({"error": {"message": "no", "type": "bad"}}))
        elif body.get("stream"):
            chunks = [_chunk({"role": "assistant", "content": "Hello "}), _chunk({"content": "there"}, "stop")]
            lines = [json.dumps(chunk) for chunk in chunks] + ["[DONE]"]
            self._answer(200, "text/event-stream", "".join(f"data: {line}\n\n" for line in lines))
        else:
            self._answer(200, "application/json", json.dumps(_whole()))

    def _answer(self, status: int, kind: str, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def openai_standin() -> Iterator[str]:
    """Runs it; yields the base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
