"""The examples that are programs of their own: `pytest --hosts all`, after `scripts/component-hosts.sh`."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.request import Request, urlopen

import programs
import pytest
from hosts import ROOT
from test_component import CALLER, EXAMPLE, check_service_output


@pytest.fixture
def asked(request: pytest.FixtureRequest) -> set[str]:
    names = request.config.getoption("--hosts")
    return set(programs.HOSTS) if names == "all" else set(names.split(","))


@pytest.mark.parametrize("name", ["rust", "jco"])
def test_a_program_with_the_component(asked: set[str], name: str) -> None:
    if name not in asked:
        pytest.skip("make test-all")
    command = [*programs.commands("service")[name], *EXAMPLE]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    check_service_output(done.stdout, f"component-{name}")


class Next(BaseHTTPRequestHandler):
    """Answers with the headers that it got."""

    def do_GET(self) -> None:
        names = ("traceparent", "tracestate", "baggage")
        body = json.dumps({name: self.headers.get_all(name) for name in names}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def next_service() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Next)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.parametrize("name", ["go", "java"])
def test_a_service_with_the_plain_module(asked: set[str], name: str, next_service: str) -> None:
    if name not in asked:
        pytest.skip("make test-all")
    where = "127.0.0.1:0" if name == "go" else str(free_port())
    command = [*programs.commands("service")[name], where, next_service]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            seen = []
            for _ in range(3):
                headers = {"Traceparent": CALLER, "Tracestate": "v=1", "Baggage": "session_id=abc,k=v"}
                request = Request(url, headers=headers)
                with urlopen(request, timeout=20) as answer:
                    seen.append(json.load(answer))
        finally:
            process.terminate()
    parents = [one["traceparent"][0].split("-") for one in seen]
    assert {parts[1] for parts in parents} == {CALLER.split("-")[1]}
    assert len({parts[2] for parts in parents} | {CALLER.split("-")[2]}) == 4, "each request has a span of its own"
    assert all(one["tracestate"] == ["v=1"] for one in seen)
    assert all(one["baggage"] == [f"session_id=abc,source=wasm-{name},k=v"] for one in seen)
