"""Requests at the same time, and one after the other in a process that stays warm: no session reaches another one."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import random
import sys
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fastapi
import flask
import pytest
from opentelemetry import trace as otel_trace
from recorded import Recorded, by_name, spans_of
from serving import serving_asgi, serving_wsgi
from tracebaton import (
    ContextThreadPoolExecutor,
    Tracer,
    enrich_span_context,
    get_tracer,
    inject_context_into_carrier,
    trace,
    with_distributed_trace_context,
)

Make = Callable[..., Tracer]
REQUESTS = 200


@pytest.fixture(autouse=True)
def no_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing of this logs an error, whatever the order of the ends ("Failed to detach context")."""
    with caplog.at_level(logging.WARNING):
        yield
    said = [
        record.getMessage()
        for record in caplog.get_records("call")
        if record.name.startswith(("tracebaton", "opentel"))
    ]
    assert said == []


def carrier(i: int) -> dict[str, str]:
    trace_id = f"{i + 1:032x}"
    return {"traceparent": f"00-{trace_id}-00000000000000aa-01", "baggage": f"session_id=s{i},project=p{i}"}


def check(spans: list[Recorded], requests: int, names: set[str]) -> None:
    """Each request has these spans once, all in its trace, session and project."""
    by_session: dict[str, list[Recorded]] = defaultdict(list)
    for span in spans:
        by_session[span.session].append(span)
    assert set(by_session) == {f"s{i}" for i in range(requests)}
    for i in range(requests):
        one = by_session[f"s{i}"]
        assert {span.name for span in one} == names
        assert len(one) == len(names)
        assert {span.trace_id for span in one} == {f"{i + 1:032x}"}
        assert {span.project for span in one} == {f"p{i}"}
        ids = {span.span_id for span in one} | {"00000000000000aa"}
        assert all(span.parent_id in ids for span in one)


@trace(event_name="answer")
def answer(i: int) -> str:
    with enrich_span_context("model", inputs={"i": i}):
        headers = inject_context_into_carrier({})
    assert f"session_id=s{i}," in headers["baggage"]
    return headers["traceparent"].split("-")[1]


@trace(event_name="answer")
async def answer_async(i: int) -> str:
    async with enrich_span_context("model", inputs={"i": i}):
        await asyncio.sleep(random.random() / 100)
        headers = inject_context_into_carrier({})
    assert f"session_id=s{i}," in headers["baggage"]
    return headers["traceparent"].split("-")[1]


def test_in_threads(tracer: Tracer) -> None:
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def request(i: int) -> None:
        with with_distributed_trace_context(carrier(i)):
            assert answer(i) == f"{i + 1:032x}"
        assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN

    try:
        with ThreadPoolExecutor(32) as pool:
            list(pool.map(request, range(REQUESTS)))
    finally:
        sys.setswitchinterval(switch)
    check(spans_of(tracer), REQUESTS, {"answer", "model"})


async def test_in_tasks(tracer: Tracer) -> None:
    async def request(i: int) -> None:
        async with with_distributed_trace_context(carrier(i)):
            assert await answer_async(i) == f"{i + 1:032x}"
            # A thread, and tasks of its own.
            assert await asyncio.to_thread(answer, i) == f"{i + 1:032x}"

    await asyncio.gather(*(request(i) for i in range(REQUESTS)))
    assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN
    spans = spans_of(tracer)
    assert len(spans) == 4 * REQUESTS
    for span in spans:
        assert span.trace_id == f"{int(span.session[1:]) + 1:032x}"


async def test_streams_in_tasks(tracer: Tracer) -> None:
    """Async generators that are read in turns by one task, and closed by another one."""

    @trace(event_name="generator")
    async def stream(i: int) -> AsyncIterator[str]:
        with with_distributed_trace_context(carrier(i)), tracer.start_span("stream"):
            while True:
                yield inject_context_into_carrier({})["traceparent"].split("-")[1]

    streams = [stream(i) for i in range(50)]
    for _ in range(3):
        for i, one in enumerate(streams):
            assert await anext(one) == f"{i + 1:032x}"
    random.Random(1).shuffle(streams)
    await asyncio.gather(*(asyncio.create_task(one.aclose()) for one in streams))  # type: ignore[attr-defined]
    check([span for span in spans_of(tracer) if span.name == "stream"], 50, {"stream"})


async def test_cancelled_tasks(tracer: Tracer) -> None:
    entered = asyncio.Event()
    waiting = 0

    async def request(i: int) -> None:
        nonlocal waiting
        with with_distributed_trace_context(carrier(i)):
            try:
                with tracer.start_span("cancelled"):
                    waiting += 1
                    if waiting == 50:
                        entered.set()
                    await asyncio.sleep(3600)
            finally:
                answer(i)

    tasks = [asyncio.create_task(request(i)) for i in range(50)]
    await entered.wait()
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    check(spans_of(tracer), 50, {"cancelled", "answer", "model"})


