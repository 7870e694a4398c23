"""`TracebatonPropagator`: OpenTelemetry's interface over the same codecs, for every instrumentor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import baggage, propagate
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import Getter, Setter, TextMapPropagator
from opentelemetry.sdk.trace import TracerProvider as SdkProvider
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from programs import OPENTELEMETRY, output, run
from recorded import only_span_of, spans_of
from tracebaton import TracebatonPropagator, Tracer, inject_context_into_carrier, with_distributed_trace_context

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OURS = "session_id=own,project=shop,source=dev"
Make = Callable[..., Tracer]


def test_it_is_a_propagator() -> None:
    propagator = TracebatonPropagator()
    assert isinstance(propagator, TextMapPropagator)
    assert propagator.fields == {"traceparent", "tracestate", "baggage"}
    with pytest.raises(TypeError, match="tracer"):
        TracebatonPropagator(5)  # type: ignore[arg-type]


def test_init_installs_it_where_nobody_chose(make_tracer: Make) -> None:
    assert not isinstance(propagate.get_global_textmap(), TracebatonPropagator)
    make_tracer()
    installed = propagate.get_global_textmap()
    assert isinstance(installed, TracebatonPropagator)
    make_tracer()
    assert propagate.get_global_textmap() is installed
    headers: dict[str, str] = {}
    propagate.inject(headers)
    assert headers == {"baggage": OURS}


@pytest.mark.parametrize(
    "chosen",
    [
        CompositePropagator([]),
        CompositePropagator([TraceContextTextMapPropagator()]),
        CompositePropagator([W3CBaggagePropagator(), TraceContextTextMapPropagator()]),
        TraceContextTextMapPropagator(),
    ],
    ids=["none", "one", "another order", "not composite"],
)
def test_init_leaves_what_was_chosen(make_tracer: Make, chosen: TextMapPropagator) -> None:
    propagate.set_global_textmap(chosen)
    make_tracer()
    assert propagate.get_global_textmap() is chosen


def test_what_is_set_later_stays(make_tracer: Make) -> None:
    make_tracer()
    chosen = TraceContextTextMapPropagator()
    propagate.set_global_textmap(chosen)
    make_tracer()
    assert propagate.get_global_textmap() is chosen


KIND = "from opentelemetry import propagate\nprint(type(propagate.get_global_textmap()).__name__"


@pytest.mark.parametrize("value", ["tracecontext", "tracecontext,baggage", "none", "b3multi"])
def test_the_environment_is_a_choice(value: str) -> None:
    code = """
import sys, opentelemetry
try:
    from opentelemetry import propagate
except Exception:
    print("no such propagator"); sys.exit()
before = propagate.get_global_textmap()
import tracebaton
tracebaton.Tracer.init(exporter="none")
print(propagate.get_global_textmap() is before)
"""
    # b3multi is not installed here, and OpenTelemetry knows "none" from 1.33 on: it complains itself, on stderr.
    if value == "b3multi" or (value == "none" and OPENTELEMETRY < (1, 33)):
        assert run(code, {"OTEL_PROPAGATORS": value}).stdout.strip() in ("no such propagator", "True")
    else:
        assert output(code, {"OTEL_PROPAGATORS": value}) == "True"


def test_by_its_name_without_any_tracer() -> None:
    """An application that stays on OpenTelemetry's SDK."""
    code = f"""
from opentelemetry import context, propagate
inner = getattr(propagate.get_global_textmap(), "_propagators")
print([type(one).__name__ for one in inner])
received = {{"Traceparent": {CALLER!r}, "TRACESTATE": "9k=v ,a=1", "baggage": "session_id=s;p,a=%41,b = c"}}
token = context.attach(propagate.extract(received))
sent = {{}}
propagate.inject(sent)
print(sent)
"""
    first, second = output(code, {"OTEL_PROPAGATORS": "tracebaton"}).splitlines()
    assert first == "['TracebatonPropagator']"
    assert eval(second) == {
        "traceparent": CALLER,
        "tracestate": "9k=v ,a=1",
        "baggage": "session_id=s;p,a=%41,b = c",
    }


