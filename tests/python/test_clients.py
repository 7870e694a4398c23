"""Clients that carry trace and session along: under the outbound policy, redirects included, and never in the way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import aiohttp
import httpx
import pytest
import requests
from recorded import Recorded, by_name, only_span_of, spans_of
from tracebaton import Tracer, _native, with_distributed_trace_context
from tracebaton.clients import aiohttp_trace_config, instrument_httpx, instrument_requests

Make = Callable[..., Tracer]
CLIENT = 3
ERROR = 2
OURS = ("traceparent", "tracestate", "baggage")
PUBLIC = "http://api.example.com"
LISTED = "http://api.listed.example"


class Server:
    """Remembers the headers of requests by path; `/to?URL` redirects there, `/status/N` answers N."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                # A proxy gets the whole URL.
                path = self.path
                host = self.headers["host"]
                ours = {name.lower(): value for name, value in self.headers.items() if name.lower() in OURS}
                server.seen.append((host, path, ours))
                self.rfile.read(int(self.headers.get("content-length", 0)))
                path = path.removeprefix(f"http://{host}")
                status = 302 if path.startswith("/to?") else int(path.partition("/status/")[2] or 200)
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", path.removeprefix("/to?"))
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


Get = Callable[..., int]


def requests_get(server: Server, url: str, tracer: Tracer | None = None, **arguments: Any) -> int:
    with instrument_requests(requests.Session(), tracer, **arguments.pop("instrument", {})) as session:
        session.trust_env = False
        session.proxies = {"http": server.url}
        return session.get(url, timeout=20, **arguments).status_code


def httpx_get(server: Server, url: str, tracer: Tracer | None = None, **arguments: Any) -> int:
    client = httpx.Client(trust_env=False, proxy=server.url, follow_redirects=True)
    with instrument_httpx(client, tracer, **arguments.pop("instrument", {})):
        return client.get(url, timeout=20, **arguments).status_code


def httpx_async_get(server: Server, url: str, tracer: Tracer | None = None, **arguments: Any) -> int:
    async def get() -> int:
        client = httpx.AsyncClient(trust_env=False, proxy=server.url, follow_redirects=True)
        async with instrument_httpx(client, tracer, **arguments.pop("instrument", {})):
            return (await client.get(url, timeout=20, **arguments)).status_code

    return asyncio.run(get())


def aiohttp_get(server: Server, url: str, tracer: Tracer | None = None, **arguments: Any) -> int:
    async def get() -> int:
        config = aiohttp_trace_config(tracer, **arguments.pop("instrument", {}))
        async with aiohttp.ClientSession(trace_configs=[config]) as session:
            async with session.get(url, proxy=server.url, **arguments) as response:
                return response.status

    return asyncio.run(get())


CLIENTS = {
    "requests": requests_get,
    "httpx": httpx_get,
    "httpx async": httpx_async_get,
    "aiohttp": aiohttp_get,
}


@pytest.fixture(params=CLIENTS)
def get(request: pytest.FixtureRequest) -> Get:
    return CLIENTS[request.param]


def spans(tracer: Tracer) -> tuple[Recorded, Recorded]:
    found = by_name(spans_of(tracer))
    return found["work"], found["GET"]


def test_a_local_host_gets_all(get: Get, server: Server, tracer: Tracer) -> None:
    with tracer.start_span("work"):
        assert get(server, f"{server.url}/path?token=s3cr3t#part") == 200
    work, sent = spans(tracer)
    ((_, _, headers),) = server.seen
    assert headers["traceparent"][3:52] == f"{work.trace_id}-{sent.span_id}"
    assert headers["baggage"] == "session_id=own,project=shop,source=dev"
    assert (sent.parent_id, sent.kind, sent.status, sent.session) == (work.span_id, CLIENT, 0, "own")
    expected = {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.full": f"{server.url}/path",
        "server.address": "127.0.0.1",
        "server.port": int(server.url.rpartition(":")[2]),
    }
    assert expected.items() <= sent.attributes.items()
    assert "s3cr3t" not in str(sent.attributes)


def test_a_public_host_gets_no_baggage(get: Get, server: Server, tracer: Tracer) -> None:
    """The policy's default."""
    with with_distributed_trace_context({"baggage": "k=v"}, tracer), tracer.start_span("work"):
        assert get(server, f"{PUBLIC}/path") == 200
    _, sent = spans(tracer)
    ((host, _, headers),) = server.seen
    assert host == "api.example.com"
    assert headers.keys() == {"traceparent"}
    assert headers["traceparent"][36:52] == sent.span_id


def test_a_listed_host_gets_baggage(get: Get, server: Server, make_tracer: Make) -> None:
    tracer = make_tracer(policy={"propagate_to": ["*.listed.example"]})
    with tracer.start_span("work"):
        assert get(server, f"{LISTED}/path") == 200
        assert get(server, f"{PUBLIC}/path") == 200
    (_, _, listed), (_, _, public) = server.seen
    assert listed["baggage"] == "session_id=own,project=shop,source=dev"
    assert "baggage" not in public


