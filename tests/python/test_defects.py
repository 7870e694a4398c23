"""What is known to go wrong in the SDK that this package is compatible with, and must not go wrong here.

Each test is named after a defect: a letter for the part (A propagation, B sessions, C delivery, D cost, E the safety of
user code) and a number; those of C, D and E are in test_defects_delivery.py. Every number has a test. Of these, a part
is no test, or is one elsewhere:

| defect | part | why |
| --- | --- | --- |
| A5 | ids of tracers that coincide in forked processes | no such id leaves a process |
| C2, C4 | seconds | a test that hangs fails by its time limit; no time is asserted |
| D | the cost of a span | `make bench` measures ours beside OpenTelemetry's in the same run |
| E7 | `init` after the fork | advice of its maker, and not needed here; test_fork.py has forks of every kind |
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flask
import pytest
from collector import Answer, Collector
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from recorded import by_name, only_span_of, spans_of
from tracebaton import (
    ContextThreadPoolExecutor,
    Tracer,
    enrich_span_context,
    extract_context_from_carrier,
    inject_context_into_carrier,
    set_default_tracer,
    trace,
    with_distributed_trace_context,
    wrap,
)
from tracebaton.middleware import WsgiMiddleware

Make = Callable[..., Tracer]
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
CALLER = f"00-{TRACE_ID}-{SPAN_ID}-01"
SENT = {"traceparent": CALLER, "baggage": "session_id=theirs,project=theirs"}
OK, ERROR = 0, 2
START = "/session/start"
SPANS = "/opentelemetry/v1/traces"


def known_as(session_id: str) -> str:
    """The id that HoneyHive knows a session by."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, session_id))


@pytest.fixture
def honeyhive(make_tracer: Make, collector: Collector) -> Make:
    """Makes tracers whose HoneyHive is the collector."""

    def make(**arguments: Any) -> Tracer:
        return make_tracer(**{"exporter": None, "api_key": "k", "server_url": collector.url, **arguments})

    return make


def work(tracer: Tracer, name: str = "work") -> None:
    with tracer.start_span(name):
        pass


def isolated(function: Callable[..., Any], *args: Any) -> Any:
    """Runs what leaves something current in a context of its own."""
    return contextvars.copy_context().run(function, *args)


# A. Propagation


def test_a1_a_dict_of_flasks_headers_keeps_the_trace(tracer: Tracer) -> None:
    app = flask.Flask("shop")

    @app.get("/")
    def index() -> str:
        carrier = dict(flask.request.headers)
        assert "Traceparent" in carrier
        with with_distributed_trace_context(carrier, tracer):
            work(tracer)
        return ""

    assert app.test_client().get("/", headers=SENT).status_code == 200
    span = only_span_of(tracer)
    assert (span.trace_id, span.parent_id, span.session) == (TRACE_ID, SPAN_ID, "theirs")


def test_a2_inject_writes_the_session_everywhere(tracer: Tracer) -> None:
    written: dict[str, dict[str, str]] = {"in plain code": inject_context_into_carrier({}, tracer)}
    with tracer.start_span("a span"):
        written["in a span"] = inject_context_into_carrier({}, tracer)
    with enrich_span_context("a block"):
        written["in a block"] = inject_context_into_carrier({})

    @trace
    def function() -> None:
        written["in a function"] = inject_context_into_carrier({})

    function()
    with ThreadPoolExecutor(1) as pool:
        written["in another thread"] = pool.submit(inject_context_into_carrier, {}, tracer).result()
    for where, headers in written.items():
        assert headers["baggage"] == "session_id=own,project=shop,source=dev", where
        assert ("traceparent" in headers) is (where not in ("in plain code", "in another thread"))


