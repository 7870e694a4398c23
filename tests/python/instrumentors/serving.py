"""Servers on the loopback, in threads."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvicorn
import werkzeug.serving

WAIT_SECONDS = 20.0


class _Quiet(werkzeug.serving.WSGIRequestHandler):
    def log(self, *_: Any, **__: Any) -> None:
        pass


@contextlib.contextmanager
def serving_wsgi(app: Any) -> Iterator[str]:
    """Runs a WSGI application, each request in a thread of its own; yields the URL."""
    server = werkzeug.serving.make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def serving_asgi(app: Any) -> Iterator[str]:
    """Runs an ASGI application; yields the URL."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    deadline = time.monotonic() + WAIT_SECONDS
    while not (server.started and server.servers):
        assert thread.is_alive()
        assert time.monotonic() < deadline, "uvicorn did not start"
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
