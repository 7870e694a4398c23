"""Context in threads: `wrap`, `ContextThreadPoolExecutor`, `patch_threads`."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import pytest
from opentelemetry import trace as otel_trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from recorded import by_name, only_span_of, spans_of
from tracebaton import (
    ContextThreadPoolExecutor,
    Tracer,
    enrich_span_context,
    get_tracer,
    inject_context_into_carrier,
    patch_threads,
    trace,
    unpatch_threads,
    with_distributed_trace_context,
    wrap,
)

Make = Callable[..., Tracer]
VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="none")


@pytest.fixture
def patched() -> Iterator[None]:
    patch_threads()
    yield
    unpatch_threads()


def in_thread(function: Callable[[], Any]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def test_without_help_a_thread_has_no_context(tracer: Tracer) -> None:
    with tracer.start_span("outer"):
        in_thread(lambda: tracer.start_span("inner").__enter__().end())
    spans = by_name(spans_of(tracer))
    assert spans["inner"].parent_id == ""


def test_wrap(tracer: Tracer) -> None:
    @trace(event_name="inner")
    def inner(a: int, *, b: int) -> int:
        assert get_tracer() is tracer
        assert "session_id=theirs" in inject_context_into_carrier({})["baggage"]
        return a + b

    with with_distributed_trace_context({"baggage": "session_id=theirs"}), tracer.start_span("outer"):
        VARIABLE.set("of the request")
        carried = wrap(inner)
        variable = wrap(VARIABLE.get)
    VARIABLE.set("later")
    assert carried.__name__ == "inner"
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(carried, 1, b=2).result() == 3
        assert pool.submit(variable).result() == "of the request"
        # The pool's thread is as it was.
        assert pool.submit(otel_trace.get_current_span).result() is otel_trace.INVALID_SPAN
    # Here, too: and what was current here is back.
    assert carried(1, b=3) == 4
    assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN
    spans = spans_of(tracer)
    outer = next(span for span in spans if span.name == "outer")
    for span in spans:
        assert span.session == "theirs"
        assert span is outer or span.parent_id == outer.span_id


def test_what_wrap_returns_runs_many_times_at_once(tracer: Tracer) -> None:
    barrier = threading.Barrier(8)

    def work(deeper: int) -> str:
        barrier.wait(20)
        # Itself inside itself, and changes that nobody else sees.
        VARIABLE.set(f"{VARIABLE.get()}.{deeper}")
        return carried_again(deeper)

    with tracer.start_span("outer"):
        VARIABLE.set("outer")
        carried = wrap(work)
        carried_again = wrap(lambda deeper: f"{VARIABLE.get()} {deeper}")
    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(carried, range(8))) == [f"outer {i}" for i in range(8)]


def test_an_exception_goes_on(tracer: Tracer) -> None:
    def fails() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        wrap(fails)()


async def test_wrap_of_a_coroutine_function(tracer: Tracer) -> None:
    @trace(event_name="inner")
    async def inner() -> str:
        await asyncio.sleep(0)
        return VARIABLE.get()

    with with_distributed_trace_context({"baggage": "session_id=theirs"}), tracer.start_span("outer") as outer:
        carried = wrap(inner)
    assert inspect.iscoroutinefunction(carried)
    coroutine = carried()

    def elsewhere() -> str:
        VARIABLE.set("of the thread")
        return asyncio.run(coroutine)

    with ThreadPoolExecutor(1) as pool:
        assert await asyncio.get_running_loop().run_in_executor(pool, elsewhere) == "of the thread"
    span = by_name(spans_of(tracer))["inner"]
    assert (span.session, span.parent_id) == ("theirs", f"{outer.get_span_context().span_id:016x}")
    assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN


async def test_a_wrapped_coroutine_function_finds_its_tracer(make_tracer: Make) -> None:
    make_tracer()
    second = make_tracer(session_id="second")

    async def which() -> Tracer | None:
        return get_tracer()

    with with_distributed_trace_context({}, second):
        carried = wrap(which)
    assert await carried() is second
    assert get_tracer() is not second


@pytest.mark.parametrize("wrong", [3, None, "f"])
def test_what_is_no_function_is_a_type_error(wrong: Any) -> None:
    with pytest.raises(TypeError, match="wrap"):
        wrap(wrong)


def test_the_executor(tracer: Tracer) -> None:
    with ContextThreadPoolExecutor(2) as pool:
        for i in range(4):
            with enrich_span_context(f"request {i}", session_id=f"s{i}"):
                with tracer.start_span(f"outer {i}"):
                    pool.submit(lambda i=i: tracer.start_span(f"submit {i}").__enter__().end()).result()
                    list(pool.map(lambda name: tracer.start_span(name).__enter__().end(), [f"map {i}"]))
        assert pool.submit(otel_trace.get_current_span).result() is otel_trace.INVALID_SPAN
    spans = by_name(spans_of(tracer))
    for i in range(4):
        for name in ("submit", "map"):
            span = spans[f"{name} {i}"]
            assert (span.session, span.parent_id) == (f"s{i}", spans[f"outer {i}"].span_id)


async def test_the_executor_of_a_loop(tracer: Tracer) -> None:
    loop = asyncio.get_running_loop()
    with ContextThreadPoolExecutor(1) as pool:
        loop.set_default_executor(pool)
        with tracer.start_span("outer"):
            await loop.run_in_executor(None, lambda: tracer.start_span("default").__enter__().end())
            await loop.run_in_executor(pool, lambda: tracer.start_span("given").__enter__().end())
            await asyncio.to_thread(lambda: tracer.start_span("to_thread").__enter__().end())
    spans = by_name(spans_of(tracer))
    assert {span.parent_id for span in spans.values()} == {"", spans["outer"].span_id}


def test_futures_and_failures_are_as_ever() -> None:
    with ContextThreadPoolExecutor(1, thread_name_prefix="mine", initializer=lambda: None) as pool:
        future = pool.submit(int, "x")
        with pytest.raises(ValueError, match="invalid literal"):
            future.result()
        assert [done.result() for done in as_completed([pool.submit(pow, 2, 3)])] == [8]
        assert pool.submit(threading.current_thread).result().name.startswith("mine")


class Worker(threading.Thread):
    """Subclasses have a `run` of their own."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def run(self) -> None:
        self.tracer.start_span("subclass").__enter__().end()


