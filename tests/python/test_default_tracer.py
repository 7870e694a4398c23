"""Which tracer is meant where none is given: that of the current span or block, else the one set, else the first."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import tracebaton
from opentelemetry import trace as otel_trace
from opentelemetry.sdk.trace import TracerProvider as SdkProvider
from recorded import spans_of
from tracebaton import (
    Tracer,
    enrich_span_context,
    get_tracer,
    inject_context_into_carrier,
    set_default_tracer,
    trace,
    with_distributed_trace_context,
)

Make = Callable[..., Tracer]


@trace
def work() -> None:
    pass


def test_the_first_one_initialised(make_tracer: Make) -> None:
    first, second = make_tracer(), make_tracer()
    work()
    assert get_tracer() is first
    assert (len(spans_of(first)), len(spans_of(second))) == (1, 0)


def test_the_one_set_as_default(make_tracer: Make) -> None:
    first, second = make_tracer(), make_tracer()
    set_default_tracer(second)
    work()
    assert (len(spans_of(first)), len(spans_of(second))) == (0, 1)
    set_default_tracer(None)
    assert get_tracer() is first


def test_the_same_one_in_every_thread(make_tracer: Make) -> None:
    first, second = make_tracer(), make_tracer()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    work()
    assert (len(spans_of(first)), len(spans_of(second))) == (2, 0)


@pytest.mark.parametrize("wrong", [5, "tracer", object(), Tracer])
def test_only_a_tracer_can_be_the_default(wrong: Any) -> None:
    with pytest.raises(TypeError, match="tracer"):
        set_default_tracer(wrong)


def test_the_one_of_the_current_span(make_tracer: Make) -> None:
    first, second = make_tracer(), make_tracer()
    with second.start_span("outer"):
        assert get_tracer() is second
        work()
        with enrich_span_context("inner"):
            assert get_tracer() is second
        headers = inject_context_into_carrier({})
    assert get_tracer() is first
    assert len(spans_of(first)) == 0
    assert [span.name for span in spans_of(second)] == ["test_default_tracer.work", "inner", "outer"]
    assert spans_of(second)[-1].trace_id in headers["traceparent"]


def test_the_one_of_a_span_of_its_provider(make_tracer: Make) -> None:
    first, second = make_tracer(), make_tracer()
    with second.provider.get_tracer("instrumentor").start_as_current_span("outer"):
        work()
        assert get_tracer() is second
    assert (len(spans_of(first)), len(spans_of(second))) == (0, 2)


def test_the_one_of_a_span_attached_by_use_span(make_tracer: Make) -> None:
    first, second = make_tracer(), make_tracer()
    span = second.provider.get_tracer("instrumentor").start_span("outer")
    with otel_trace.use_span(span, end_on_exit=True):
        work()
    assert (len(spans_of(first)), len(spans_of(second))) == (0, 2)


def test_the_one_of_the_current_block(make_tracer: Make) -> None:
    first, second = make_tracer(), make_tracer()
    with with_distributed_trace_context({}, second):
        work()
        assert get_tracer() is second
    assert (len(spans_of(first)), len(spans_of(second))) == (0, 1)


def test_the_innermost_of_spans_and_blocks(make_tracer: Make) -> None:
    first, second = make_tracer(), make_tracer()
    with with_distributed_trace_context({}, second), first.start_span("span"):
        assert get_tracer() is first
        with with_distributed_trace_context({}, second):
            assert get_tracer() is second
        assert get_tracer() is first
    set_default_tracer(second)
    with with_distributed_trace_context({}, first), second.provider.get_tracer("i").start_as_current_span("span"):
        assert get_tracer() is second


def test_a_span_of_the_sdk_changes_nothing(make_tracer: Make) -> None:
    first, second = make_tracer(), make_tracer()
    sdk = SdkProvider().get_tracer("sdk")
    with second.start_span("ours"), sdk.start_as_current_span("theirs"):
        work()
    assert (len(spans_of(first)), len(spans_of(second))) == (0, 2)


def test_an_explicit_one_wins(make_tracer: Make) -> None:
    first, second = make_tracer(), make_tracer()

    @trace(tracer=first)
    def named() -> None:
        pass

    with second.start_span("outer"):
        named()
        with enrich_span_context("block", tracer=first):
            pass
        with enrich_span_context("block 2", tracer_instance=first):
            pass
    assert [span.name for span in spans_of(second)] == ["outer"]
    assert len(spans_of(first)) == 3


@pytest.mark.parametrize("name", ["tracer", "tracer_instance"])
@pytest.mark.parametrize(
    "call",
    [
        lambda **it: trace(**it),
        lambda **it: enrich_span_context("x", **it),
        lambda **it: inject_context_into_carrier({}, **it),
        lambda **it: tracebaton.extract_context_from_carrier({}, **it),
        lambda **it: with_distributed_trace_context({}, **it),
    ],
    ids=["trace", "enrich_span_context", "inject", "extract", "with_distributed_trace_context"],
)
def test_what_is_no_tracer_is_a_type_error(call: Callable[..., Any], name: str) -> None:
    with pytest.raises(TypeError, match=r"tracer.*\bstr\b"):
        call(**{name: "tracer"})


def test_without_any_tracer_code_runs_and_nothing_is_recorded() -> None:
    assert get_tracer() is None

    @trace(event_type="tool")
    def double(number: int) -> int:
        return number * 2

    assert double(4) == 8
    with enrich_span_context("block", inputs={"a": 1}) as span:
        span.set_attribute("a", 1)
        assert not span.is_recording()
    with with_distributed_trace_context({"baggage": "a=1"}):
        assert inject_context_into_carrier({"x": "y"}) == {"x": "y", "baggage": "a=1"}
    assert tracebaton.flush() is True


async def test_without_any_tracer_async_code_runs() -> None:
    @trace
    async def double(number: int) -> int:
        return number * 2

    @trace
    async def count() -> Any:
        yield 1
        yield 2

    assert await double(4) == 8
    assert [item async for item in count()] == [1, 2]
    async with enrich_span_context("block"), with_distributed_trace_context({}):
        pass


def test_without_any_tracer_an_exception_goes_on() -> None:
    with pytest.raises(KeyError, match="mine"), enrich_span_context("block"):
        raise KeyError("mine")


def test_a_tracer_can_go(make_tracer: Make, collected: Callable[[], None]) -> None:
    make_tracer()  # the first is kept: it is the default
    second = make_tracer()
    with second.start_span("work"):
        pass
    gone = weakref.ref(second)
    del second
    collected()
    assert gone() is None


def test_the_first_is_kept_although_nobody_holds_it() -> None:
    Tracer.init(exporter="memory", source="kept")
    gc.collect()
    tracer = get_tracer()
    assert tracer is not None
    assert tracer.source == "kept"


def test_a_tracer_can_go_while_its_span_is_current(make_tracer: Make, collected: Callable[[], None]) -> None:
    make_tracer()
    second = make_tracer()
    span = second.provider.get_tracer("i").start_span("outlives")
    del second
    collected()
    with otel_trace.use_span(span, end_on_exit=True):
        work()
        assert inject_context_into_carrier({})["traceparent"]


def test_after_shutdown_it_is_nobodys_default(make_tracer: Make) -> None:
    first, second = make_tracer(), make_tracer()
    assert first.shutdown()
    work()
    # The one that was made after it is.
    assert get_tracer() is second
    assert (spans_of(first), len(spans_of(second))) == ([], 1)
    third = make_tracer()
    assert third.shutdown()
    assert first.shutdown()  # a second time


def test_after_shutdown_of_all_new_tracers_work(make_tracer: Make) -> None:
    for _ in range(3):
        tracer = make_tracer()
        work()
        assert len(spans_of(tracer)) == 1
        tracer.shutdown()


def test_after_shutdown_of_the_default_the_other_one_is_meant(make_tracer: Make) -> None:
    first, second = make_tracer(), make_tracer()
    set_default_tracer(second)
    second.shutdown()
    assert get_tracer() is first


def test_spans_after_shutdown_are_counted_as_dropped() -> None:
    tracer = Tracer.init(exporter="otlp", otlp_endpoint="http://127.0.0.1:9")
    tracer.shutdown(0)
    with tracer.start_span("late"):
        pass
    assert tracer.stats()["dropped"] == {"shutdown": 1}


def test_many_threads_make_and_drop_tracers(make_tracer: Make) -> None:
    def serve(number: int) -> int:
        tracer = make_tracer(session_id=f"s{number}")
        with tracer.start_span("request"):
            work()
        sessions = {span.session for span in spans_of(tracer)}
        tracer.shutdown()
        assert sessions == {f"s{number}"}
        return len(spans_of(tracer))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(serve, range(60))) == [2] * 60