def test_with_the_sdks_spans_and_no_tracer() -> None:
    propagator = TracebatonPropagator()
    context = propagator.extract({"traceparent": CALLER, "tracestate": "9k=v", "baggage": "session_id=s;p"})
    with SdkProvider().get_tracer("sdk").start_as_current_span("served", context=context) as span:
        sent: dict[str, str] = {}
        # The SDK makes the span's context of the parent's: only the current context has the baggage.
        propagator.inject(sent, otel_trace.set_span_in_context(span, context))
    assert sent["traceparent"].startswith(CALLER[:36])
    assert f"{span.get_span_context().span_id:016x}" in sent["traceparent"]
    assert sent["tracestate"] == "9k=v"
    assert sent["baggage"] == "session_id=s;p"


def test_for_the_tracer_that_is_given(make_tracer: Make) -> None:
    make_tracer(session_id="first")
    second = make_tracer(session_id="second")
    sent: dict[str, str] = {}
    TracebatonPropagator(second).inject(sent)
    assert sent["baggage"].startswith("session_id=second,")
    TracebatonPropagator(tracer=second).inject(sent)


def test_for_the_tracer_of_the_contexts_span(make_tracer: Make) -> None:
    make_tracer(session_id="first")
    second = make_tracer(session_id="second")
    span = second.provider.get_tracer("i").start_span("s")
    sent: dict[str, str] = {}
    TracebatonPropagator().inject(sent, otel_trace.set_span_in_context(span, Context()))
    assert sent["baggage"].startswith("session_id=second,")
    assert f"{span.get_span_context().span_id:016x}" in sent["traceparent"]


def test_the_given_context_counts_and_not_the_current_one(tracer: Tracer) -> None:
    sent: dict[str, str] = {}
    with tracer.start_span("current"):
        TracebatonPropagator().inject(sent, Context())
        context = TracebatonPropagator().extract({"baggage": "a=1"}, Context({"mine": 1}))
    assert "traceparent" not in sent
    assert context["mine"] == 1
    assert otel_trace.get_current_span(context) is otel_trace.INVALID_SPAN


def test_a_span_keeps_the_session_it_began_in(tracer: Tracer) -> None:
    """A context made by hand of a span alone, as some instrumentors do."""
    with with_distributed_trace_context({"baggage": "session_id=theirs,k=v"}):
        span = tracer.provider.get_tracer("i").start_span("s")
    sent: dict[str, str] = {}
    TracebatonPropagator().inject(sent, otel_trace.set_span_in_context(span, Context()))
    assert sent["baggage"].startswith("session_id=theirs,")
    child = tracer.provider.get_tracer("i").start_span("child", otel_trace.set_span_in_context(span, Context()))
    child.end()
    assert only_span_of(tracer).session == "theirs"


class ListGetter(Getter[list[tuple[str, str]]]):
    def get(self, carrier: list[tuple[str, str]], key: str) -> list[str] | None:
        return [value for name, value in carrier if name == key] or None

    def keys(self, carrier: list[tuple[str, str]]) -> list[str]:
        return [name for name, _ in carrier]


class ListSetter(Setter[list[tuple[str, str]]]):
    def set(self, carrier: list[tuple[str, str]], key: str, value: str) -> None:
        carrier.append((key, value))


def test_a_getter_and_a_setter_of_ones_own(tracer: Tracer) -> None:
    received = [("traceparent", CALLER), ("baggage", "a=1"), ("baggage", "b=2;p"), ("session", "x")]
    context = TracebatonPropagator().extract(received, getter=ListGetter())
    assert baggage.get_all(context) == {"a": "1", "b": "2"}
    sent: list[tuple[str, str]] = []
    TracebatonPropagator().inject(sent, context, setter=ListSetter())
    assert dict(sent) == {"traceparent": CALLER, "baggage": f"{OURS},a=1,b=2;p"}
    assert len(sent) == 2


@pytest.mark.parametrize("found", [None, [], 5, "text", [None], [5], object()], ids=repr)
def test_a_getter_that_gives_junk(tracer: Tracer, found: Any) -> None:
    class Odd(ListGetter):
        def get(self, carrier: Any, key: str) -> Any:
            return found

    TracebatonPropagator().extract([], getter=Odd())