def test_a_redirect_to_a_public_host_takes_no_baggage_along(get: Get, server: Server, tracer: Tracer) -> None:
    with tracer.start_span("work"):
        assert get(server, f"{server.url}/to?{PUBLIC}/there", headers={"baggage": "mine=1"}) == 200
    (_, _, first), (host, _, second) = server.seen
    assert first["baggage"] == "session_id=own,project=shop,source=dev,mine=1"
    assert host == "api.example.com"
    assert second["traceparent"][3:35] == first["traceparent"][3:35]
    # What the application wrote itself is the application's.
    assert second.get("baggage") in (None, "mine=1")
    assert "own" not in str(second)


def test_a_redirect_back_gets_it_again(get: Get, server: Server, tracer: Tracer) -> None:
    url = f"{server.url}/to?{PUBLIC}/to?{server.url}/end"
    with tracer.start_span("work"):
        assert get(server, url) == 200
    baggage = [headers.get("baggage") for _, _, headers in server.seen]
    assert baggage == ["session_id=own,project=shop,source=dev", None, "session_id=own,project=shop,source=dev"]


@pytest.mark.parametrize(("status", "failed"), [(204, False), (404, True), (503, True)])
def test_an_answer_that_says_no_is_an_error(
    get: Get, server: Server, tracer: Tracer, status: int, failed: bool
) -> None:
    assert get(server, f"{server.url}/status/{status}", tracer) == status
    span = only_span_of(tracer)
    assert span.attributes["http.response.status_code"] == status
    assert (span.status == ERROR) is failed


def test_what_a_request_raises_goes_on_unchanged(get: Get, server: Server, tracer: Tracer) -> None:
    server.close()
    with pytest.raises((requests.ConnectionError, httpx.ConnectError, aiohttp.ClientError)):
        get(server, f"{server.url}/path", tracer)
    span = only_span_of(tracer)
    assert span.status == ERROR
    assert span.attributes["error.type"]


def test_without_spans_there_are_the_headers(get: Get, server: Server, tracer: Tracer) -> None:
    with tracer.start_span("work"):
        assert get(server, f"{server.url}/path", tracer, instrument={"spans": False}) == 200
    span = only_span_of(tracer)
    ((_, _, headers),) = server.seen
    assert headers["traceparent"][36:52] == span.span_id


def test_without_a_tracer_a_request_is_a_request(get: Get, server: Server) -> None:
    assert get(server, f"{server.url}/path") == 200
    assert server.seen[0][2] == {}


def test_the_tracer_that_is_given(get: Get, server: Server, make_tracer: Make) -> None:
    make_tracer()
    other = make_tracer(session_id="others")
    assert get(server, f"{server.url}/path", other) == 200
    assert only_span_of(other).session == "others"
    assert server.seen[0][2]["baggage"].startswith("session_id=others,")


def test_nothing_of_ours_fails_a_request(
    get: Get, server: Server, tracer: Tracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("ours")

    monkeypatch.setattr(_native, "inject", broken)
    assert get(server, f"{server.url}/one", tracer) == 200
    monkeypatch.setattr("tracebaton.clients.client_attributes", broken)
    assert get(server, f"{server.url}/two", tracer) == 200
    assert [path.rpartition("/")[2] for _, path, _ in server.seen] == ["one", "two"]


def test_an_instrumented_client_stays_as_it_is(server: Server, tracer: Tracer) -> None:
    session = requests.Session()
    session.trust_env = False
    assert instrument_requests(instrument_requests(session)) is session
    with session, instrument_httpx(instrument_httpx(httpx.Client(trust_env=False))) as client:
        assert session.get(f"{server.url}/", timeout=20).status_code == client.get(f"{server.url}/").status_code == 200
    assert len(spans_of(tracer)) == 2


def test_a_body_is_sent_once(server: Server, tracer: Tracer) -> None:
    read: list[int] = []

    def parts() -> Iterator[bytes]:
        for number in range(3):
            read.append(number)
            yield b"x"

    with instrument_requests(requests.Session()) as session:
        session.trust_env = False
        response = session.post(f"{server.url}/", data=b"xyz", timeout=20)
        assert response.request.body == b"xyz"
    with instrument_httpx(httpx.Client(trust_env=False)) as client:
        assert client.post(f"{server.url}/", content=b"".join(parts()), timeout=20).status_code == 200
    assert read == [0, 1, 2]


def test_hooks_and_streams_of_httpx_work_on(server: Server, tracer: Tracer) -> None:
    seen: list[str] = []
    hooks = {"request": [lambda request: seen.append("request")], "response": [lambda it: seen.append("response")]}
    with instrument_httpx(httpx.Client(trust_env=False, event_hooks=hooks)) as client:
        with client.stream("GET", f"{server.url}/") as response:
            assert response.read() == b""
    assert seen == ["request", "response"]
    assert only_span_of(tracer).attributes["http.response.status_code"] == 200


@pytest.mark.parametrize(
    ("instrument", "message"),
    [
        (lambda: instrument_requests(5), "session must be a requests.Session, not int"),
        (lambda: instrument_httpx(5), "client must be an httpx.Client or httpx.AsyncClient, not int"),
        (lambda: aiohttp_trace_config(5), "tracer must be a Tracer, not int"),
        (lambda: instrument_requests(requests.Session(), spans=1), "spans must be a bool, not int"),
    ],
)
def test_a_wrong_argument_is_named(instrument: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        instrument()