def test_a3_values_stay_byte_for_byte_over_hops(make_tracer: Make) -> None:
    values = "session_id=my%20proj/%C3%A9,k=a%2Db;ttl=5;p,u=%E4%BD%A0%E5%A5%BD,plus=a+b,twice=%2520"
    headers = {"traceparent": CALLER, "baggage": values}
    for hop in range(5):
        tracer = make_tracer(project=None, source=f"hop{hop}", session_id="own")
        with with_distributed_trace_context(headers, tracer), tracer.start_span("hop"):
            headers = inject_context_into_carrier({}, tracer)
        assert only_span_of(tracer).session == "my proj/é"
    session, rest = values.split(",", 1)
    assert headers["baggage"] == f"{session},source=hop4,{rest}"


@pytest.mark.parametrize(
    "carrier",
    [
        {"TRACEPARENT": CALLER, "BAGGAGE": "session_id=theirs"},
        {"HTTP_TRACEPARENT": CALLER, "HTTP_BAGGAGE": "session_id=theirs"},
        {b"traceparent": CALLER.encode(), b"baggage": b"session_id=theirs"},
        [(b"Traceparent", CALLER.encode()), (b"Baggage", b"session_id=theirs")],
        {"traceparent": [CALLER], "baggage": ["k=v", "session_id=theirs"]},
    ],
)
def test_a4_every_carrier_is_read(tracer: Tracer, carrier: Any) -> None:
    with with_distributed_trace_context(carrier, tracer):
        work(tracer)
    span = only_span_of(tracer)
    assert (span.trace_id, span.parent_id, span.session) == (TRACE_ID, SPAN_ID, "theirs")


@pytest.mark.parametrize(
    "carrier", [None, 5, b"bytes", "text", {"baggage": None}, {"traceparent": {}}, [1, (2,), None]]
)
def test_a4_no_carrier_raises(tracer: Tracer, carrier: Any) -> None:
    with with_distributed_trace_context(carrier, tracer):
        work(tracer)
    assert extract_context_from_carrier(carrier, tracer) is not None
    assert only_span_of(tracer).session == "own"


def test_a5_nothing_private_leaves_and_a_remote_tracer_id_means_nothing(make_tracer: Make) -> None:
    tracer, other = make_tracer(), make_tracer()
    set_default_tracer(tracer)
    carrier = {"baggage": f"honeyhive_tracer_id={id(other)},k=v"}

    @trace
    def function() -> dict[str, str]:
        return inject_context_into_carrier({})

    with with_distributed_trace_context(carrier, tracer):
        headers = function()
    assert headers["baggage"] == "session_id=own,project=shop,source=dev,k=v"
    for text in (str(id(tracer)), str(id(other)), hex(id(tracer)), str(os.getpid())):
        assert text not in headers["baggage"]
    assert len(spans_of(tracer)) == 1
    assert spans_of(other) == []


def test_a6_each_service_has_its_own_source_and_baggage_is_no_attribute(make_tracer: Make) -> None:
    trusting = make_tracer(source="server")
    strict = make_tracer(
        source="server", policy={"accept_session": False, "accept_project": False, "baggage_attributes": ["k"]}
    )
    baggage = "session_id=theirs,project=theirs,source=client,parent_id=p,run_id=r,k=v,honeyhive.parent_id=q"
    for tracer in (trusting, strict):
        with with_distributed_trace_context({"baggage": baggage}, tracer):
            work(tracer)
    trusted, distrusted = only_span_of(trusting), only_span_of(strict)
    assert (trusted.session, trusted.project, trusted.source) == ("theirs", "theirs", "server")
    assert (distrusted.session, distrusted.project, distrusted.source) == ("own", "shop", "server")
    ours = {"honeyhive_event_type"}
    routing = {key for key in trusted.attributes if key.startswith(("honeyhive.", "session."))}
    assert trusted.attributes.keys() <= routing | ours, "nothing that a caller names becomes an attribute"
    assert not {"honeyhive.parent_id", "honeyhive_metadata.run_id"} & trusted.attributes.keys()
    listed = distrusted.attributes.keys() - trusted.attributes.keys() - {"honeyhive.session_name"}
    assert [distrusted.attributes[key] for key in listed] == ["v"]


