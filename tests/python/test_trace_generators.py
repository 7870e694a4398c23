"""`@trace` on generators: the span lasts until the generator is exhausted, closed or cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import AsyncGenerator, Generator
from typing import Any

import pytest
from opentelemetry import trace as otel_trace
from recorded import by_name, only_span_of, spans_of
from tracebaton import Tracer, enrich_span_context, inject_context_into_carrier, trace, with_distributed_trace_context

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@trace(event_name="count")
def count(end: int) -> Generator[int, Any, str]:
    for number in range(end):
        yield number
    return "done"


@trace(event_name="acount")
async def acount(end: int) -> AsyncGenerator[int, None]:
    for number in range(end):
        await asyncio.sleep(0)
        yield number


def test_exhausted(tracer: Tracer) -> None:
    generator = count(3)
    assert spans_of(tracer) == []
    assert next(generator) == 0
    assert spans_of(tracer) == []
    assert list(generator) == [1, 2]
    span = only_span_of(tracer)
    assert span.under("inputs") == {"end": 3}
    assert span.under("outputs") == {"items": 3}
    assert span.status == 0


def test_never_started_records_nothing(tracer: Tracer) -> None:
    generator = count(3)
    generator.close()
    del generator
    gc.collect()
    assert spans_of(tracer) == []


def test_the_return_value(tracer: Tracer) -> None:
    def outer() -> Generator[int, Any, str]:
        return (yield from count(2))

    generator = outer()
    assert [next(generator), next(generator)] == [0, 1]
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value == "done"


def test_send_and_throw_reach_the_generator(tracer: Tracer) -> None:
    seen: list[Any] = []

    @trace
    def talk() -> Generator[str, Any, str]:
        seen.append((yield "first"))
        try:
            yield "second"
        except KeyError as error:
            seen.append(error)
        yield "third"
        return "end"

    generator = talk()
    assert generator.send(None) == "first"
    assert generator.send("sent") == "second"
    thrown = KeyError("thrown")
    assert generator.throw(thrown) == "third"
    with pytest.raises(StopIteration):
        next(generator)
    assert seen == ["sent", thrown]
    assert only_span_of(tracer).status == 0


def test_closed_early(tracer: Tracer) -> None:
    finals: list[str] = []

    @trace
    def work() -> Generator[int, None, None]:
        try:
            yield 1
            yield 2
        finally:
            finals.append("closed")

    generator = work()
    next(generator)
    generator.close()
    assert finals == ["closed"]
    span = only_span_of(tracer)
    assert (span.status, span.events) == (0, [])
    assert span.end_ns > span.start_ns


def test_dropped_early(tracer: Tracer) -> None:
    generator = count(3)
    next(generator)
    del generator
    gc.collect()
    assert only_span_of(tracer).status == 0


def test_break_out_of_a_loop(tracer: Tracer) -> None:
    for item in count(5):
        if item == 2:
            break
    gc.collect()
    assert only_span_of(tracer).name == "count"


def test_a_generator_that_fails(tracer: Tracer) -> None:
    @trace
    def work() -> Generator[int, None, None]:
        yield 1
        raise ValueError("mine")

    generator = work()
    next(generator)
    with pytest.raises(ValueError, match="mine"):
        next(generator)
    span = only_span_of(tracer)
    assert (span.status, span.error, len(span.exceptions)) == (2, "mine", 1)


def test_a_generator_that_ignores_close_is_pythons_own_error(tracer: Tracer) -> None:
    @trace
    def stubborn() -> Generator[int, None, None]:
        try:
            yield 1
        except GeneratorExit:
            yield 2

    generator = stubborn()
    next(generator)
    with pytest.raises(RuntimeError, match="GeneratorExit"):
        generator.close()


def test_the_span_is_current_inside_only(tracer: Tracer) -> None:
    inside: list[Any] = []

    @trace(event_name="work")
    def work() -> Generator[int, None, None]:
        for number in range(3):
            inside.append(otel_trace.get_current_span())
            with enrich_span_context(f"step {number}"):
                pass
            yield number

    for number in work():
        assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN
        with enrich_span_context(f"consumer {number}"):
            pass
    assert len({id(span) for span in inside}) == 1
    spans = by_name(spans_of(tracer))
    for number in range(3):
        assert spans[f"step {number}"].parent_id == spans["work"].span_id
        assert spans[f"consumer {number}"].parent_id == ""


def test_a_block_open_across_a_yield(tracer: Tracer) -> None:
    @trace(event_name="work")
    def work() -> Generator[int, None, None]:
        with enrich_span_context("held"):
            yield 1
            with enrich_span_context("inner"):
                yield 2

    with tracer.start_span("consumer"):
        for number in work():
            with enrich_span_context(f"between {number}"):
                pass
    spans = by_name(spans_of(tracer))
    assert spans["held"].parent_id == spans["work"].span_id
    assert spans["inner"].parent_id == spans["held"].span_id
    assert spans["between 1"].parent_id == spans["between 2"].parent_id == spans["consumer"].span_id
    assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN


def test_two_generators_in_turns(tracer: Tracer) -> None:
    @trace(event_name="even")
    def even() -> Generator[str, None, None]:
        for _ in range(3):
            yield inject_context_into_carrier({})["traceparent"]

    @trace(event_name="odd")
    def odd() -> Generator[str, None, None]:
        for _ in range(3):
            yield inject_context_into_carrier({})["traceparent"]

    evens, odds = zip(*zip(even(), odd(), strict=True), strict=True)
    spans = by_name(spans_of(tracer))
    assert len(set(evens)) == len(set(odds)) == 1
    assert spans["even"].span_id in evens[0]
    assert spans["odd"].span_id in odds[0]
    assert spans["even"].parent_id == spans["odd"].parent_id == ""


def test_the_parent_is_where_iteration_begins(tracer: Tracer) -> None:
    with tracer.start_span("outer"):
        list(count(1))
    spans = by_name(spans_of(tracer))
    assert spans["count"].parent_id == spans["outer"].span_id


def test_consumed_in_another_thread(tracer: Tracer) -> None:
    generator = count(4)
    first = next(generator)
    rest: list[int] = []
    thread = threading.Thread(target=lambda: rest.extend(generator))
    thread.start()
    thread.join()
    assert [first, *rest] == [0, 1, 2, 3]
    assert only_span_of(tracer).under("outputs") == {"items": 4}
    assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN


def test_the_session_of_a_caller_holds_in_a_generator_that_outlives_the_block(tracer: Tracer) -> None:
    @trace(event_name="stream")
    def stream() -> Generator[dict[str, str], None, None]:
        yield inject_context_into_carrier({})
        yield inject_context_into_carrier({})

    with with_distributed_trace_context({"traceparent": CALLER, "baggage": "session_id=theirs"}):
        generator = stream()
        first = next(generator)
    second = next(generator)  # a streaming response is sent after the handler has returned
    generator.close()
    assert first == second
    assert first["baggage"].startswith("session_id=theirs,")
    assert only_span_of(tracer).trace_id == "0af7651916cd43dd8448eb211c80319c"


async def test_async_exhausted(tracer: Tracer) -> None:
    assert [item async for item in acount(3)] == [0, 1, 2]
    span = only_span_of(tracer)
    assert span.under("outputs") == {"items": 3}
    assert span.status == 0


async def test_async_closed_early(tracer: Tracer) -> None:
    finals: list[str] = []

    @trace
    async def work() -> AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            finals.append("closed")

    generator = work()
    await anext(generator)
    await generator.aclose()
    assert finals == ["closed"]
    assert only_span_of(tracer).status == 0


async def test_async_cancelled(tracer: Tracer) -> None:
    started = asyncio.Event()

    @trace
    async def work() -> AsyncGenerator[int, None]:
        yield 1
        started.set()
        await asyncio.Event().wait()

    async def consume() -> None:
        async with contextlib.aclosing(work()) as items:
            async for _ in items:
                pass

    task = asyncio.create_task(consume())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    span = only_span_of(tracer)
    assert (span.status, span.error) == (2, "CancelledError")


async def test_async_closed_in_another_task(tracer: Tracer, caplog: pytest.LogCaptureFixture) -> None:
    generator = acount(5)
    assert await anext(generator) == 0
    with tracer.start_span("other"):
        await asyncio.create_task(generator.aclose())
        current = otel_trace.get_current_span()
        assert current.name == "other"  # type: ignore[attr-defined]
    spans = by_name(spans_of(tracer))
    assert spans["acount"].status == 0
    assert caplog.messages == []  # no "was created in a different Context"


async def test_async_collected_by_the_loop(tracer: Tracer) -> None:
    async def consume() -> None:
        async for _ in acount(5):
            break

    await asyncio.create_task(consume())
    gc.collect()
    for _ in range(5):
        await asyncio.sleep(0)
    assert only_span_of(tracer).name == "acount"


async def test_async_each_step_in_another_task(tracer: Tracer) -> None:
    generator = acount(3)
    items = [await asyncio.create_task(anext(generator)) for _ in range(3)]
    with pytest.raises(StopAsyncIteration):
        await asyncio.create_task(anext(generator))
    assert items == [0, 1, 2]
    assert only_span_of(tracer).under("outputs") == {"items": 3}


async def test_async_send_and_throw(tracer: Tracer) -> None:
    seen: list[Any] = []

    @trace
    async def talk() -> AsyncGenerator[str, Any]:
        seen.append((yield "first"))
        try:
            yield "second"
        except KeyError as error:
            seen.append(error)
        yield "third"

    generator = talk()
    assert await generator.asend(None) == "first"
    assert await generator.asend("sent") == "second"
    thrown = KeyError("x")
    assert await generator.athrow(thrown) == "third"
    with pytest.raises(StopAsyncIteration):
        await anext(generator)
    assert seen == ["sent", thrown]


async def test_async_the_span_is_current_inside_only(tracer: Tracer) -> None:
    @trace(event_name="work")
    async def work() -> AsyncGenerator[int, None]:
        for number in range(2):
            await asyncio.sleep(0)
            with enrich_span_context(f"step {number}"):
                yield number

    async for number in work():
        assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN
        with enrich_span_context(f"consumer {number}"):
            pass
    spans = by_name(spans_of(tracer))
    assert spans["step 0"].parent_id == spans["step 1"].parent_id == spans["work"].span_id
    assert spans["consumer 0"].parent_id == spans["consumer 1"].parent_id == ""


async def test_async_a_failure(tracer: Tracer) -> None:
    @trace
    async def work() -> AsyncGenerator[int, None]:
        yield 1
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        async for _ in work():
            pass
    span = only_span_of(tracer)
    assert (span.status, span.error, len(span.exceptions)) == (2, "mine", 1)


async def test_async_without_sampling_items_flow(make_tracer: Any) -> None:
    tracer = make_tracer(sampler="always_off")
    assert [item async for item in acount(3)] == [0, 1, 2]
    assert list(count(2)) == [0, 1]
    assert spans_of(tracer) == []


async def test_many_streams_at_once(tracer: Tracer) -> None:
    @trace(event_name="inner")
    async def inner(number: int) -> str:
        await asyncio.sleep(0)
        return inject_context_into_carrier({})["baggage"]

    @trace(event_name="stream")
    async def stream(number: int) -> AsyncGenerator[str, None]:
        for _ in range(3):
            yield await inner(number)

    async def serve(number: int) -> None:
        with with_distributed_trace_context({"baggage": f"session_id=s{number}"}):
            async for baggage in stream(number):
                assert baggage.startswith(f"session_id=s{number},")

    await asyncio.gather(*(serve(number) for number in range(20)))
    spans = spans_of(tracer)
    streams = {span.span_id: span for span in spans if span.name == "stream"}
    assert len(streams) == 20
    for span in spans:
        if span.name == "inner":
            assert streams[span.parent_id].session == span.session
