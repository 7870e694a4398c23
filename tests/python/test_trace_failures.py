"""User code runs exactly once and its exceptions go on unchanged, whatever happens in tracing."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tracebaton
from opentelemetry import trace as otel_trace
from recorded import only_span_of, spans_of
from tracebaton import Tracer, enrich_span_context, trace


class Hostile(Exception):
    """What hostile objects raise."""


class HostileTexts:
    def __str__(self) -> str:
        raise Hostile("str")

    __repr__ = __str__


class HostileComparison:
    def __eq__(self, other: object) -> bool:
        raise Hostile("eq")

    def __hash__(self) -> int:
        raise Hostile("hash")

    def __bool__(self) -> bool:
        raise Hostile("bool")

    def __len__(self) -> int:
        raise Hostile("len")


class HostileAttributes:
    def __getattribute__(self, name: str) -> Any:
        raise Hostile(name)


class HostileMapping(dict[str, Any]):
    def items(self) -> Any:
        raise Hostile("items")

    def __iter__(self) -> Iterator[str]:
        raise Hostile("iter")


class HostileNumber:
    def __index__(self) -> int:
        raise Hostile("index")

    def __float__(self) -> float:
        raise Hostile("float")


class LyingClass:
    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise Hostile("class")


class HostileModel:
    def model_dump(self) -> Any:
        raise Hostile("model_dump")

    def tolist(self) -> Any:
        raise Hostile("tolist")


class ExitingModel:
    def model_dump(self) -> Any:
        raise SystemExit(3)


class StoppingModel:
    def model_dump(self) -> Any:
        raise StopIteration


class TextOfAnotherKind:
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


def endless() -> dict[str, Any]:
    out: dict[str, Any] = {}
    out["self"] = out
    return out


def deep() -> list[Any]:
    out: list[Any] = []
    for _ in range(100_000):
        out = [out]
    return out


HOSTILE = {
    "texts": HostileTexts,
    "comparison": HostileComparison,
    "attributes": HostileAttributes,
    "mapping": lambda: HostileMapping(a=1),
    "number": HostileNumber,
    "class": LyingClass,
    "model": HostileModel,
    "exiting": ExitingModel,
    "stopping": StoppingModel,
    "text": TextOfAnotherKind,
    "endless": endless,
    "deep": deep,
    "surrogates": lambda: "\ud800",
    "keys": lambda: {HostileTexts(): 1, ("a", 1): 2, None: 3},
    "huge": lambda: 10**5000,
}
# What makes a text of this costs seconds, or more stack than there is; not what the test is about.
KINDS = pytest.mark.parametrize("kind", HOSTILE)


@KINDS
def test_hostile_arguments_and_results(tracer: Tracer, kind: str) -> None:
    calls: list[object] = []
    given = HOSTILE[kind]()

    @trace(event_name="work")
    def work(value: Any) -> Any:
        calls.append(value)
        return value

    assert work(given) is given
    assert len(calls) == 1
    assert only_span_of(tracer).name == "work"
    assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN


@KINDS
async def test_hostile_arguments_and_results_of_coroutines(tracer: Tracer, kind: str) -> None:
    calls: list[object] = []
    given = HOSTILE[kind]()

    @trace(event_name="work")
    async def work(value: Any) -> Any:
        calls.append(value)
        return value

    assert await work(given) is given
    assert len(calls) == 1
    assert only_span_of(tracer).name == "work"


@KINDS
def test_hostile_items_of_generators(tracer: Tracer, kind: str) -> None:
    given = HOSTILE[kind]()

    @trace(event_name="work")
    def work(value: Any) -> Any:
        yield value

    assert [item is given for item in work(given)] == [True]
    assert only_span_of(tracer).name == "work"


@KINDS
def test_hostile_values_in_a_block(tracer: Tracer, kind: str) -> None:
    given = HOSTILE[kind]()
    ran = []
    with enrich_span_context("block", inputs={"a": given}, outputs=given, metadata={"b": [given]}) as span:
        ran.append(1)
        tracer.enrich_span(metadata={"c": given})
        span.set_attribute("d", given)
        span.set_attributes({"e": given})
        span.add_event("event", {"f": given})
    assert ran == [1]
    assert only_span_of(tracer).name == "block"


@KINDS
def test_hostile_values_in_start_span(tracer: Tracer, kind: str) -> None:
    given = HOSTILE[kind]()
    ran = []
    with tracer.start_span("block", attributes={"a": given}):
        ran.append(1)
    assert ran == [1]
    assert only_span_of(tracer).name == "block"


class Late(Exception):
    """Its text fails."""

    def __str__(self) -> str:
        raise Hostile("str")

    __repr__ = __str__


class NoTrace(Exception):
    @property
    def __traceback__(self) -> Any:
        raise Hostile("traceback")


@pytest.mark.parametrize("kind", [Late, NoTrace])
def test_hostile_exceptions_go_on(tracer: Tracer, kind: type[Exception]) -> None:
    raised = kind()

    @trace
    def fail() -> None:
        raise raised

    caught = None
    try:
        fail()
    except BaseException as error:
        caught = error
    assert caught is raised
    assert only_span_of(tracer).status == 2


def test_an_exception_is_recorded_once(tracer: Tracer) -> None:
    @trace(event_name="fail")
    def fail() -> None:
        raise ValueError("Tracer error: mine")

    with pytest.raises(ValueError, match="mine"):
        fail()
    span = only_span_of(tracer)
    assert span.name == "fail"
    assert (span.status, span.message) == (2, "ValueError: Tracer error: mine")
    assert span.error == "Tracer error: mine"
    assert len(span.events) == 1
    described = span.exceptions[0].attributes
    assert described["exception.type"] == "ValueError"
    assert described["exception.message"] == "Tracer error: mine"
    assert "in fail" in described["exception.stacktrace"]
    assert "honeyhive_outputs.result" not in span.attributes


def test_each_span_that_an_exception_leaves_has_it_once(tracer: Tracer) -> None:
    @trace(event_name="inner")
    def inner() -> None:
        raise ValueError("x")

    @trace(event_name="outer")
    def outer() -> None:
        with enrich_span_context("block"), tracer.start_span("span"):
            inner()

    with pytest.raises(ValueError, match="x"):
        outer()
    assert [(span.name, span.status, len(span.events)) for span in spans_of(tracer)] == [
        ("inner", 2, 1),
        ("span", 2, 1),
        ("block", 2, 1),
        ("outer", 2, 1),
    ]


def test_what_was_recorded_by_hand_is_not_recorded_again(tracer: Tracer) -> None:
    with pytest.raises(ValueError, match="x"), tracer.start_span("span") as span:
        try:
            raise ValueError("x")
        except ValueError as error:
            span.record_exception(error, {"mine": 1})
            raise
    assert len(only_span_of(tracer).exceptions) == 1
    assert only_span_of(tracer).exceptions[0].attributes["mine"] == 1


def test_an_exception_that_is_caught_inside_is_nobodys_business(tracer: Tracer) -> None:
    @trace
    def work() -> int:
        try:
            raise ValueError("x")
        except ValueError:
            return 5

    assert work() == 5
    assert (only_span_of(tracer).status, only_span_of(tracer).events) == (0, [])


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
def test_the_exception_is_the_same_object_with_the_same_traceback(tracer: Tracer, kind: type[BaseException]) -> None:
    raised = kind("mine")
    calls = []

    @trace
    def fail() -> None:
        calls.append(1)
        raise raised

    try:
        fail()
    except BaseException as error:
        assert error is raised
        assert error.__cause__ is None
        assert error.__context__ is None
        assert error.args == ("mine",)
        names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    else:
        pytest.fail("nothing was raised")
    assert names[0] == "test_the_exception_is_the_same_object_with_the_same_traceback"
    assert names[-1] == "fail"
    assert names.count("fail") == 1
    assert calls == [1]


def test_causes_and_contexts_stay(tracer: Tracer) -> None:
    cause, context = KeyError("cause"), IndexError("context")

    @trace
    def fail() -> None:
        try:
            raise context
        except IndexError:
            raise ValueError("x") from cause

    with pytest.raises(ValueError, match="x") as caught:
        fail()
    assert caught.value.__cause__ is cause
    assert caught.value.__context__ is context


@pytest.mark.parametrize("kind", [KeyboardInterrupt, asyncio.CancelledError])
def test_exceptions_that_end_programs_are_recorded(tracer: Tracer, kind: type[BaseException]) -> None:
    @trace
    def fail() -> None:
        raise kind

    with pytest.raises(kind):
        fail()
    span = only_span_of(tracer)
    assert span.status == 2
    assert span.error == kind.__name__
    assert len(span.exceptions) == 1


@pytest.mark.parametrize(("code", "status"), [(0, 0), (None, 0), (1, 2), ("bad", 2)])
def test_an_exit_is_an_error_only_if_it_says_so(tracer: Tracer, code: Any, status: int) -> None:
    @trace
    def leave() -> None:
        raise SystemExit(code)

    with pytest.raises(SystemExit) as caught:
        leave()
    assert caught.value.code == code
    assert only_span_of(tracer).status == status


async def test_a_cancelled_task_ends_its_span_as_an_error(tracer: Tracer) -> None:
    started = asyncio.Event()

    @trace
    async def wait() -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    span = only_span_of(tracer)
    assert (span.status, span.error) == (2, "CancelledError")


async def test_a_timeout(tracer: Tracer) -> None:
    @trace
    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(wait(), 0.01)
    assert only_span_of(tracer).status == 2


def test_a_processor_that_raises_harms_nothing(tracer: Tracer, caplog: pytest.LogCaptureFixture) -> None:
    class Raising:
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            raise Hostile("start")

        def on_end(self, span: Any) -> None:
            raise Hostile("end")

        def shutdown(self) -> None:
            raise Hostile("shutdown")

        def force_flush(self, timeout_millis: int = 1) -> bool:
            raise Hostile("flush")

    tracer.provider.add_span_processor(Raising())
    calls = []

    @trace
    def work() -> int:
        calls.append(1)
        return 7

    with caplog.at_level(logging.CRITICAL, logger="tracebaton"):
        assert work() == 7
        tracer.flush(100)
        tracer.shutdown(100)
    assert calls == [1]
    assert len(spans_of(tracer)) == 1


@pytest.mark.parametrize("part", ["start_span", "_enrich", "end", "set_attribute", "fail"])
def test_a_defect_of_ours_harms_nothing(tracer: Tracer, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever part of tracing fails, the function is called exactly once and its outcome stays."""
    from tracebaton._provider import OtelTracer

    def broken(*_: Any, **__: Any) -> Any:
        raise Hostile(part)

    monkeypatch.setattr(OtelTracer if part == "start_span" else tracebaton.Span, part, broken)
    calls = []

    @trace
    def work(fails: bool) -> int:
        calls.append(fails)
        if fails:
            raise KeyError("mine")
        return 7

    assert work(False) == 7
    with pytest.raises(KeyError, match="mine"):
        work(True)
    assert calls == [False, True]
    assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN


