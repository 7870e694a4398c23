"""Delivery: `flush` is true to its word and to its time, and what became of every span can be asked."""

from __future__ import annotations

import gc
import gzip
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import tracebaton
from collector import Answer, Collector
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from programs import output, run
from tracebaton import Tracer

GENEROUS = 2.0
"""Seconds that a wait of some hundred milliseconds may take on a machine that does other things as well."""


@pytest.fixture
def sending(collector: Collector) -> Callable[..., Tracer]:
    """Makes tracers that send to the collector."""

    def make(**arguments: Any) -> Tracer:
        return Tracer.init(**{"exporter": "otlp", "otlp_endpoint": collector.url, "session_id": "own", **arguments})

    return make


def spans(tracer: Tracer, count: int = 1) -> None:
    for number in range(count):
        with tracer.start_span(f"span {number}"):
            pass


def test_true_when_all_is_delivered(sending: Callable[..., Tracer], collector: Collector) -> None:
    tracer = sending()
    spans(tracer, 3)
    assert tracer.flush() is True
    assert [span.name for span in collector.spans] == ["span 0", "span 1", "span 2"]
    stats = tracer.stats()
    assert (stats["sent"], stats["queued"], stats["dropped"], stats["retried"]) == (3, 0, {}, 0)


def test_a_flush_of_all_waits_for_a_tracer_that_was_collected(
    sending: Callable[..., Tracer], collector: Collector
) -> None:
    kept = sending()  # the first one is the default, which is held
    spans(sending(), 2)
    gc.collect()
    assert tracebaton.flush() is True
    assert [span.name for span in collector.spans] == ["span 0", "span 1"]
    assert kept.stats()["sent"] == 0
    collector.always = Answer(hang=True)
    spans(sending())
    gc.collect()
    assert tracebaton.flush(timeout_millis=200) is False


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
def test_the_schema_of_a_library_goes_with_its_spans(
    sending: Callable[..., Tracer], collector: Collector, protocol: str
) -> None:
    tracer = sending(otlp_protocol=protocol)
    for url in ("https://schema.example/1", None, "https://schema.example/2"):
        tracer.provider.get_tracer("library", "1", url).start_span("s").end()
    assert tracer.flush()
    [request] = collector.requests
    body = gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
    if protocol == "http/json":
        scopes = json.loads(body)["resourceSpans"][0]["scopeSpans"]
        urls = [scope.get("schemaUrl", "") for scope in scopes]
    else:
        urls = [scope.schema_url for scope in ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans]
    assert urls == ["https://schema.example/1", "", "https://schema.example/2"]


def test_true_when_there_is_nothing(sending: Callable[..., Tracer], collector: Collector) -> None:
    tracer = sending()
    assert tracer.flush(0) is True
    assert tracer.force_flush(100) is True
    assert collector.requests == []


def test_without_a_flush_it_goes_by_itself(sending: Callable[..., Tracer], collector: Collector) -> None:
    spans(sending(flush_interval=0.05))
    collector.wait_for_spans(1)


def test_disable_batch_means_at_once(sending: Callable[..., Tracer], collector: Collector) -> None:
    tracer = sending(disable_batch=True, flush_interval=600)
    for count in (1, 2, 3):
        spans(tracer)
        collector.wait_for_spans(count)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 413, 500, 501, 301, 302])
def test_false_when_it_is_refused(sending: Callable[..., Tracer], collector: Collector, status: int) -> None:
    collector.always = Answer(status, {"location": collector.url + "/elsewhere/v1/traces"})
    tracer = sending()
    spans(tracer)
    assert tracer.flush(5_000) is False
    assert len(collector.requests) == 1
    stats = tracer.stats()
    assert (stats["sent"], stats["queued"], stats["dropped"]) == (
        0,
        0,
        {"too_large" if status == 413 else "refused": 1},
    )
    assert stats["last_error"]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_success(sending: Callable[..., Tracer], collector: Collector, status: int) -> None:
    collector.always = Answer(status)
    tracer = sending()
    spans(tracer)
    assert tracer.flush(5_000) is True
    assert tracer.stats()["sent"] == 1


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_retried_until_it_works(sending: Callable[..., Tracer], collector: Collector, status: int) -> None:
    collector.answers.append(Answer(status, {"Retry-After": "0"}))
    tracer = sending()
    spans(tracer)
    assert tracer.flush(10_000) is True
    assert [request.accepted for request in collector.requests] == [False, True]
    assert collector.requests[0].spans == collector.requests[1].spans
    assert tracer.stats()["retried"] >= 1