@pytest.mark.skipif(sys.version_info < (3, 11), reason="task groups came with 3.11")
async def test_task_groups(tracer: Tracer) -> None:
    async def request(i: int) -> None:
        with with_distributed_trace_context(carrier(i)), tracer.start_span("request"):
            async with asyncio.TaskGroup() as group:
                group.create_task(answer_async(i))

    async with asyncio.TaskGroup() as group:
        for i in range(50):
            group.create_task(request(i))
    check(spans_of(tracer), 50, {"request", "answer", "model"})


def test_asyncio_run_inside_a_block_in_threads(tracer: Tracer) -> None:
    def request(i: int) -> None:
        with with_distributed_trace_context(carrier(i)):
            assert asyncio.run(answer_async(i)) == f"{i + 1:032x}"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(request, range(40)))
    check(spans_of(tracer), 40, {"answer", "model"})


def test_callbacks_and_tasks_begun_inside_end_outside(tracer: Tracer) -> None:
    """What a request leaves running goes on in its session, whatever the request does."""

    async def main() -> None:
        later: list[asyncio.Task[str]] = []

        async def request(i: int) -> None:
            with with_distributed_trace_context(carrier(i)):
                later.append(asyncio.create_task(answer_async(i)))

        await asyncio.gather(*(request(i) for i in range(20)))
        assert sorted(await asyncio.gather(*later)) == [f"{i + 1:032x}" for i in range(20)]

    asyncio.run(main())
    check(spans_of(tracer), 20, {"answer", "model"})


def get(url: str, i: int) -> bytes:
    host = url.removeprefix("http://")
    with contextlib.closing(http.client.HTTPConnection(host, timeout=30)) as connection:
        connection.request("GET", f"/{i}", headers=carrier(i))
        response = connection.getresponse()
        assert response.status == 200
        return response.read()


def test_flask_with_threads(tracer: Tracer) -> None:
    app = flask.Flask("shop")
    pool = ContextThreadPoolExecutor(4)

    @app.get("/<int:i>")
    def index(i: int) -> Any:
        with with_distributed_trace_context(dict(flask.request.headers)), tracer.start_span("request"):
            return pool.submit(answer, i).result()

    with serving_wsgi(app) as url:
        with ThreadPoolExecutor(16) as clients:
            answers = list(clients.map(lambda i: get(url, i).decode(), range(REQUESTS)))
    pool.shutdown()
    assert answers == [f"{i + 1:032x}" for i in range(REQUESTS)]
    check(spans_of(tracer), REQUESTS, {"request", "answer", "model"})


def test_fastapi_with_tasks_and_threads(tracer: Tracer) -> None:
    app = fastapi.FastAPI()

    @app.middleware("http")
    async def sessions(request: fastapi.Request, call_next: Any) -> Any:
        async with with_distributed_trace_context(request.headers):
            return await call_next(request)

    @app.get("/{i}")
    async def index(i: int, later: fastapi.BackgroundTasks) -> Any:
        with tracer.start_span("request"):
            later.add_task(tracer.start_span("later").__enter__().end)
            return await answer_async(i)

    with serving_asgi(app) as url, ThreadPoolExecutor(16) as clients:
        answers = [json.loads(body) for body in clients.map(lambda i: get(url, i), range(REQUESTS))]
    assert answers == [f"{i + 1:032x}" for i in range(REQUESTS)]
    check(spans_of(tracer), REQUESTS, {"request", "later", "answer", "model"})


def test_a_warm_process_never_mixes_its_invocations(make_tracer: Make) -> None:
    """The pattern for Lambda: a tracer of the module, a session for each invocation; one of them fails."""
    tracer = make_tracer()
    sessions: list[str] = []

    def handler(event: dict[str, Any]) -> str:
        with with_distributed_trace_context(event["headers"]):
            if event["creates"]:
                sessions.append(tracer.create_session(session_name="invocation"))
            with tracer.start_span(event["name"]):
                if event["fails"]:
                    raise OSError(event["name"])
                return inject_context_into_carrier({})["baggage"]

    expected: dict[str, str] = {}
    for i in range(30):
        creates, fails, sent = i % 3 == 0, i % 4 == 1, i % 5 == 0
        headers = {"baggage": f"session_id=sent{i}"} if sent else {}
        event = {"name": f"i{i}", "creates": creates, "fails": fails, "headers": headers}
        if fails:
            with pytest.raises(OSError):
                handler(event)
        else:
            handler(event)
        expected[f"i{i}"] = sessions[-1] if creates else f"sent{i}" if sent else "own"
        # Between two invocations nothing is left.
        assert "session_id=own" in inject_context_into_carrier({}, tracer)["baggage"]
        assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN
    spans = [span for span in spans_of(tracer) if span.name in expected]
    assert {span.name: span.session for span in spans} == expected
    assert len({span.trace_id for span in spans}) == 30
    assert len(set(sessions)) == 10