def test_getters_and_setters_that_raise(tracer: Tracer) -> None:
    class Raising(ListGetter):
        def get(self, carrier: Any, key: str) -> Any:
            raise ValueError(key)

    class RaisingSetter(ListSetter):
        def set(self, carrier: Any, key: str, value: str) -> None:
            raise ValueError(key)

    assert TracebatonPropagator().extract([], Context(), getter=Raising()) == {}
    TracebatonPropagator().inject([], setter=RaisingSetter())


CLIENT = [
    ({"url.full": "https://api.openai.com/v1/chat"}, False),
    ({"http.url": "https://api.openai.com/v1/chat"}, False),
    ({"server.address": "api.openai.com"}, False),
    ({"url.full": "http://10.0.0.5:8000/agent"}, True),
    ({"url.full": "http://agent-server/chat"}, True),
    ({"server.address": "agent.internal", "server.port": 80}, True),
    ({"url.full": "https://partner.example.com/"}, True),
    ({}, True),
]


@pytest.mark.parametrize(("attributes", "with_baggage"), CLIENT)
@pytest.mark.parametrize("whose", ["ours", "the SDK's"])
def test_the_destination_is_the_client_spans(
    make_tracer: Make, whose: str, attributes: dict[str, Any], with_baggage: bool
) -> None:
    tracer = make_tracer(policy={"propagate_to": ["partner.example.com"]})
    provider = tracer.provider if whose == "ours" else SdkProvider()
    sent: dict[str, str] = {}
    with provider.get_tracer("client").start_as_current_span("GET", kind=SpanKind.CLIENT, attributes=attributes):
        propagate.inject(sent)
    assert "traceparent" in sent
    assert ("baggage" in sent) is with_baggage


def test_an_explicit_inject_without_a_url_has_no_destination(tracer: Tracer) -> None:
    attributes = {"url.full": "https://api.openai.com/v1/chat"}
    with tracer.start_span("GET", kind=SpanKind.CLIENT, attributes=attributes):
        assert inject_context_into_carrier({})["baggage"] == OURS


def test_the_url_of_a_server_span_is_no_destination(tracer: Tracer) -> None:
    sent: dict[str, str] = {}
    with tracer.start_span("serve", kind=SpanKind.SERVER, attributes={"url.full": "https://shop.example.com/"}):
        propagate.inject(sent)
    assert sent["baggage"] == OURS


def test_five_hops_are_byte_identical(make_tracer: Make) -> None:
    foreign = "userId=Am%C3%A9lie+x%2520y;prop=1;q, serverNode = DF%2028 ,isProduction=false,k=a=b"
    headers = {
        "traceparent": CALLER,
        "tracestate": "congo=ucfJifl5GOE , rojo=00f067aa0ba902b7,9a/b@c=x y",
        "baggage": f"session_id=order%2017,{foreign}",
    }
    sent: list[dict[str, str]] = []
    for number in range(5):
        tracer = make_tracer(source=f"service-{number}", session_id=f"own-{number}", project=None)
        with with_distributed_trace_context(headers, tracer), tracer.start_span("hop"):
            headers = inject_context_into_carrier({}, tracer)
        sent.append(headers)
        assert only_span_of(tracer).session == "order 17"
        assert only_span_of(tracer).source == f"service-{number}"
    assert {hop["tracestate"] for hop in sent} == {"congo=ucfJifl5GOE , rojo=00f067aa0ba902b7,9a/b@c=x y"}
    tails = {hop["baggage"].split(",", 2)[2].strip() for hop in sent}
    assert tails == {foreign}
    assert len({hop["traceparent"] for hop in sent}) == 5


def test_hops_through_the_propagator_and_the_sdk_in_turns(make_tracer: Make) -> None:
    headers = {"traceparent": CALLER, "tracestate": "9k=v", "baggage": "session_id=s,a=%41;p,b = c"}
    tracer = make_tracer(project=None)
    for number in range(6):
        provider = tracer.provider if number % 2 else SdkProvider()
        token = otel_context.attach(propagate.extract(headers))
        headers = {}
        with provider.get_tracer("hop").start_as_current_span("hop"):
            propagate.inject(headers)
        otel_context.detach(token)
        assert headers["tracestate"] == "9k=v"
        assert headers["baggage"].startswith("session_id=s,source=dev,")
        assert headers["baggage"].endswith("a=%41;p,b = c")
        assert headers["traceparent"].startswith(CALLER[:36])
    assert len(spans_of(tracer)) == 3


