"""The defects of test_defects.py in delivery (C), cost (D) and the safety of user code (E)."""

from __future__ import annotations

import asyncio
import atexit
import gzip
import json
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import test_defects
from collector import Answer, Collector
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from programs import output
from recorded import Recorded, by_name, only_span_of, spans_of
from test_defects import ERROR, OK, SENT, SPANS, Make, work
from tracebaton import (
    Tracer,
    atrace,
    enrich_span_context,
    flush,
    inject_context_into_carrier,
    trace,
    trace_class,
    with_distributed_trace_context,
)

honeyhive = test_defects.honeyhive


# C. Delivery


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_c1_refused_for_now_is_sent_again(collector: Collector, honeyhive: Make, status: int) -> None:
    tracer = honeyhive(skip_backend_session_creation=True)
    collector.answers.append(Answer(status=status, headers={"retry-after": "0"}))
    work(tracer)
    assert tracer.flush(20_000)
    assert [request.accepted for request in collector.requests] == [False, True]
    assert len(collector.spans) == 1


def test_c1_a_flush_tells_the_truth(collector: Collector, honeyhive: Make) -> None:
    tracer = honeyhive(skip_backend_session_creation=True)
    collector.always = Answer(status=400)
    work(tracer)
    assert tracer.flush(10_000) is False
    assert flush(tracer) is True, "there is nothing any more"
    assert sum(tracer.stats()["dropped"].values()) == 1
    collector.always = Answer(status=204)
    work(tracer)
    assert tracer.flush(10_000) is True


@pytest.mark.timeout(25)
def test_c2_a_flush_takes_no_longer_than_it_may(collector: Collector, honeyhive: Make, make_tracer: Make) -> None:
    collector.always = Answer(hang=True)
    tracer, other = honeyhive(), make_tracer()
    work(tracer)
    assert tracer.flush(200) is False
    blocked = threading.Thread(target=tracer.flush, args=(60_000,))
    blocked.start()
    work(other)
    assert other.flush(10_000), "no lock is shared"
    assert blocked.is_alive()
    collector.always = Answer()
    collector._closing.set()
    blocked.join()


def test_c3_a_burst_is_delivered(collector: Collector, make_tracer: Make) -> None:
    tracer = make_tracer(exporter="otlp", otlp_endpoint=collector.url)
    for number in range(20_000):
        work(tracer, str(number))
    assert tracer.flush(30_000)
    assert len({span.name for span in collector.spans}) == len(collector.spans) == 20_000


def test_c3_what_finds_no_room_is_counted(collector: Collector, make_tracer: Make, monkeypatch: Any) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    collector.always = Answer(hang=True)
    tracer = make_tracer(exporter="otlp", otlp_endpoint=collector.url)
    for number in range(100):
        work(tracer, str(number))
    stats = tracer.stats()
    assert sum(stats["dropped"].values()) + stats["queued"] == 100
    assert stats["queued"] <= 10


async def test_c4_nothing_waits_for_a_server(collector: Collector, honeyhive: Make) -> None:
    collector.always = Answer(hang=True)
    tracer = honeyhive()
    assert collector.requests == []
    await tracer.acreate_session()
    with tracer.start_span("request"):
        tracer.create_session(inputs={"a": 1})
        assert tracer.enrich_session({"a": 1})
        work(tracer)
    collector.wait(lambda: len(collector._requests) >= 1)
    assert not any(request.accepted for request in collector.requests), "no answer has come yet"
    otel_context.attach(otel_context.Context())