def test_two_tracers_in_the_same_requests(make_tracer: Make) -> None:
    one, other = make_tracer(session_id="own1"), make_tracer(session_id="own2", project="other")

    def request(i: int) -> None:
        with with_distributed_trace_context(carrier(i), one):
            with one.start_span("one"), other.start_span("two"), one.start_span("three"):
                assert get_tracer() is one
            with other.with_session(session_id=f"o{i}"), other.start_span("four"):
                assert f"session_id=s{i}," in inject_context_into_carrier({}, one)["baggage"]
                assert f"session_id=o{i}," in inject_context_into_carrier({}, other)["baggage"]

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(request, range(50)))
    check(spans_of(one), 50, {"one", "three"})
    theirs: dict[str, list[Recorded]] = defaultdict(list)
    for span in spans_of(other):
        theirs[span.name].append(span)
    ours = {span.span_id for span in spans_of(one)}
    assert sorted(span.session for span in theirs["four"]) == sorted(f"o{i}" for i in range(50))
    assert not [span for spans in theirs.values() for span in spans if span.parent_id in ours]


def test_greenlets(tracer: Tracer) -> None:
    greenlet = pytest.importorskip("greenlet")

    def request(i: int) -> None:
        with with_distributed_trace_context(carrier(i)):
            main.switch()
            with tracer.start_span("request"):
                main.switch()
                answer(i)
                main.switch()

    main = greenlet.getcurrent()
    greenlets = [greenlet.greenlet(request) for _ in range(50)]
    for i, one in enumerate(greenlets):
        one.switch(i)
    while greenlets:
        for one in greenlets:
            one.switch()
            assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN
        greenlets = [one for one in greenlets if not one.dead]
    check(spans_of(tracer), 50, {"request", "answer", "model"})


def test_a_greenlet_that_is_killed_in_a_block(tracer: Tracer) -> None:
    greenlet = pytest.importorskip("greenlet")

    def request() -> None:
        with with_distributed_trace_context(carrier(0)), tracer.start_span("killed"):
            main.switch()

    main = greenlet.getcurrent()
    one = greenlet.greenlet(request)
    one.switch()
    with tracer.start_span("other") as other:
        one.throw()
        assert otel_trace.get_current_span() is other
    assert one.dead
    spans = by_name(spans_of(tracer))
    assert (spans["killed"].session, spans["other"].session) == ("s0", "own")


def test_a_generator_is_left_where_others_are_open(tracer: Tracer) -> None:
    """Leaving a block in another context: what is current there stays."""

    def stream(i: int) -> Iterator[None]:
        with with_distributed_trace_context(carrier(i)), tracer.start_span("stream"):
            yield

    streams = [stream(i) for i in range(3)]
    threads = []
    for one in streams:
        thread = threading.Thread(target=next, args=(one,))
        thread.start()
        thread.join()
    with with_distributed_trace_context(carrier(7)), tracer.start_span("here") as here:
        for one in streams:
            one.close()  # type: ignore[attr-defined]
            assert otel_trace.get_current_span() is here
        thread = threading.Thread(target=stream(9).close)  # type: ignore[attr-defined]
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()
    assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN
    sessions = sorted((span.name, span.session) for span in spans_of(tracer))
    assert sessions == [("here", "s7"), ("stream", "s0"), ("stream", "s1"), ("stream", "s2")]


GEVENT = """
from gevent import monkey
monkey.patch_all()
import gevent
import logging
from opentelemetry import trace as otel_trace
from tracebaton import Tracer, inject_context_into_carrier, with_distributed_trace_context, wrap
logging.basicConfig()
tracer = Tracer.init(exporter="memory", session_id="own")

def request(i):
    with with_distributed_trace_context({"baggage": f"session_id=s{i}"}), tracer.start_span("request"):
        gevent.sleep(0.001 * (i % 7))
        mine = inject_context_into_carrier({})["baggage"]
        gevent.sleep(0.001 * (i % 3))
        alone = gevent.spawn(lambda: inject_context_into_carrier({}, tracer)["baggage"]).get()
        child = gevent.spawn(wrap(lambda: inject_context_into_carrier({})["baggage"])).get()
        return mine.startswith(f"session_id=s{i},") and "session_id=own" in alone, child.startswith(f"session_id=s{i},")

jobs = [gevent.spawn(request, i) for i in range(100)]
gevent.joinall(jobs)
print(all(job.value[0] for job in jobs), all(job.value[1] for job in jobs), len(tracer._core.memory()))
print("session_id=own" in inject_context_into_carrier({}, tracer)["baggage"], tracer.flush())
"""


def test_gevent() -> None:
    """Greenlets of gevent, which are started without a context, as threads are."""
    pytest.importorskip("gevent")
    from programs import run

    done = run(GEVENT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "True", "100", "True", "True"], done.stdout + done.stderr