def test_baggage_that_the_application_changes(tracer: Tracer) -> None:
    context = TracebatonPropagator().extract({"baggage": "a=%41;p,b=%42;q,c=%43"})
    context = baggage.set_baggage("a", "changed", context)
    context = baggage.remove_baggage("b", context)
    context = baggage.set_baggage("new", "x y", context)
    sent: dict[str, str] = {}
    TracebatonPropagator().inject(sent, context)
    members = sent["baggage"].removeprefix(OURS + ",").split(",")
    # Theirs wins where it was changed; what was not touched keeps its bytes.
    assert sorted(members) == ["a=changed", "c=%43", "new=x%20y"]


def test_baggage_that_is_cleared(tracer: Tracer) -> None:
    context = baggage.clear(TracebatonPropagator().extract({"baggage": "a=1,session_id=theirs"}))
    sent: dict[str, str] = {}
    TracebatonPropagator().inject(sent, context)
    assert "a=1" not in sent["baggage"]


def test_a_name_that_is_no_token_is_left_out(tracer: Tracer) -> None:
    context = baggage.set_baggage("good", "1", baggage.set_baggage("bad name\r\nX-Evil: 1", "x", Context()))
    context = baggage.set_baggage("num", 5, context)
    sent: dict[str, str] = {}
    TracebatonPropagator().inject(sent, context)
    assert sent["baggage"] == f"{OURS},good=1,num=5" or sent["baggage"] == f"{OURS},num=5,good=1"


def test_extraction_adds_to_baggage_that_is_there(tracer: Tracer) -> None:
    context = TracebatonPropagator().extract({"baggage": "a=2,b=3"}, baggage.set_baggage("mine", "1", Context()))
    assert baggage.get_all(context) == {"mine": "1", "a": "2", "b": "3"}


@pytest.mark.parametrize("headers", [{}, {"traceparent": "bad"}, {"baggage": ""}], ids=["none", "bad", "empty"])
def test_nothing_in_means_nothing_new(headers: dict[str, str]) -> None:
    """Rule TP18: no new value is stored where nothing could be read."""
    base = Context({"mine": 1})
    assert TracebatonPropagator().extract(headers, base) == base


def test_in_a_composite_with_others(tracer: Tracer) -> None:
    composite = CompositePropagator([TracebatonPropagator(), TraceContextTextMapPropagator(), W3CBaggagePropagator()])
    context = composite.extract({"traceparent": CALLER, "baggage": "session_id=theirs,a=1"})
    assert otel_trace.get_current_span(context).get_span_context().is_remote
    sent: dict[str, str] = {}
    composite.inject(sent, context)
    assert sent["traceparent"] == CALLER


class CaseGetter(Getter[dict[str, str]]):
    def get(self, carrier: dict[str, str], key: str) -> list[str] | None:
        return [carrier[key]] if key in carrier else None

    def keys(self, carrier: dict[str, str]) -> list[str]:
        return list(carrier)


@pytest.mark.parametrize("inbound", ["continue", "restart", "ignore"])
@pytest.mark.parametrize("getter", [None, CaseGetter()], ids=["default getter", "another"])
def test_the_policy_of_the_tracer_that_is_meant(make_tracer: Make, inbound: str, getter: Any) -> None:
    tracer = make_tracer(policy={"inbound": inbound})
    arguments = {} if getter is None else {"getter": getter}
    context = propagate.extract({"traceparent": CALLER, "baggage": "session_id=theirs"}, **arguments)
    span = tracer.provider.get_tracer("i").start_span("served", context)
    span.end()
    recorded = only_span_of(tracer)
    assert (recorded.trace_id == CALLER[3:35]) is (inbound == "continue")
    assert len(recorded.links) == (1 if inbound == "restart" else 0)
    assert recorded.session == ("own" if inbound == "ignore" else "theirs")