def test_c5_gzip_protobuf_links_and_tracestate(collector: Collector, make_tracer: Make) -> None:
    tracer = make_tracer(exporter="otlp", otlp_endpoint=collector.url)
    with with_distributed_trace_context({**SENT, "tracestate": "a=1,b=2"}, tracer), tracer.start_span("first") as first:
        pass
    link = otel_trace.Link(first.get_span_context(), {"why": "it came before"})
    with tracer.start_span("second", links=[link], attributes={"long": "x" * 5_000}):
        pass
    assert tracer.flush(10_000)
    (request,) = collector.requests
    assert request.headers["content-type"] == "application/x-protobuf"
    assert request.headers["content-encoding"] == "gzip"
    assert gzip.decompress(request.body)
    spans = by_name(collector.spans)
    assert spans["first"].trace_state == "a=1,b=2"
    assert [(one.span_id, one.trace_state) for one in spans["second"].links] == [(spans["first"].span_id, "a=1,b=2")]


@pytest.mark.parametrize("variable", ["HH_OTLP_ENABLED=false", "HH_DISABLE_TRACING=true", "OTEL_SDK_DISABLED=true"])
def test_c6_export_can_be_turned_off(
    collector: Collector, honeyhive: Make, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(*variable.split("=", 1))
    tracer = honeyhive()
    with tracer.with_session(inputs={"a": 1}):
        work(tracer)
        tracer.enrich_session({"a": 1})
    assert tracer.shutdown(10_000)
    assert collector.requests_to(SPANS) == []


# D. Cost


def test_d_a_tracer_for_each_request_leaves_nothing_behind(
    collector: Collector, honeyhive: Make, collected: Callable[[], None]
) -> None:
    def request(number: int) -> None:
        tracer = honeyhive(session_id=f"s{number}")
        work(tracer)
        assert tracer.shutdown(10_000)

    request(0)
    before, handlers = threads(), atexit._ncallbacks()
    for number in range(1, 60):
        request(number)
    collected()
    assert atexit._ncallbacks() == handlers
    # The collector's own, one for each connection, end by themselves.
    deadline = time.monotonic() + 20
    while threads() > before:
        assert time.monotonic() < deadline, f"{threads()} threads, {before} before"
        time.sleep(0.005)


def threads() -> int:
    """The threads of this process, those without Python among them where the system tells."""
    return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else threading.active_count()


def test_d_a_span_writes_no_logs(tracer: Tracer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        with with_distributed_trace_context(SENT, tracer), enrich_span_context("block", inputs={"a": 1}):
            inject_context_into_carrier({})
    assert caplog.records == []


# E. The safety of user code


@pytest.mark.parametrize("text", ["Tracer error", "tracer error: x", "HoneyHive", "OpenTelemetry"])
def test_e1_a_function_runs_once_whatever_it_raises(tracer: Tracer, text: str) -> None:
    runs: list[str] = []

    @trace
    def function() -> None:
        runs.append("once")
        raise RuntimeError(text)

    with pytest.raises(RuntimeError, match=text):
        function()
    assert runs == ["once"]


def test_e2_a_call_that_fails_is_one_span_with_one_exception(tracer: Tracer) -> None:
    @trace(event_name="x")
    def function() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        function()
    with pytest.raises(ValueError, match="no"), enrich_span_context("block"):
        raise ValueError("no")
    with pytest.raises(ValueError, match="no"), tracer.start_span("span"):
        raise ValueError("no")
    for span, name in zip(spans_of(tracer), ("x", "block", "span"), strict=True):
        assert (span.name, span.status, span.error, len(span.exceptions)) == (name, ERROR, "no", 1)


def test_e3_a_generators_span_lasts(tracer: Tracer) -> None:
    @trace(event_name="generator")
    def generator() -> Iterator[int]:
        for number in range(3):
            work(tracer, f"step {number}")
            yield number

    iterator = generator()
    assert next(iterator) == 0
    assert "generator" not in {span.name for span in spans_of(tracer)}
    assert list(iterator) == [1, 2]
    spans = by_name(spans_of(tracer))
    assert {spans[f"step {number}"].parent_id for number in range(3)} == {spans["generator"].span_id}
    assert "object" not in str(spans["generator"].under("outputs"))


async def test_e3_an_async_generators_span_lasts_and_a_cancelled_task_fails(tracer: Tracer) -> None:
    @trace(event_name="generator")
    async def generator() -> AsyncIterator[int]:
        for number in range(2):
            await asyncio.sleep(0)
            yield number

    @trace(event_name="cancelled")
    async def forever() -> None:
        await asyncio.Event().wait()

    assert [number async for number in generator()] == [0, 1]
    task = asyncio.create_task(forever())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    spans = by_name(spans_of(tracer))
    assert (spans["generator"].status, spans["cancelled"].status) == (OK, ERROR)


def test_e4_the_environment_raises_nothing_and_unprefixed_names_mean_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = "HH_MAX_ATTRIBUTES HH_DISABLE_BATCH HH_API_URL OTEL_BSP_SCHEDULE_DELAY OTEL_TRACES_SAMPLER"
    unprefixed = """
        SESSION_ID SESSION_NAME PROJECT SOURCE API_KEY RUN_ID INPUTS LINK_CARRIER IS_EVALUATION VERBOSE VARIANT GROUP
        TREATMENT WANDB_RUN_ID
    """
    for name in [*bad.split(), *unprefixed.split()]:
        monkeypatch.setenv(name, "foreign")
    tracer = Tracer.init(exporter="memory")
    work(tracer)
    assert "foreign" not in json.dumps(only_span_of(tracer).attributes)
    assert "foreign" not in (tracer.session_id, tracer.project, tracer.source, tracer.session_name)


def test_e5_decorators_take_what_they_are_given(tracer: Tracer) -> None:
    @trace(config={"model": "m"}, user_properties={"plan": "free"}, event_name="configured")
    def configured() -> int:
        return 1

    @atrace
    def not_async() -> int:
        return 2

    @trace_class
    class Agent:
        class Nested:
            value = 3

        @classmethod
        def made(cls) -> type:
            return cls

        @staticmethod
        def plain(number: int) -> int:
            return number

    assert (configured(), not_async(), Agent().made(), Agent().plain(4), Agent.Nested().value) == (1, 2, Agent, 4, 3)
    assert len(spans_of(tracer)) == 4
    span = next(span for span in spans_of(tracer) if span.name == "configured")
    assert (span.under("config"), span.under("user_properties")) == ({"model": "m"}, {"plan": "free"})


def test_e6_secrets_in_arguments_stay_here(tracer: Tracer) -> None:
    @trace
    def log_in(user: str, password: str, options: dict[str, Any]) -> dict[str, str]:
        return {"access_token": "t0ken"}

    log_in("u", password="hunter2", options={"api_key": "k3y", "headers": {"Authorization": "Bearer b3arer"}})
    text = json.dumps(only_span_of(tracer).attributes)
    assert not [secret for secret in ("hunter2", "k3y", "b3arer", "t0ken") if secret in text]
    assert text.count("[redacted]") == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_e7_a_child_sends_its_own_spans_once(collector: Collector) -> None:
    code = f"""
import os, tracebaton
tracer = tracebaton.Tracer.init(exporter="otlp", otlp_endpoint={collector.url!r}, session_id="own")
def span(name):
    with tracer.start_span(name): pass
span("before")
pid = os.fork()
if pid == 0:
    span("child")
    os._exit(0 if tracer.flush(10_000) else 5)
assert os.waitpid(pid, 0)[1] == 0
span("after")
assert tracer.flush(10_000)
"""
    output(code)
    spans: list[Recorded] = collector.spans
    assert sorted(span.name for span in spans) == ["after", "before", "child"]
    assert len({span.span_id for span in spans} | {span.trace_id for span in spans}) == 6
    assert {span.session for span in spans} == {"own"}


def test_every_defect_has_a_test() -> None:
    tested = {name.split("_")[1] for name in {**vars(test_defects), **globals()} if name.startswith("test_")}
    counts = {"a": 8, "b": 9, "c": 6, "e": 7}
    assert {f"{part}{number + 1}" for part, count in counts.items() for number in range(count)} | {"d"} <= tested
