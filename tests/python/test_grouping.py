"""HoneyHive finds parents only within a request: the spans of a local trace travel together, and nobody else waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from collector import Collector, Request
from tracebaton import Tracer, with_distributed_trace_context

Make = Callable[..., Tracer]
SPANS = "/opentelemetry/v1/traces"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def names(requests: list[Request]) -> list[list[str]]:
    return [sorted(span.name for span in request.spans) for request in requests]


@pytest.fixture
def honeyhive(make_tracer: Make, collector: Collector) -> Make:
    def make(**arguments: Any) -> Tracer:
        defaults = {"exporter": "honeyhive", "api_key": "key", "server_url": collector.url, "flush_interval": 0.02}
        return make_tracer(**{**defaults, **arguments})

    return make


def wait_for(collector: Collector, count: int) -> list[list[str]]:
    def sent() -> list[Request]:
        return [request for request in collector._requests if request.path == SPANS]

    collector.wait(lambda: len(sent()) >= count)
    return names(sent())


def end(tracer: Tracer, name: str) -> None:
    with tracer.start_span(name):
        pass


def test_a_local_trace_is_one_request(collector: Collector, honeyhive: Make) -> None:
    tracer = honeyhive()
    with tracer.start_span("root"):
        end(tracer, "first")
        with tracer.start_span("child"):
            end(tracer, "grandchild")
        # Another trace is over meanwhile, several times as long as spans are collected.
        for number in range(5):
            tracer.provider.get_tracer("x").start_span(f"other {number}", context={}).end()  # type: ignore[arg-type]
            assert wait_for(collector, number + 1)[number] == [f"other {number}"]
    assert wait_for(collector, 6)[5] == ["child", "first", "grandchild", "root"]
    assert tracer.shutdown(10_000)


def test_the_local_root_may_have_a_remote_parent(collector: Collector, honeyhive: Make) -> None:
    tracer = honeyhive()
    with with_distributed_trace_context({"traceparent": CALLER}, tracer), tracer.start_span("served"):
        end(tracer, "inside")
        tracer.provider.get_tracer("x").start_span("other", context={}).end()  # type: ignore[arg-type]
        assert wait_for(collector, 1) == [["other"]]
    assert wait_for(collector, 2)[1] == ["inside", "served"]
    assert tracer.shutdown(10_000)


def test_a_flush_waits_for_no_root(collector: Collector, honeyhive: Make) -> None:
    tracer = honeyhive()
    with tracer.start_span("root"):
        end(tracer, "child")
        assert tracer.flush(10_000)
        assert [span.name for span in collector.spans] == ["child"]
    assert tracer.shutdown(10_000)


def test_at_once_is_at_once(collector: Collector, honeyhive: Make) -> None:
    tracer = honeyhive(disable_batch=True)
    with tracer.start_span("root"):
        end(tracer, "child")
        assert wait_for(collector, 1) == [["child"]]
    assert tracer.shutdown(10_000)


def test_elsewhere_nothing_waits(collector: Collector, make_tracer: Make) -> None:
    tracer = make_tracer(exporter="otlp", otlp_endpoint=collector.url, flush_interval=0.02)
    with tracer.start_span("root"):
        end(tracer, "child")
        collector.wait_for_requests(1)
        assert [span.name for span in collector.spans] == ["child"]
    assert tracer.shutdown(10_000)