def test_false_while_it_is_still_being_retried(sending: Callable[..., Tracer], collector: Collector) -> None:
    collector.always = Answer(503, {"Retry-After": "60"})
    tracer = sending()
    spans(tracer)
    began = time.monotonic()
    assert tracer.flush(400) is False
    assert time.monotonic() - began < GENEROUS
    assert len(collector.requests) == 1  # Retry-After is honoured
    assert tracer.stats()["queued"] == 1


def test_a_connection_that_ends_without_an_answer_is_retried(
    sending: Callable[..., Tracer], collector: Collector
) -> None:
    collector.answers.append(Answer(drop=True))
    tracer = sending()
    spans(tracer)
    assert tracer.flush(10_000) is True
    assert [request.accepted for request in collector.requests] == [False, True]
    assert [span.name for span in collector.spans] == ["span 0"]


def test_a_black_hole(sending: Callable[..., Tracer], collector: Collector) -> None:
    collector.always = Answer(hang=True)
    tracer = sending()
    spans(tracer)
    for _ in range(2):
        began = time.monotonic()
        assert tracer.flush(200) is False
        assert time.monotonic() - began < GENEROUS
    began = time.monotonic()
    assert tracer.shutdown(200) is False
    assert time.monotonic() - began < GENEROUS
    assert tracebaton.flush(tracer, 100) is False


def test_a_port_that_accepts_and_says_nothing() -> None:
    import socket

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        tracer = Tracer.init(exporter="otlp", otlp_endpoint=f"http://127.0.0.1:{listening.getsockname()[1]}")
        spans(tracer)
        began = time.monotonic()
        assert tracer.flush(200) is False
        assert time.monotonic() - began < GENEROUS


def test_a_flush_that_is_told_zero_does_not_wait(sending: Callable[..., Tracer], collector: Collector) -> None:
    collector.always = Answer(hang=True)
    tracer = sending()
    spans(tracer)
    began = time.monotonic()
    assert tracer.flush(0) is False
    assert tracer.flush(-5) is False
    assert time.monotonic() - began < GENEROUS


@pytest.mark.parametrize("wrong", ["soon", [1], object()], ids=lambda it: type(it).__name__)
def test_a_time_of_another_type_is_a_type_error_that_names_it(tracer: Tracer, wrong: Any) -> None:
    for call in (tracer.flush, tracer.shutdown, lambda it: tracebaton.flush(tracer, it)):
        with pytest.raises(TypeError, match="timeout_millis"):
            call(wrong)


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), 1e30, 2**70, 0.5, True])
def test_odd_times_raise_nothing_else(sending: Callable[..., Tracer], odd: Any) -> None:
    tracer = sending()
    spans(tracer)
    try:
        tracer.flush(odd)
    except (TypeError, ValueError) as error:
        assert "timeout_millis" in str(error)


def test_flush_releases_the_lock_of_the_interpreter(sending: Callable[..., Tracer], collector: Collector) -> None:
    collector.always = Answer(hang=True)
    tracer = sending()
    spans(tracer)
    began = threading.Event()
    outcomes: list[bool] = []

    def flush() -> None:
        began.set()
        outcomes.append(tracer.flush(1_000))

    thread = threading.Thread(target=flush)
    thread.start()
    assert began.wait(10)
    collector.wait_for_requests(1)  # by other threads of this process
    assert outcomes == []
    thread.join()
    assert outcomes == [False]


def test_ctrl_c_ends_a_flush(sending: Callable[..., Tracer], collector: Collector) -> None:
    collector.always = Answer(hang=True)
    tracer = sending()
    spans(tracer)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        tracer.flush(30_000)
    assert time.monotonic() - began < 10
    timer.join()


def test_flush_of_all_tracers(sending: Callable[..., Tracer], collector: Collector) -> None:
    tracers = [sending() for _ in range(3)]
    for one in tracers:
        spans(one)
    assert tracebaton.flush() is True
    assert len(collector.spans) == 3


def test_flush_of_all_is_true_only_if_all_is_delivered(sending: Callable[..., Tracer], collector: Collector) -> None:
    fine, stuck = sending(), Tracer.init(exporter="otlp", otlp_endpoint="http://127.0.0.1:9")
    spans(fine)
    spans(stuck)
    began = time.monotonic()
    assert tracebaton.flush(timeout_millis=400) is False
    assert time.monotonic() - began < GENEROUS
    assert len(collector.spans) == 1
    assert fine.flush(5_000) is True