@pytest.mark.usefixtures("patched")
def test_patched_threads(tracer: Tracer) -> None:
    with tracer.start_span("outer"):
        in_thread(lambda: tracer.start_span("thread").__enter__().end())
        worker = Worker(tracer)
        worker.start()
        timer = threading.Timer(0, lambda: tracer.start_span("timer").__enter__().end())
        timer.start()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: tracer.start_span("pool").__enter__().end())
            list(pool.map(lambda name: tracer.start_span(name).__enter__().end(), ["map"]))
        for thread in (worker, timer):
            thread.join()
    spans = by_name(spans_of(tracer))
    assert len(spans) == 6
    assert {span.parent_id for span in spans.values()} == {"", spans["outer"].span_id}


@pytest.mark.usefixtures("patched")
def test_a_patched_pools_thread_keeps_no_context(tracer: Tracer) -> None:
    """Its thread is started by the first request and serves the others."""
    began_in: list[Any] = []
    with ThreadPoolExecutor(1, initializer=lambda: began_in.append(otel_trace.get_current_span())) as pool:
        with enrich_span_context("first", session_id="first"):
            pool.submit(tracer.start_span("in first").__enter__).result().end()
        pool.submit(lambda: tracer.start_span("second").__enter__().end()).result()
        with enrich_span_context("third", session_id="third"):
            pool.submit(lambda: tracer.start_span("in third").__enter__().end()).result()
    assert began_in == [otel_trace.INVALID_SPAN]
    spans = by_name(spans_of(tracer))
    assert (spans["second"].session, spans["second"].parent_id) == ("own", "")
    assert (spans["in third"].session, spans["in third"].parent_id) == ("third", spans["third"].span_id)


def test_patch_and_unpatch() -> None:
    before = (threading.Thread.start, ThreadPoolExecutor.submit)
    patch_threads()
    patch_threads()
    assert (threading.Thread.start, ThreadPoolExecutor.submit) != before
    unpatch_threads()
    assert (threading.Thread.start, ThreadPoolExecutor.submit) == before
    unpatch_threads()
    assert (threading.Thread.start, ThreadPoolExecutor.submit) == before


def test_another_librarys_patch_stays(tracer: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    # So that it is this that comes back at the end.
    monkeypatch.setattr(threading.Thread, "start", threading.Thread.start)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", ThreadPoolExecutor.submit)
    patch_threads()
    ours, our_submit = threading.Thread.start, ThreadPoolExecutor.submit

    def theirs(thread: threading.Thread) -> None:
        ours(thread)

    def their_submit(executor: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        return our_submit(executor, fn, *args, **kwargs)

    threading.Thread.start = theirs  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = their_submit  # type: ignore[method-assign]
    unpatch_threads()
    assert threading.Thread.start is theirs
    assert ThreadPoolExecutor.submit is their_submit
    with tracer.start_span("outer"):
        in_thread(lambda: tracer.start_span("thread").__enter__().end())
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(otel_trace.get_current_span).result() is otel_trace.INVALID_SPAN
        # Ours is below theirs, and does nothing any more.
        patch_threads()
        in_thread(lambda: tracer.start_span("again").__enter__().end())
        unpatch_threads()
    spans = by_name(spans_of(tracer))
    assert (spans["thread"].parent_id, spans["again"].parent_id) == ("", spans["outer"].span_id)


@pytest.mark.usefixtures("patched")
def test_patched_threads_leave_nothing_behind(tracer: Tracer) -> None:
    ran: list[threading.Thread] = []
    with tracer.start_span("outer"):
        thread = threading.Thread(target=lambda: ran.append(threading.current_thread()))
        thread.start()
        thread.join()
        with pytest.raises(RuntimeError):
            thread.start()
    assert ran == [thread]
    assert "run" not in vars(thread)
    ran.clear()
    gone = weakref.ref(thread)
    gc.disable()
    try:
        del thread
        assert gone() is None, "a cycle"
    finally:
        gc.enable()
    assert only_span_of(tracer).name == "outer"


@pytest.mark.usefixtures("patched")
def test_our_own_threads_keep_no_request(make_tracer: Make) -> None:
    class Thing:
        pass

    holder: contextvars.ContextVar[Thing] = contextvars.ContextVar("holder")
    tracer = make_tracer(exporter=InMemorySpanExporter())

    def request() -> weakref.ref[Thing]:
        thing = Thing()
        holder.set(thing)
        with tracer.start_span("starts the thread"):
            pass
        return weakref.ref(thing)

    gone = contextvars.copy_context().run(request)
    assert tracer.flush()
    gc.collect()
    assert gone() is None


@pytest.mark.usefixtures("patched")
def test_both_at_once(tracer: Tracer) -> None:
    with ContextThreadPoolExecutor(1) as pool, tracer.start_span("outer"):
        pool.submit(wrap(lambda: tracer.start_span("inner").__enter__().end())).result()
    spans = by_name(spans_of(tracer))
    assert spans["inner"].parent_id == spans["outer"].span_id
