"""`tracer.provider`: what instrumentors expect of OpenTelemetry's interfaces, and of the SDK beyond them."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from typing import Any

import pytest
import wrapt
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from recorded import by_name, only_span_of, spans_of
from tracebaton import Tracer, inject_context_into_carrier, with_distributed_trace_context

Make = Callable[..., Tracer]


@pytest.fixture
def otel(tracer: Tracer) -> otel_trace.Tracer:
    return tracer.provider.get_tracer("instrumentor", "1.2", "https://schema.example", {"k": "v"})


def test_the_classes_are_opentelemetrys(tracer: Tracer, otel: otel_trace.Tracer) -> None:
    span = otel.start_span("s")
    assert isinstance(tracer.provider, otel_trace.TracerProvider)
    assert isinstance(otel, otel_trace.Tracer)
    assert isinstance(span, otel_trace.Span)
    context = span.get_span_context()
    assert type(context) is otel_trace.SpanContext
    assert isinstance(context.trace_state, otel_trace.TraceState)
    assert isinstance(context.trace_flags, otel_trace.TraceFlags)
    assert context.is_valid
    assert not context.is_remote
    assert span.get_span_context() is context
    span.end()


def test_no_attribute_name_collides_with_wrapt(otel: otel_trace.Tracer) -> None:
    assert not [name for name in dir(otel) if name.startswith("_self_")]
    assert inspect.isfunction(type(otel).start_span)


def test_new_roots_have_the_random_flag(otel: otel_trace.Tracer) -> None:
    assert otel.start_span("s").get_span_context().trace_flags == 0x03


def test_the_random_flag_of_new_roots_can_be_turned_off(make_tracer: Make) -> None:
    tracer = make_tracer(random_flag=False)
    with tracer.start_span("root") as root:
        assert root.get_span_context().trace_flags == 0x01
        carrier = inject_context_into_carrier({})
        assert carrier["traceparent"].endswith("-01")
    # What a caller says of its ids is passed on in any case.
    for flags in ("01", "03"):
        caller = {"traceparent": f"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}"}
        with with_distributed_trace_context(caller, tracer), tracer.start_span("child"):
            assert inject_context_into_carrier({})["traceparent"].endswith(f"-{flags}")


def test_get_tracer(tracer: Tracer) -> None:
    provider = tracer.provider
    assert provider.get_tracer("a") is provider.get_tracer("a")
    assert provider.get_tracer("a", "1") is not provider.get_tracer("a", "2")
    for name in ("", None):
        with provider.get_tracer(name).start_as_current_span("s"):  # type: ignore[arg-type]
            pass
    assert len(spans_of(tracer)) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("a", "1", "https://x", {"k": "v"}),
        ("a", None, None, None),
        ("a", "1", None, {"k": [1, 2]}),
        ("a", "1", None, {"k": {"not": "hashable"}}),
    ],
)
def test_get_tracer_by_position(tracer: Tracer, arguments: tuple[Any, ...]) -> None:
    tracer.provider.get_tracer(*arguments).start_span("s").end()
    assert len(spans_of(tracer)) == 1


def test_the_scope_is_the_librarys(otel: otel_trace.Tracer) -> None:
    scope = otel.start_span("s").instrumentation_scope  # type: ignore[attr-defined]
    assert (scope.name, scope.version, scope.schema_url) == ("instrumentor", "1.2", "https://schema.example")
    assert dict(scope.attributes) == {"k": "v"}


def test_start_span_is_not_current(otel: otel_trace.Tracer, tracer: Tracer) -> None:
    span = otel.start_span("s")
    assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN
    span.end()
    assert only_span_of(tracer).name == "s"


def test_start_span_by_position(otel: otel_trace.Tracer, tracer: Tracer) -> None:
    parent = otel.start_span("parent")
    context = otel_trace.set_span_in_context(parent)
    link = otel_trace.Link(parent.get_span_context())
    otel.start_span("s", context, SpanKind.CLIENT, {"a": 1}, [link], 5, False, False).end(7)
    parent.end()
    span = by_name(spans_of(tracer))["s"]
    assert (span.kind, span.attributes["a"], span.start_ns, span.end_ns) == (3, 1, 5, 7)
    assert span.parent_id == span.links[0].span_id == by_name(spans_of(tracer))["parent"].span_id


def test_an_empty_context_makes_a_root(otel: otel_trace.Tracer, tracer: Tracer) -> None:
    with otel.start_as_current_span("outer"):
        otel.start_span("root", otel_context.Context()).end()
    assert by_name(spans_of(tracer))["root"].parent_id == ""


@pytest.mark.parametrize("kind", list(SpanKind))
def test_kinds(otel: otel_trace.Tracer, tracer: Tracer, kind: SpanKind) -> None:
    span = otel.start_span("s", kind=kind)
    assert span.kind is kind  # type: ignore[attr-defined]
    span.end()
    assert only_span_of(tracer).kind == kind.value + 1


def test_start_as_current_span(otel: otel_trace.Tracer, tracer: Tracer) -> None:
    with otel.start_as_current_span("outer", attributes={"a": 1}) as outer:
        assert otel_trace.get_current_span() is outer
        with otel.start_as_current_span("inner"):
            pass
    assert not outer.is_recording()
    assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN
    spans = by_name(spans_of(tracer))
    assert spans["inner"].parent_id == spans["outer"].span_id


def test_end_on_exit(otel: otel_trace.Tracer, tracer: Tracer) -> None:
    with otel.start_as_current_span("s", end_on_exit=False) as span:
        pass
    assert span.is_recording()
    span.end()
    assert only_span_of(tracer).name == "s"


def test_start_as_current_span_as_a_decorator(otel: otel_trace.Tracer, tracer: Tracer) -> None:
    @otel.start_as_current_span("s")
    def work(a: int) -> int:
        assert otel_trace.get_current_span().name == "s"  # type: ignore[attr-defined]
        return a

    assert [work(1), work(2)] == [1, 2]
    assert len({span.span_id for span in spans_of(tracer)}) == 2


def test_start_as_current_span_as_an_async_decorator(otel: otel_trace.Tracer, tracer: Tracer) -> None:
    @otel.start_as_current_span("s")
    async def work(a: int) -> int:
        await asyncio.sleep(0)
        assert otel_trace.get_current_span().name == "s"  # type: ignore[attr-defined]
        return a

    assert asyncio.run(work(1)) == 1
    span = only_span_of(tracer)
    assert span.name == "s"


def test_an_exception_in_a_decorated_function(otel: otel_trace.Tracer, tracer: Tracer) -> None:
    @otel.start_as_current_span("s")
    def work() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        work()
    span = only_span_of(tracer)
    assert (span.status, span.message, len(span.exceptions)) == (2, "ValueError: mine", 1)


@pytest.mark.parametrize(("record", "status"), [(True, False), (False, True), (False, False)])
def test_flags_of_start_as_current_span(otel: otel_trace.Tracer, tracer: Tracer, record: bool, status: bool) -> None:
    with (
        pytest.raises(ValueError, match="x"),
        otel.start_as_current_span("s", record_exception=record, set_status_on_exception=status),
    ):
        raise ValueError("x")
    span = only_span_of(tracer)
    assert (len(span.exceptions), span.status) == (int(record), 2 if status else 0)


def test_use_span_of_the_api_records_once(otel: otel_trace.Tracer, tracer: Tracer) -> None:
    span = otel.start_span("s")
    with pytest.raises(ValueError, match="x"), otel_trace.use_span(span, end_on_exit=True):
        raise ValueError("x")
    recorded = only_span_of(tracer)
    assert (recorded.status, recorded.message, len(recorded.exceptions)) == (2, "ValueError: x", 1)


def test_a_span_as_context_manager(otel: otel_trace.Tracer, tracer: Tracer) -> None:
    with pytest.raises(ValueError, match="x"), otel.start_span("s") as span:
        assert otel_trace.get_current_span() is not span
        raise ValueError("x")
    assert (only_span_of(tracer).status, len(only_span_of(tracer).exceptions)) == (2, 1)


def test_openinference_calls_the_class_with_a_proxy(otel: otel_trace.Tracer, tracer: Tracer) -> None:
    class Proxy(wrapt.ObjectProxy):  # type: ignore[misc, name-defined]
        def start_span(self, name: str, **more: Any) -> Any:
            return wrapt.ObjectProxy(self.__wrapped__.__class__.start_span(self, name, **more))

    proxy = Proxy(otel)
    span = proxy.start_span("proxied", kind=SpanKind.CLIENT, attributes=None)
    with otel_trace.use_span(span, end_on_exit=True):
        assert otel_trace.get_current_span() is span
        assert tracer.enrich_span(metadata={"through": "proxy"})
        with otel.start_as_current_span("child"):
            pass
    spans = by_name(spans_of(tracer))
    assert spans["child"].parent_id == spans["proxied"].span_id
    assert spans["proxied"].under("metadata") == {"through": "proxy"}


def test_openinferences_own_tracer(tracer: Tracer) -> None:
    from openinference.instrumentation import OITracer, TraceConfig, using_session

    oi = OITracer(tracer.provider.get_tracer("oi"), config=TraceConfig())
    with using_session("theirs"), oi.start_as_current_span("llm", openinference_span_kind="llm") as span:
        span.set_output("answer")

    @oi.tool
    def add(a: int, b: int) -> int:
        return a + b

    assert add(1, 2) == 3
    spans = by_name(spans_of(tracer))
    assert spans["llm"].attributes["honeyhive_event_type"] == "model"
    assert spans["llm"].attributes["session.id"] == "theirs"
    assert spans["llm"].attributes["honeyhive.session_id"] == "own"
    assert spans["add"].attributes["honeyhive_event_type"] == "tool"


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"gen_ai.operation.name": "chat"}, "model"),
        ({"gen_ai.operation.name": "invoke_agent"}, "chain"),
        ({"gen_ai.operation.name": "execute_tool"}, "tool"),
        ({"openinference.span.kind": "LLM"}, "model"),
        ({"openinference.span.kind": "AGENT"}, "chain"),
        ({"openinference.span.kind": "RETRIEVER"}, "tool"),
        ({"gen_ai.operation.name": "chat", "openinference.span.kind": "TOOL"}, "model"),
        ({"gen_ai.operation.name": "chat", "honeyhive_event_type": "chain"}, "chain"),
        ({}, "tool"),
    ],
)
def test_the_event_type_is_decided_at_the_end(
    otel: otel_trace.Tracer, tracer: Tracer, attributes: dict[str, str], expected: str
) -> None:
    span = otel.start_span("openai.chat")
    span.set_attributes(attributes)
    span.end()
    assert only_span_of(tracer).attributes["honeyhive_event_type"] == expected


class Recorder(SpanProcessor):
    def __init__(self) -> None:
        self.started: list[Any] = []
        self.ended: list[Any] = []
        self.contexts: list[Any] = []
        self.shut = 0

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.started.append((span.name, dict(span.attributes), span.is_recording()))
        self.contexts.append(parent_context)
        span.set_attribute("by processor", 1)

    def on_end(self, span: Any) -> None:
        self.ended.append((span.name, dict(span.attributes), span.end_time))
        span._attributes["mutated"] = 2

    def shutdown(self) -> None:
        self.shut += 1


def test_processors_read_and_change_spans(otel: otel_trace.Tracer, tracer: Tracer) -> None:
    recorder = Recorder()
    tracer.provider.add_span_processor(recorder)
    assert recorder in tracer.provider._active_span_processor._span_processors
    with otel.start_as_current_span("s", attributes={"a": 1}):
        pass
    ((name, at_start, recording),) = recorder.started
    assert (name, recording) == ("s", True)
    assert at_start["a"] == 1
    assert at_start["honeyhive.session_id"] == "own"
    assert recorder.contexts == [otel_context.Context()]
    ((name, at_end, end_time),) = recorder.ended
    assert at_end["by processor"] == 1
    assert isinstance(end_time, int)
    recorded = only_span_of(tracer)
    assert recorded.attributes["by processor"] == 1
    assert recorded.attributes["mutated"] == 2
    tracer.shutdown(1_000)
    assert recorder.shut == 1


def test_several_processors_in_order_of_addition(otel: otel_trace.Tracer, tracer: Tracer) -> None:
    order: list[str] = []

    class Named(SpanProcessor):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_end(self, span: Any) -> None:
            order.append(self.name)

    for name in "abc":
        tracer.provider.add_span_processor(Named(name))
    otel.start_span("s").end()
    assert order == ["a", "b", "c"]


def test_processors_are_not_called_for_spans_that_are_not_recorded(make_tracer: Make) -> None:
    tracer = make_tracer(sampler="always_off")
    recorder = Recorder()
    tracer.provider.add_span_processor(recorder)
    with tracer.start_span("s"):
        pass
    assert (recorder.started, recorder.ended) == ([], [])


def test_a_processor_that_starts_spans_itself(otel: otel_trace.Tracer, tracer: Tracer) -> None:
    class Nested(SpanProcessor):
        def on_end(self, span: Any) -> None:
            if span.name == "s":
                otel.start_span("from processor").end()

    tracer.provider.add_span_processor(Nested())
    otel.start_span("s").end()
    assert {span.name for span in spans_of(tracer)} == {"s", "from processor"}


def test_the_sdks_exporters_take_our_spans(otel: otel_trace.Tracer, tracer: Tracer) -> None:
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    tracer.provider.add_span_processor(SimpleSpanProcessor(exporter))
    with otel.start_as_current_span("s", attributes={"a": 1}):
        pass
    (span,) = exporter.get_finished_spans()
    assert span.name == "s"
    assert span.attributes["a"] == 1


def test_what_else_of_the_provider_is_read(tracer: Tracer) -> None:
    provider = tracer.provider
    assert provider.resource.attributes["service.name"]
    assert provider.force_flush(100) is True
    assert provider.force_flush(timeout_millis=100) is True
    assert provider.force_flush() is True
    assert hasattr(provider, "sampler")
    assert hasattr(provider, "id_generator")


def test_as_the_global_provider(make_tracer: Make) -> None:
    early = otel_trace.get_tracer("early")
    tracer = make_tracer(set_global=True)
    assert otel_trace.get_tracer_provider() is tracer.provider
    with early.start_as_current_span("from a proxy"):
        pass
    assert only_span_of(tracer).name == "from a proxy"


def test_it_is_not_global_unless_asked_for(tracer: Tracer) -> None:
    assert otel_trace.get_tracer_provider() is not tracer.provider


def test_many_threads_get_tracers_and_add_processors(tracer: Tracer) -> None:
    recorder = Recorder()

    def work(number: int) -> None:
        for _ in range(20):
            tracer.provider.get_tracer(f"library {number % 3}").start_span("s").end()
        if number == 5:
            tracer.provider.add_span_processor(recorder)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(spans_of(tracer)) == 200
    assert len({span.span_id for span in spans_of(tracer)}) == 200


def test_status_code_is_readable(otel: otel_trace.Tracer) -> None:
    span = otel.start_span("s")
    assert span.status.status_code is StatusCode.UNSET  # type: ignore[attr-defined]


def test_a_kind_of_another_type_is_named(tracer: Tracer) -> None:
    with pytest.raises(TypeError, match="kind"):
        tracer.provider.get_tracer("i").start_span("s", kind=7)  # type: ignore[arg-type]