@pytest.mark.parametrize("part", ["start_span", "_enrich", "end", "set_attribute", "fail"])
async def test_a_defect_of_ours_harms_no_coroutine(tracer: Tracer, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tracebaton._provider import OtelTracer

    def broken(*_: Any, **__: Any) -> Any:
        raise Hostile(part)

    monkeypatch.setattr(OtelTracer if part == "start_span" else tracebaton.Span, part, broken)
    calls = []

    @trace
    async def work(fails: bool) -> int:
        calls.append(fails)
        if fails:
            raise KeyError("mine")
        return 7

    assert await work(False) == 7
    with pytest.raises(KeyError, match="mine"):
        await work(True)
    assert calls == [False, True]


@pytest.mark.parametrize("part", ["start_span", "_enrich", "end", "set_attribute", "fail"])
def test_a_defect_of_ours_harms_no_block(tracer: Tracer, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tracebaton._provider import OtelTracer

    def broken(*_: Any, **__: Any) -> Any:
        raise Hostile(part)

    monkeypatch.setattr(OtelTracer if part == "start_span" else tracebaton.Span, part, broken)
    calls = []
    with enrich_span_context("block", inputs={"a": 1}, error="told"):
        calls.append(1)
    with pytest.raises(KeyError, match="mine"), enrich_span_context("block"):
        calls.append(2)
        raise KeyError("mine")
    assert calls == [1, 2]


Work = Callable[..., Any]
