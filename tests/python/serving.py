"""Servers on the loopback: in threads, and programs that serve in processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import uvicorn
import werkzeug.serving

WAIT_SECONDS = 20.0
START_SECONDS = 60.0


@contextlib.contextmanager
def serving(server: Any) -> Iterator[str]:
    """Runs one of the standard library's servers, or werkzeug's; yields the URL."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Quiet(werkzeug.serving.WSGIRequestHandler):
    def log(self, *_: Any, **__: Any) -> None:
        pass


class _QuietReference(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def serving_wsgi(app: Any) -> contextlib.AbstractContextManager[str]:
    """Runs a WSGI application on werkzeug, each request in a thread of its own; yields the URL."""
    return serving(werkzeug.serving.make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet))


def serving_wsgiref(app: Any) -> contextlib.AbstractContextManager[str]:
    """Runs a WSGI application on the reference server, one request after the other; yields the URL."""
    return serving(make_server("127.0.0.1", 0, app, handler_class=_QuietReference))


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


@contextlib.contextmanager
def running(command: list[str], folder: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A program that serves, in a process group of its own; its output goes to `log.txt` in the folder, and to the
    test's own where that fails."""
    log = folder / "log.txt"
    with open(log, "w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            start_new_session=True,
        )
    try:
        yield process
    except BaseException:
        print(log.read_text(encoding="utf-8"))
        raise
    finally:
        # Its children too, those of a server that is gone included.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def get_when_up(url: str, headers: Mapping[str, str] | None = None) -> str:
    """The answer to a request, once the server is there."""
    end = time.monotonic() + START_SECONDS
    request = urllib.request.Request(url, headers=dict(headers or {}))
    while True:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < end, "the server does not answer"
            time.sleep(0.05)
