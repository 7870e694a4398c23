"""`@trace` on functions, coroutine functions and methods: what is recorded, and what the function stays."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import trace as otel_trace
from recorded import by_name, only_span_of, spans_of
from tracebaton import Tracer, inject_context_into_carrier, trace


@trace
def bare(a: int, b: int = 2, *rest: int, c: int = 3, **more: int) -> int:
    """Adds."""
    return a + b + c


def test_bare(tracer: Tracer) -> None:
    assert bare(1, 5, 6, 7, d=8) == 9
    span = only_span_of(tracer)
    assert span.name == "test_trace.bare"
    assert span.under("inputs") == {"a": 1, "b": 5, "rest.0": 6, "rest.1": 7, "more.d": 8}
    assert span.under("outputs") == {"result": 9}
    assert span.attributes["honeyhive_event_type"] == "tool"
    assert (span.kind, span.status, span.events, span.links, span.parent_id) == (1, 0, [], [], "")
    assert span.end_ns >= span.start_ns


def test_with_a_name_and_a_type(tracer: Tracer) -> None:
    @trace(event_type="chain", event_name="answer")
    def work() -> None:
        pass

    work()
    span = only_span_of(tracer)
    assert span.name == "answer"
    assert span.attributes["honeyhive_event_type"] == "chain"


def test_by_position(tracer: Tracer) -> None:
    @trace("model", "answer")
    def work() -> None:
        pass

    work()
    assert (only_span_of(tracer).name, only_span_of(tracer).attributes["honeyhive_event_type"]) == ("answer", "model")


def test_an_enum_of_text_as_type(tracer: Tracer) -> None:
    import enum

    class EventType(str, enum.Enum):
        MODEL = "model"

    @trace(event_type=EventType.MODEL)
    def work() -> None:
        pass

    work()
    assert only_span_of(tracer).attributes["honeyhive_event_type"] == "model"


def test_the_type_is_never_guessed_from_a_name(tracer: Tracer) -> None:
    for name in ("chat_handler", "llm", "openai.completion", "generate"):
        trace(event_name=name)(lambda: None)()
    assert {span.attributes["honeyhive_event_type"] for span in spans_of(tracer)} == {"tool"}


def test_every_field(tracer: Tracer) -> None:
    @trace(
        event_type="tool",
        inputs={"given": 1},
        outputs={"o": 2},
        metadata={"m": {"n": 3}},
        metrics={"score": 0.5},
        feedback={"good": True},
        config={"model": "x"},
        span_config={"k": 1},
        user_properties={"plan": "pro"},
        error="told",
        attributes={"plain": [1, 2]},
        event_id="e1",
        user_id="u1",
    )
    def work(argument: str) -> str:
        return argument

    work("a")
    span = only_span_of(tracer)
    assert span.under("inputs") == {"given": 1, "argument": "a"}
    assert span.under("outputs") == {"o": 2, "result": "a"}
    assert span.under("metadata") == {"m.n": 3}
    assert span.under("metrics") == {"score": 0.5}
    assert span.under("feedback") == {"good": True}
    assert span.under("config") == {"model": "x", "k": 1}
    assert span.under("user_properties") == {"plan": "pro"}
    assert span.error == "told"
    assert span.attributes["plain"] == [1, 2]
    assert span.attributes["honeyhive_event_id"] == "e1"
    assert span.attributes["honeyhive_user_id"] == "u1"


@pytest.mark.parametrize(
    "keyword",
    ["session_name", "source", "project", "session_id", "tracer", "tracer_instance", "capture", "metadata", "config"],
)
def test_documented_keywords_are_taken(tracer: Tracer, keyword: str) -> None:
    @trace(**{keyword: None})
    def work() -> int:
        return 3

    assert work() == 3


def test_an_unknown_keyword_is_a_type_error_at_decoration() -> None:
    with pytest.raises(TypeError, match="evnt_name"):
        trace(evnt_name="x")


@pytest.mark.parametrize("wrong", [5, b"tool", ["tool"]], ids=repr)
def test_a_wrong_event_type_is_a_type_error(wrong: Any) -> None:
    with pytest.raises(TypeError, match="event_type"):
        trace(event_type=wrong)


@pytest.mark.parametrize(
    ("keyword", "wrong"),
    [("event_name", 5), ("session_id", 5), ("capture", "no"), ("attributes", 5), ("error", 5), ("span_config", 5)],
)
def test_a_wrong_type_is_a_type_error_at_decoration_that_names_it(keyword: str, wrong: Any) -> None:
    with pytest.raises(TypeError, match=keyword):
        trace(**{keyword: wrong})


def test_only_functions_are_decorated() -> None:
    with pytest.raises(TypeError):
        trace(event_type="tool")(5)  # type: ignore[type-var]


def test_capture_can_be_turned_off(tracer: Tracer) -> None:
    @trace(capture=False, metadata={"m": 1})
    def work(secret: str) -> str:
        return secret

    work("s")
    span = only_span_of(tracer)
    assert span.under("inputs") == span.under("outputs") == {}
    assert span.under("metadata") == {"m": 1}


def test_capture_can_be_turned_off_for_a_tracer(make_tracer: Callable[..., Tracer]) -> None:
    tracer = make_tracer(capture=False)
    bare(1)
    assert only_span_of(tracer).under("inputs") == {}

    @trace(capture=True)
    def work(a: int) -> None:
        pass

    work(1)
    assert spans_of(tracer)[1].under("inputs") == {"a": 1}


def test_metadata_of_the_function_stays() -> None:
    assert bare.__name__ == "bare"
    assert bare.__qualname__ == "bare"
    assert bare.__doc__ == "Adds."
    assert bare.__module__ == __name__
    assert list(inspect.signature(bare).parameters) == ["a", "b", "rest", "c", "more"]
    assert bare.__annotations__["a"] == "int"
    assert pickle.loads(pickle.dumps(bare)) is bare
    assert not inspect.iscoroutinefunction(bare)


def test_a_coroutine_function_stays_one() -> None:
    @trace
    async def work() -> None: ...

    assert inspect.iscoroutinefunction(work)
    assert not inspect.isasyncgenfunction(work)


def test_generators_stay_generators() -> None:
    @trace
    def count() -> Any:
        yield 1

    @trace
    async def acount() -> Any:
        yield 1

    assert inspect.isgeneratorfunction(count)
    assert inspect.isasyncgenfunction(acount)


def test_the_result_is_the_functions_own(tracer: Tracer) -> None:
    given = [1, {"a": 2}]

    @trace
    def identity(value: Any) -> Any:
        return value

    assert identity(given) is given
    assert given == [1, {"a": 2}]


def test_none_as_result(tracer: Tracer) -> None:
    trace(lambda: None)()
    assert only_span_of(tracer).under("outputs") == {}


def test_arguments_are_captured_as_they_were_before_the_call(tracer: Tracer) -> None:
    @trace
    def consume(items: list[int], table: dict[str, int]) -> None:
        items.clear()
        table["b"] = 2

    consume([1, 2], {"a": 1})
    assert only_span_of(tracer).under("inputs") == {"items.0": 1, "items.1": 2, "table.a": 1}


def test_a_call_that_does_not_fit_raises_pythons_own_error(tracer: Tracer) -> None:
    with pytest.raises(TypeError, match=r"bare\(\) missing 1 required positional argument: 'a'"):
        bare()  # type: ignore[call-arg]
    assert only_span_of(tracer).status == 2


class Service:
    """Methods of every kind."""

    factor = 3

    @trace
    def method(self, a: int) -> int:
        return a * self.factor

    @classmethod
    @trace
    def of_class(cls, a: int) -> int:
        return a * cls.factor

    @staticmethod
    @trace
    def static(a: int) -> int:
        return a

    @trace
    def self_is_an_argument_too(self, *args: int, **kwargs: int) -> tuple[int, ...]:
        return args

    @property
    @trace
    def prop(self) -> int:
        return self.factor

    @trace
    async def amethod(self, a: int) -> int:
        return a * self.factor

    @trace
    def __call__(self, a: int) -> int:
        return a


def test_methods(tracer: Tracer) -> None:
    service = Service()
    assert service.method(2) == 6
    assert Service.method(service, 2) == 6
    assert service.of_class(2) == Service.of_class(2) == 6
    assert service.static(2) == Service.static(2) == 2
    assert service.self_is_an_argument_too(1, 2, b=3) == (1, 2)
    assert service.prop == 3
    assert asyncio.run(service.amethod(2)) == 6
    assert service(4) == 4
    spans = spans_of(tracer)
    assert {span.name for span in spans} == {
        f"test_trace.Service.{name}"
        for name in ("method", "of_class", "static", "self_is_an_argument_too", "prop", "amethod", "__call__")
    }
    for span in spans:
        assert not [key for key in span.under("inputs") if key.startswith(("self", "cls"))], span.name
    assert [span.under("inputs") for span in spans if span.name.endswith(".method")] == [{"a": 2}] * 2


@pytest.mark.parametrize("outside", [classmethod, staticmethod])
@pytest.mark.parametrize("bare", [True, False])
def test_around_a_classmethod_or_staticmethod(tracer: Tracer, outside: Any, bare: bool) -> None:
    def work(*args: Any) -> Any:
        return args

    class Holder:
        made = trace(outside(work)) if bare else trace(event_type="chain")(outside(work))

    receiver = (Holder,) if outside is classmethod else ()
    assert Holder.made(4) == (*receiver, 4)
    assert Holder().made(4) == (*receiver, 4)
    assert len(spans_of(tracer)) == 2


def test_a_partial_and_a_callable_object(tracer: Tracer) -> None:
    class Adder:
        def __call__(self, a: int, b: int) -> int:
            return a + b

    assert trace(functools.partial(lambda a, b: a + b, 1))(2) == 3
    assert trace(event_name="adder")(Adder())(1, 2) == 3
    assert trace(len)("abc") == 3
    assert len(spans_of(tracer)) == 3


def test_a_partial_of_a_coroutine_function_is_awaited_inside(tracer: Tracer) -> None:
    async def work(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    assert asyncio.run(trace(functools.partial(work, 1))(2)) == 3
    assert only_span_of(tracer).under("outputs") == {"result": 3}


def test_recursion_nests(tracer: Tracer) -> None:
    @trace(event_name="down")
    def down(n: int) -> int:
        return 0 if n == 0 else 1 + down(n - 1)

    assert down(20) == 20
    spans = {span.attributes["honeyhive_inputs.n"]: span for span in spans_of(tracer)}
    assert len(spans) == 21
    for n in range(20):
        assert spans[n].parent_id == spans[n + 1].span_id
    assert spans[20].parent_id == ""
    assert len({span.trace_id for span in spans.values()}) == 1


def test_deep_recursion_is_pythons_own_error(tracer: Tracer) -> None:
    @trace
    def for_ever(n: int) -> int:
        return for_ever(n + 1)

    with pytest.raises(RecursionError):
        for_ever(0)
    assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN


async def test_async(tracer: Tracer) -> None:
    @trace(event_name="inner")
    async def inner(a: int) -> int:
        await asyncio.sleep(0)
        return a

    @trace(event_name="outer")
    async def outer() -> list[int]:
        return await asyncio.gather(inner(1), inner(2))

    assert await outer() == [1, 2]
    spans = spans_of(tracer)
    root = next(span for span in spans if span.name == "outer")
    assert [span.parent_id for span in spans if span.name == "inner"] == [root.span_id] * 2
    assert root.under("outputs") == {"result.0": 1, "result.1": 2}


async def test_a_coroutine_that_is_never_awaited_records_nothing(tracer: Tracer) -> None:
    @trace
    async def work() -> None: ...

    coroutine = work()
    coroutine.close()
    assert spans_of(tracer) == []


def test_threads_do_not_mix(tracer: Tracer) -> None:
    barrier = threading.Barrier(8)

    @trace(event_name="inner")
    def inner(n: int) -> None:
        barrier.wait(10)

    @trace(event_name="outer")
    def outer(n: int) -> str:
        inner(n)
        return inject_context_into_carrier({})["traceparent"]

    with ThreadPoolExecutor(8) as pool:
        parents = list(pool.map(outer, range(8)))
    spans = spans_of(tracer)
    outers = {span.attributes["honeyhive_inputs.n"]: span for span in spans if span.name == "outer"}
    inners = {span.attributes["honeyhive_inputs.n"]: span for span in spans if span.name == "inner"}
    for n in range(8):
        assert inners[n].parent_id == outers[n].span_id
        assert outers[n].span_id in parents[n]
    assert len({span.trace_id for span in outers.values()}) == 8


def test_a_stack_of_decorators(tracer: Tracer) -> None:
    @trace(event_name="outer")
    @trace(event_name="inner")
    def work() -> int:
        return 1

    assert work() == 1
    spans = by_name(spans_of(tracer))
    assert spans["inner"].parent_id == spans["outer"].span_id


def test_nothing_is_current_afterwards(tracer: Tracer) -> None:
    bare(1)
    assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN


def test_a_class_is_refused_at_decoration() -> None:
    with pytest.raises(TypeError, match="type"):

        @trace
        class Thing:
            pass