def test_a7_asyncio_run_inside_a_block_needs_no_help(tracer: Tracer) -> None:
    async def inner() -> None:
        with enrich_span_context("inner"):
            await asyncio.sleep(0)

    with with_distributed_trace_context(SENT, tracer), tracer.start_span("outer"):
        asyncio.run(inner())
    spans = by_name(spans_of(tracer))
    assert spans["inner"].parent_id == spans["outer"].span_id
    assert (spans["outer"].parent_id, spans["inner"].session) == (SPAN_ID, "theirs")


def test_a8_what_a_caller_did_not_sample_is_not_silent(make_tracer: Make, caplog: pytest.LogCaptureFixture) -> None:
    obeying, recording = make_tracer(), make_tracer(sampler="always_on")
    for tracer in (obeying, recording):
        with with_distributed_trace_context({"traceparent": f"{CALLER[:-2]}00"}, tracer):
            work(tracer)
    assert spans_of(obeying) == []
    assert obeying.stats()["not_sampled"] == 1
    assert 'sampler="always_on"' in caplog.text
    assert only_span_of(recording).parent_id == SPAN_ID


# B. Sessions


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=500),
        Answer(status=401),
        Answer(hang=True),
        Answer(drop=True),
        Answer(body=b"{}"),
        Answer(body=b"x"),
    ],
)
@pytest.mark.parametrize("session_id", ["not a UUID", "6BA7B811-9DAD-11D1-80B4-00C04FD430C8"])
def test_b1_a_session_id_is_kept(collector: Collector, honeyhive: Make, answer: Answer, session_id: str) -> None:
    collector.apart[START] = answer
    tracer = honeyhive(session_id=session_id)
    assert tracer.session_id == session_id
    work(tracer)
    headers = inject_context_into_carrier({}, tracer)
    assert tracer.flush(10_000)
    assert headers["baggage"].startswith(f"session_id={session_id.replace(' ', '%20')},")
    known = session_id.lower() if "-" in session_id else known_as(session_id)
    assert [span.session for span in collector.spans] == [known]


def test_b1_test_mode_keeps_it_too(make_tracer: Make) -> None:
    assert make_tracer(test_mode=True, session_id="mine").session_id == "mine"


def test_b2_the_second_invocation_is_in_its_own_session(collector: Collector, honeyhive: Make) -> None:
    tracer = honeyhive()

    def invocations() -> list[str]:
        found = []
        for number in range(2):
            collector.apart[START] = Answer(status=500) if number else Answer()
            found.append(tracer.create_session(f"lambda-{number}"))
            work(tracer)
            assert tracer.flush(10_000)
        return found

    sessions = isolated(invocations)
    assert None not in sessions
    assert len({*sessions, "own"}) == 3
    assert [span.session for span in collector.spans] == sessions


def test_b3_a_session_ends(tracer: Tracer) -> None:
    with tracer.with_session(session_id="block"):
        work(tracer)
    with tracer.start_span("request"):
        tracer.create_session(session_id="created")
        work(tracer)
    work(tracer)
    assert [span.session for span in spans_of(tracer) if span.name == "work"] == ["block", "created", "own"]


def test_b3_a_thread_of_a_pool_takes_no_session_to_the_next_request(tracer: Tracer) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/creates":
            tracer.create_session(session_id="created")
        work(tracer)
        start_response("200 OK", [])
        return []

    app = WsgiMiddleware(application, tracer)
    with ThreadPoolExecutor(1) as pool:
        for path in ("/creates", "/does not"):
            pool.submit(app, {"REQUEST_METHOD": "GET", "PATH_INFO": path}, lambda *_: None).result()
        assert pool.submit(lambda: dict(otel_context.get_current())).result() == {}
    first, _, second, served = spans_of(tracer)
    assert (first.session, second.session, served.session) == ("created", "own", "own")


@pytest.mark.parametrize("count", [130, 1_100, 5_000])
def test_b4_a_span_with_many_attributes_keeps_its_session(make_tracer: Make, count: int) -> None:
    make_tracer()
    second = make_tracer(session_id="second")

    @trace(tracer=second)
    def listing() -> list[int]:
        return list(range(count))

    listing()
    span = only_span_of(second)
    assert (span.session, span.project, span.source) == ("second", "shop", "dev")
    results = span.under("outputs")
    assert len(results) == count if count < 1_000 else len(span.attributes) + span.dropped_attributes > 1