def test_a_destination_that_is_down_hurts_no_other(sending: Callable[..., Tracer], collector: Collector) -> None:
    stuck = Collector()
    stuck.always = Answer(hang=True)
    try:
        slow = Tracer.init(exporter="otlp", otlp_endpoint=stuck.url)
        spans(slow)
        stuck.wait_for_requests(1)
        fine = sending()
        spans(fine)
        assert fine.flush(5_000) is True
        assert slow.flush(50) is False
    finally:
        stuck.close()


def test_a_burst_is_delivered_once_each(sending: Callable[..., Tracer], collector: Collector) -> None:
    tracer = sending()

    def burst(_: int) -> None:
        spans(tracer, 1_000)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(burst, range(4)))
    assert tracer.flush(20_000) is True
    got = collector.spans
    assert len(got) == 4_000
    assert len({span.span_id for span in got}) == 4_000
    assert tracer.stats()["sent"] == 4_000


def test_a_full_queue_drops_and_counts(
    sending: Callable[..., Tracer], collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    collector.always = Answer(503, {"Retry-After": "600"})
    tracer = sending()
    spans(tracer, 50)
    assert tracer.flush(100) is False
    stats = tracer.stats()
    assert stats["queued"] + stats["dropped"]["queue_full"] == 50
    assert stats["queued"] <= 20


def test_partial_success_is_reported_and_not_retried(
    sending: Callable[..., Tracer], collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
        ExportTracePartialSuccess,
        ExportTraceServiceResponse,
    )

    partial = ExportTracePartialSuccess(rejected_spans=2, error_message="too old")
    collector.answers.append(Answer(body=ExportTraceServiceResponse(partial_success=partial).SerializeToString()))
    tracer = sending()
    with caplog.at_level(logging.WARNING, logger="tracebaton"):
        spans(tracer, 5)
        # Two of them were not taken: not all was delivered.
        assert tracer.flush(5_000) is False
    assert len(collector.requests) == 1
    stats = tracer.stats()
    assert (stats["sent"], sum(stats["dropped"].values())) == (3, 2)
    # The worker says it after it has woken those who wait.
    deadline = time.monotonic() + 10
    while not caplog.messages and time.monotonic() < deadline:
        time.sleep(0.005)
    assert len(caplog.messages) == 1


def test_content_types_and_compression(sending: Callable[..., Tracer], collector: Collector) -> None:
    tracer = sending()
    spans(tracer)
    assert tracer.flush(5_000)
    spans(tracer, 50)
    assert tracer.flush(5_000)
    small, large = collector.requests
    assert "content-encoding" not in small.headers
    assert large.headers["content-encoding"] == "gzip"
    assert {request.headers["content-type"] for request in collector.requests} == {"application/x-protobuf"}
    assert "OTel-OTLP-Exporter-Python/" in small.headers["user-agent"]
    assert small.headers["user-agent"].startswith("tracebaton/")


def test_json(sending: Callable[..., Tracer], collector: Collector) -> None:
    tracer = sending(otlp_protocol="http/json")
    with tracer.start_span("s", attributes={"i": 2**53 + 1, "f": float("inf"), "b": b"\xff", "a": [1, "x"]}):
        pass
    assert tracer.flush(5_000)
    assert collector.requests[0].headers["content-type"] == "application/json"
    (span,) = collector.spans
    assert {key: span.attributes[key] for key in "ifba"} == {
        "i": 2**53 + 1,
        "f": float("inf"),
        "b": b"\xff",
        "a": [1, "x"],
    }
    assert span.kind == 1  # numbers, as the specification wants
    assert (span.scope, span.resource["telemetry.sdk.name"]) == ("tracebaton", "tracebaton")


def test_both_encodings_say_the_same(collector: Collector) -> None:
    tracer = Tracer.init(exporter=["otlp", "memory"], otlp_endpoint=collector.url)
    with tracer.start_span("s", attributes={"i": 1, "f": 0.5, "t": "é", "l": [True], "n": float("-inf")}) as span:
        span.add_event("e", {"k": b"\x00"}, 5)
        span.add_link(span.get_span_context(), {"k": "v"})
    assert tracer.flush(5_000)
    from recorded import only_span_of

    sent, remembered = collector.spans[0], only_span_of(tracer)
    sent.resource, sent.scope = remembered.resource, remembered.scope
    assert sent == remembered


def test_several_exporters_each_get_all(collector: Collector) -> None:
    other = Collector()
    try:
        tracer = Tracer.init(
            api_key="key", server_url=other.url, exporter=["honeyhive", "otlp"], otlp_endpoint=collector.url
        )
        spans(tracer, 3)
        assert tracer.flush(10_000)
        assert len(collector.spans) == 3
        assert len(other.spans) == 3
    finally:
        other.close()


def test_connections_are_kept(sending: Callable[..., Tracer], collector: Collector) -> None:
    accepted: list[Any] = []
    process_request = collector._server.process_request

    def counting(request: Any, address: Any) -> None:
        accepted.append(address)
        process_request(request, address)

    collector._server.process_request = counting  # type: ignore[method-assign]
    tracer = sending()
    for _ in range(5):
        spans(tracer)
        assert tracer.flush(5_000)
    assert len(collector.requests) == 5
    assert len(accepted) == 1


def test_the_console(capfd: pytest.CaptureFixture[str]) -> None:
    import json

    tracer = Tracer.init(exporter="console")
    spans(tracer, 2)
    lines = capfd.readouterr().out.splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["span 0", "span 1"]


@pytest.mark.skipif(sys.platform == "win32", reason="pipes break in another way")
def test_a_console_that_is_gone_loses_spans_and_says_so() -> None:
    program = """
        import os, sys
        from tracebaton import Tracer
        tracer = Tracer.init(exporter="console")
        with tracer.start_span("seen"):
            pass
        print(tracer.flush(), tracer.stats()["sent"], file=sys.stderr)
        reader, writer = os.pipe()
        os.dup2(writer, 1)
        os.close(writer)
        os.close(reader)
        for name in "ab":
            with tracer.start_span(name):
                pass
        print(tracer.flush(), tracer.flush(), file=sys.stderr)
        stats = tracer.stats()
        print(stats["sent"], stats["dropped"], stats["last_error"], file=sys.stderr)
        os._exit(0)
    """
    done = run(program)
    assert json.loads(done.stdout)["name"] == "seen"
    assert done.stderr.splitlines() == [
        "True 1",
        "the standard output cannot be written: spans are dropped",
        "False True",
        "1 {'refused': 2} the standard output cannot be written",
    ]


def test_what_became_of_spans_by_destination(collector: Collector, capfd: pytest.CaptureFixture[str]) -> None:
    secret = "s3cr3t"
    url = collector.url.replace("http://", f"http://user:{secret}@") + f"/{secret}?key={secret}"
    tracer = Tracer.init(exporter=["otlp", "console", "memory"], otlp_endpoint=url)
    collector.always = Answer(status=400)
    spans(tracer, 2)
    assert tracer.flush(10_000) is False
    stats = tracer.stats()
    kept = {"queued": 0, "sent": 2, "dropped": {}, "retried": 0, "last_error": None}
    refused = {"queued": 0, "sent": 0, "dropped": {"refused": 2}, "retried": 0, "last_error": "HTTP 400"}
    assert stats["destinations"] == {collector.url: refused, "console": kept}
    assert (stats["sent"], stats["dropped"]) == (2, {"refused": 2})
    assert secret not in str(stats)
    capfd.readouterr()


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
def test_waiting_takes_no_threads(collector: Collector) -> None:
    program = """
        import os, resource, threading
        import tracebaton
        url = os.environ["TEST_URL"]
        init = tracebaton.Tracer.init
        tracers = [init(exporter="otlp", otlp_endpoint=url, otlp_headers={"x-n": n}) for n in "abc"]
        for tracer in tracers:
            with tracer.start_span("before"):
                pass
            assert tracer.flush(20_000)
        if os.getuid() == 0:
            os.setuid(65534)
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
        try:
            threading.Thread(target=print).start()
        except RuntimeError:
            pass
        else:
            print("unlimited")
        for tracer in tracers:
            with tracer.start_span("after"):
                pass
        print(tracebaton.flush(timeout_millis=20_000))
    """
    done = output(program, {"TEST_URL": collector.url})
    if "unlimited" in done:
        pytest.skip("the limit does not apply to this user")
    assert done == "True"
    assert len(collector.spans) == 6


def test_a_slow_log_handler_does_not_prolong_a_shutdown() -> None:
    let_go, told = threading.Event(), threading.Event()

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "shutdown" in record.getMessage():
                self.in_time = let_go.wait(20)
                told.set()

    handler = Slow()
    logging.getLogger("tracebaton").addHandler(handler)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tracer = Tracer.init(exporter="otlp", otlp_endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
        spans(tracer)
        try:
            assert tracer.shutdown(100) is False
            let_go.set()
            assert told.wait(20)
            assert handler.in_time
        finally:
            logging.getLogger("tracebaton").removeHandler(handler)


def test_our_own_requests_are_not_traced(sending: Callable[..., Tracer], collector: Collector) -> None:
    tracer = sending()
    spans(tracer)
    assert tracer.flush(5_000)
    assert "traceparent" not in collector.requests[0].headers
    assert len(collector.spans) == 1
