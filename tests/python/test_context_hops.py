"""Five processes in a row, ours and OpenTelemetry's SDK in turns: nothing of the headers is lost on the way."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from programs import WARNINGS, clean_environment

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
# Keys that OpenTelemetry's `TraceState` refuses (a digit first, two `@`), empty members, optional space.
STATE = "1digit=a b,vendor@system=x;y:z ,, 0a/b*c=!~,k@a@b=1"
# Properties, a key twice, percent forms that decode to the same text, a text that is no UTF-8, `+`, spaces around.
BAGGAGE = (
    "user=Am%C3%A9lie;tier=gold;flag, k=1 ;p = %20 ,k=2,lower=%c3%a9,plain+plus=a+b%2Bc,bad=%FF%2,"
    "deep=%252520,empty=,=nokey,none,quoted=a%22b"
)

HOP = """
import http.client, json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

role, url, change = sys.argv[1:4]

if role == "ours":
    from tracebaton import Tracer, inject_context_into_carrier, with_distributed_trace_context
    tracer = Tracer.init(exporter="none", source="ours", session_id="its own")

    def handle(headers, send):
        with with_distributed_trace_context(headers), tracer.start_span("hop"):
            return send(inject_context_into_carrier({}))
else:
    from opentelemetry import baggage, context, propagate
    from opentelemetry.sdk.trace import TracerProvider
    otel = TracerProvider().get_tracer("hop")

    def handle(headers, send):
        token = context.attach(propagate.extract(headers))
        try:
            if change == "change":
                context.attach(baggage.remove_baggage("deep", baggage.set_baggage("lower", "new \\u00e9")))
            with otel.start_as_current_span("hop"):
                out = {}
                propagate.inject(out)
                return send(out)
        finally:
            context.detach(token)

def send(headers):
    if not url:
        return [headers]
    host, port = url.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.request("GET", "/", headers=headers)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return [headers, *answer]

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(handle(self.headers, send)).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

server = HTTPServer(("127.0.0.1", 0), Handler)
print(f"127.0.0.1:{server.server_address[1]}", flush=True)
server.serve_forever()
"""


@contextlib.contextmanager
def chain(roles: list[str], change: str) -> Iterator[str]:
    """Starts the processes, the last one first; the address of the first one."""
    with contextlib.ExitStack() as stack:
        url = ""
        for i, role in reversed(list(enumerate(roles))):
            # The API's propagators, or ours by its name: there is nothing else of ours in a program on the SDK.
            environment = clean_environment({"OTEL_PROPAGATORS": "tracebaton"} if role == "sdk" else {})
            said = change if i == 1 else ""
            process = subprocess.Popen(
                [sys.executable, *WARNINGS, "-c", HOP, role, url, said],
                env=environment,
                stdout=subprocess.PIPE,
                encoding="utf-8",
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url, "a hop did not start"
        yield url


def through(roles: list[str], change: str = "") -> list[dict[str, str]]:
    """What each hop sent on."""
    with chain(roles, change) as url:
        host, port = url.split(":")
        with contextlib.closing(http.client.HTTPConnection(host, int(port), timeout=30)) as connection:
            headers = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01", "tracestate": STATE, "baggage": BAGGAGE}
            connection.request("GET", "/", headers=headers)
            answer: Any = json.loads(connection.getresponse().read())
    return answer  # type: ignore[no-any-return]


@pytest.mark.parametrize("first", ["ours", "sdk"])
def test_byte_for_byte(first: str) -> None:
    roles = (["ours", "sdk"] if first == "ours" else ["sdk", "ours"]) * 2 + [first]
    sent = through(roles)
    assert len(sent) == 5
    # What the rules drop is dropped at the first hop; from there on nothing changes any more.
    state, members = sent[0]["tracestate"], foreign(sent[0]["baggage"])
    for hop in sent:
        assert set(hop) == {"traceparent", "tracestate", "baggage"}
        assert hop["tracestate"] == state
        assert foreign(hop["baggage"]) == members
        assert hop["traceparent"].startswith(f"00-{TRACE_ID}-")
        assert hop["traceparent"].endswith("-01")
    # And that is all but what the recommendations do not allow. The space around a member is the list's.
    assert state == STATE
    assert members == [member.strip() for member in BAGGAGE.split(",") if member not in ("=nokey", "none")]
    assert len({hop["traceparent"] for hop in sent}) == 5
    ours = [hop["baggage"].startswith("session_id=its%20own,source=ours,") for hop in sent]
    assert ours == [role == "ours" or i > 0 for i, role in enumerate(roles)]


def test_a_change_in_the_middle_changes_that_alone() -> None:
    sent = through(["ours", "sdk", "ours", "sdk", "ours"], "change")
    assert sent[4]["tracestate"] == STATE
    members = foreign(sent[0]["baggage"])
    members.remove("deep=%252520")
    changed = foreign(sent[4]["baggage"])
    assert sorted(changed) == sorted("lower=new%20%C3%A9" if member == "lower=%c3%a9" else member for member in members)
    for hop in sent[1:]:
        assert foreign(hop["baggage"]) == changed


def foreign(baggage: str) -> list[str]:
    """The members that are not ours, byte for byte."""
    ours = ("session_id=", "project=", "source=")
    return [member for member in baggage.split(",") if not member.startswith(ours)]