def test_b5_context_for_threads(tracer: Tracer) -> None:
    with ThreadPoolExecutor(1) as pool, ContextThreadPoolExecutor(1) as ours:
        pool.submit(int).result(), ours.submit(int).result()  # the threads are there before the request
        with with_distributed_trace_context(SENT, tracer), tracer.start_span("request"):
            pool.submit(wrap(work), tracer, "wrapped").result()
            ours.submit(work, tracer, "by the executor").result()
            thread = threading.Thread(target=wrap(work), args=(tracer, "in a thread"))
            thread.start()
            thread.join()
        ours.submit(work, tracer, "afterwards").result()
    spans = by_name(spans_of(tracer))
    for name in ("wrapped", "by the executor", "in a thread"):
        assert (spans[name].parent_id, spans[name].session) == (spans["request"].span_id, "theirs")
    assert (spans["afterwards"].parent_id, spans["afterwards"].session) == ("", "own")


def test_b6_tracers_are_isolated(make_tracer: Make) -> None:
    one, other = make_tracer(session_id="one"), make_tracer(session_id="other")

    def program() -> None:
        one.create_session(session_id="created")
        with one.start_span("one"), other.start_span("other"):
            pass

    isolated(program)
    assert (only_span_of(one).session, only_span_of(other).session) == ("created", "other")
    assert only_span_of(other).parent_id == ""
    assert only_span_of(other).trace_id != only_span_of(one).trace_id


def test_b6_the_tracer_that_is_meant_is_the_same_in_every_thread(make_tracer: Make) -> None:
    first, second = make_tracer(), make_tracer()

    @trace
    def function() -> None:
        with enrich_span_context("block"):
            pass

    def everywhere() -> None:
        function()
        thread = threading.Thread(target=function)
        thread.start()
        thread.join()

    everywhere()
    assert (len(spans_of(first)), len(spans_of(second))) == (4, 0)
    set_default_tracer(second)
    everywhere()
    with first.start_span("firsts"):
        function()
    assert (len(spans_of(first)), len(spans_of(second))) == (7, 4)


def test_b7_session_calls_mean_the_same_session(collector: Collector, honeyhive: Make) -> None:
    tracer = honeyhive(exporter=["honeyhive", "memory"])
    assert tracer.session_start() == "own"
    with tracer.with_session(session_id="created"):
        work(tracer)
        event = tracer.create_event("event", inputs={"a": 1})
    assert tracer.enrich_session({"a": 1}, session_id="elsewhere"), "without a session here"
    assert tracer.flush(10_000)
    spans = by_name(spans_of(tracer))
    assert spans["work"].session == spans["event"].session == "created"
    assert spans["event"].span_id == event
    assert tracer.shutdown(10_000)
    started = [json.loads(request.body)["session"]["session_id"] for request in collector.requests_to(START)]
    assert started == [known_as("own"), known_as("created")]
    (enrichment,) = collector.requests_to("/events")
    assert json.loads(enrichment.body)["event_id"] == known_as("elsewhere")


def test_b8_after_a_shutdown_the_next_tracer_records(make_tracer: Make) -> None:
    for _ in range(3):
        tracer = make_tracer()
        otel_trace.set_tracer_provider(tracer.provider)
        work(tracer)
        assert len(spans_of(tracer)) == 1
        assert tracer.shutdown()

        @trace
        def function() -> int:
            return 5

        assert function() == 5
    last = make_tracer()
    assert function() == 5
    assert len(spans_of(last)) == 1


def test_b9_no_span_is_without_a_session(collector: Collector, honeyhive: Make) -> None:
    tracer = honeyhive(session_id=None, skip_backend_session_creation=True)
    work(tracer)
    assert tracer.flush(10_000)
    (span,) = collector.spans
    assert span.session == tracer.session_id == str(uuid.UUID(tracer.session_id))
    assert collector.requests_to(START) == []
