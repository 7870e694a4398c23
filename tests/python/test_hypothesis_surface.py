"""Whatever goes in, user code runs once, its result or exception comes out, and nothing stays current behind it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import context as otel_context
from recorded import spans_of
from tracebaton import (
    Policy,
    TracebatonPropagator,
    Tracer,
    enrich_session,
    enrich_span,
    enrich_span_context,
    explain,
    extract_context_from_carrier,
    inject_context_into_carrier,
    logs,
    trace,
    with_distributed_trace_context,
)
from tracebaton.middleware import AsgiMiddleware, WsgiMiddleware
from tracebaton.serverless import lambda_handler

SETTINGS = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


class Hostile:
    """Raises wherever one looks at it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def _fail(self, *_: Any) -> Any:
        raise RuntimeError("looked at")

    __str__ = __repr__ = __iter__ = __len__ = __bool__ = __eq__ = __getitem__ = __hash__ = _fail  # type: ignore[assignment]


def cyclic() -> Any:
    loop: list[Any] = []
    loop.append({"again": loop})
    return loop


def deep() -> Any:
    value: Any = 1
    for _ in range(2_000):
        value = [value]
    return value


# Texts with every code point, lone surrogates too.
TEXTS = st.one_of(
    st.text(max_size=40), st.text(st.characters(), max_size=20), st.sampled_from(["\ud800", "\0", "x" * 70_000])
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    TEXTS,
    st.binary(max_size=40),
    st.complex_numbers(),
    st.dates(),
)
ODD = st.sampled_from([Hostile, cyclic, deep, object, lambda: Hostile, lambda: iter([1]), lambda: {Hostile: 1}])
VALUES = st.recursive(
    st.one_of(SCALARS, ODD.map(lambda make: make())),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(TEXTS, st.integers(), st.binary(max_size=4)), inner, max_size=4),
    ),
    max_leaves=8,
)
NAMES = st.one_of(
    st.sampled_from(["traceparent", "Traceparent", "TRACESTATE", "baggage", "HTTP_BAGGAGE", "host"]), TEXTS, SCALARS
)
HEADERS = st.one_of(
    st.sampled_from(["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "session_id=theirs,project=p,k=v;p=1"]),
    st.text(alphabet="0123456789abcdef-=,;% \t", max_size=80),
    VALUES,
)
CARRIERS = st.one_of(
    st.dictionaries(st.one_of(st.sampled_from(["traceparent", "Baggage", "tracestate"]), TEXTS), HEADERS, max_size=5),
    st.lists(st.tuples(NAMES, HEADERS), max_size=5),
    st.lists(st.lists(HEADERS, max_size=3), max_size=3),
    VALUES,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("inputs", "outputs", "metadata", "metrics", "feedback", "config", "user_properties", "attributes"), VALUES
    ),
)


class Once:
    """User code that counts its runs."""

    def __init__(self, outcome: Any, fails: bool) -> None:
        self.runs = 0
        self.outcome = outcome
        # asyncio itself cannot show a task that ended with a hostile text.
        self.error = ValueError("no") if fails else None

    def run(self) -> Any:
        self.runs += 1
        if self.error is not None:
            raise self.error
        return self.outcome


def check(once: Once, call: Callable[[], Any]) -> None:
    """The call has run it once, and hands on what came of it."""
    if once.error is None:
        assert call() is once.outcome
    else:
        with pytest.raises(ValueError) as raised:
            call()
        assert raised.value is once.error
    assert once.runs == 1
    assert dict(otel_context.get_current()) == {}


@pytest.fixture
def recording(tracer: Tracer, caplog: pytest.LogCaptureFixture) -> Tracer:
    caplog.set_level(logging.CRITICAL)
    return tracer


@SETTINGS
@given(
    values=st.lists(VALUES, max_size=3),
    named=st.dictionaries(st.text("abc", min_size=1), VALUES, max_size=3),
    outcome=VALUES,
    fails=st.booleans(),
)
def test_a_traced_function(
    recording: Tracer, values: list[Any], named: dict[str, Any], outcome: Any, fails: bool
) -> None:
    once = Once(outcome, fails)
    seen: list[Any] = []

    @trace(tracer=recording)
    def function(*args: Any, **kwargs: Any) -> Any:
        seen.append((args, kwargs))
        return once.run()

    before = len(spans_of(recording))
    check(once, lambda: function(*values, **named))
    ((args, kwargs),) = seen
    assert [id(value) for value in args] == [id(value) for value in values]
    assert {name: id(value) for name, value in kwargs.items()} == {name: id(value) for name, value in named.items()}
    assert len(spans_of(recording)) == before + 1


@SETTINGS
@given(value=VALUES, outcome=VALUES, fails=st.booleans())
def test_a_traced_coroutine_and_generators(recording: Tracer, value: Any, outcome: Any, fails: bool) -> None:
    async def coroutine(once: Once, value: Any) -> Any:
        await asyncio.sleep(0)
        return once.run()

    def generator(once: Once, value: Any) -> Iterator[Any]:
        yield value
        return once.run()

    async def async_generator(once: Once, value: Any) -> AsyncIterator[Any]:
        yield value
        yield once.run()

    async def last(items: AsyncIterator[Any]) -> Any:
        found = [item async for item in items]
        assert found[0] is value
        return found[1]

    def drive(items: Any) -> Any:
        assert next(items) is value
        try:
            next(items)
        except StopIteration as stop:
            return stop.value

    traced = trace(tracer=recording)
    once = Once(outcome, fails)
    check(once, lambda: asyncio.run(traced(coroutine)(once, value)))
    once = Once(outcome, fails)
    check(once, lambda: drive(traced(generator)(once, value)))
    once = Once(outcome, fails)
    check(once, lambda: asyncio.run(last(traced(async_generator)(once, value))))


@SETTINGS
@given(name=TEXTS, fields=FIELDS, outcome=VALUES, fails=st.booleans())
def test_a_block(recording: Tracer, name: str, fields: dict[str, Any], outcome: Any, fails: bool) -> None:
    once = Once(outcome, fails)

    def call() -> Any:
        with enrich_span_context(name, tracer=recording, **fields) as span:
            span.set_attributes({"k": outcome})
            enrich_span(**fields)
            recording.enrich_span(**fields)
            span.add_event(name, {name: outcome})
            return once.run()

    check(once, call)


@SETTINGS
@given(
    carrier=CARRIERS,
    outcome=VALUES,
    fails=st.booleans(),
    policy=st.sampled_from([None, {"inbound": "restart"}, Policy(inbound="ignore")]),
)
def test_a_carrier(recording: Tracer, carrier: Any, outcome: Any, fails: bool, policy: Any) -> None:
    once = Once(outcome, fails)

    def call() -> Any:
        with with_distributed_trace_context(carrier, recording, policy=policy), recording.start_span("work"):
            extract_context_from_carrier(carrier, recording)
            TracebatonPropagator().extract(carrier)
            assert isinstance(explain(carrier), list)
            headers = inject_context_into_carrier({}, recording)
            assert all(text.isascii() and text.isprintable() for text in headers.values())
            assert inject_context_into_carrier(carrier, recording) is carrier
            with contextlib.suppress(Exception):
                # OpenTelemetry's default setter writes as a dict is written to.
                TracebatonPropagator().inject(carrier)
            return once.run()

    check(once, call)


@SETTINGS
@given(url=TEXTS)
def test_a_url(recording: Tracer, url: str) -> None:
    headers = inject_context_into_carrier({}, recording, url=url)
    assert headers.keys() <= {"traceparent", "tracestate", "baggage"}


SESSION_IDS = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=256))
MAPPINGS = st.one_of(st.none(), st.dictionaries(TEXTS, VALUES, max_size=3))


@SETTINGS
@given(
    session_id=SESSION_IDS, name=SESSION_IDS, inputs=MAPPINGS, metadata=MAPPINGS, outcome=VALUES, fails=st.booleans()
)
def test_a_session(
    recording: Tracer, session_id: Any, name: Any, inputs: Any, metadata: Any, outcome: Any, fails: bool
) -> None:
    once = Once(outcome, fails)

    def call() -> Any:
        with recording.with_session(name, session_id, inputs, metadata) as created:
            assert created == session_id or not session_id
            with recording.start_span("work") as span:
                assert span.attributes["honeyhive.session_id"] == created
            recording.enrich_session(metadata, inputs=inputs)
            enrich_session(metadata=metadata, outputs=outcome)
            recording.create_session(name, session_id, inputs, metadata)
            recording.create_event("event", inputs=inputs, outputs=outcome)
            assert logs.ids(recording)["session_id"]
            return once.run()

    check(once, call)


@SETTINGS
@given(
    environ=st.dictionaries(TEXTS, VALUES, max_size=4),
    header=HEADERS,
    parts=st.lists(st.binary(), max_size=3),
    fails=st.booleans(),
)
def test_a_wsgi_request(
    recording: Tracer, environ: dict[str, Any], header: Any, parts: list[bytes], fails: bool
) -> None:
    once = Once(parts, fails)
    environ = {"REQUEST_METHOD": "GET", **environ, "HTTP_TRACEPARENT": header, "HTTP_HOST": header}

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield from once.run()

    def call() -> Any:
        body = WsgiMiddleware(app, recording)(environ, lambda *_: None)
        try:
            assert list(body) == parts
        finally:
            body.close()  # type: ignore[attr-defined]
        return parts

    check(once, call)


@SETTINGS
@given(
    scope=st.dictionaries(st.sampled_from(["method", "path", "headers", "server", "client", "route"]), VALUES),
    fails=st.booleans(),
    status=VALUES,
)
def test_an_asgi_request(recording: Tracer, scope: dict[str, Any], fails: bool, status: Any) -> None:
    once = Once(None, fails)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status})
        once.run()

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    check(once, lambda: asyncio.run(AsgiMiddleware(app, recording)({**scope, "type": "http"}, None, send)))  # type: ignore[arg-type]
    assert sent[0]["status"] is status


@SETTINGS
@given(
    event=st.one_of(
        VALUES,
        st.dictionaries(st.sampled_from(["headers", "multiValueHeaders", "requestContext", "httpMethod"]), VALUES),
        st.sampled_from([{"headers": Hostile()}, {"requestContext": Hostile()}, {"httpMethod": Hostile()}]),
    ),
    name=VALUES,
    outcome=VALUES,
    fails=st.booleans(),
)
def test_an_invocation(recording: Tracer, event: Any, name: Any, outcome: Any, fails: bool) -> None:
    once = Once(outcome, fails)
    handler = lambda_handler(tracer=recording)(lambda event, context: once.run())
    context = SimpleNamespace(function_name=name, aws_request_id=name, get_remaining_time_in_millis=lambda: name)
    check(once, lambda: handler(event, context))
    once = Once({"statusCode": outcome}, fails)
    check(once, lambda: handler({}, Hostile()))


@SETTINGS
@given(value=VALUES)
def test_wrong_arguments_are_type_or_value_errors(recording: Tracer, value: Any) -> None:
    """Where an argument has a type, an error names the argument; nothing else is raised."""
    calls: list[tuple[str, Callable[[], Any]]] = [
        ("tracer", lambda: with_distributed_trace_context({}, value)),
        ("policy", lambda: with_distributed_trace_context({}, policy=value)),
        ("session_id", lambda: with_distributed_trace_context({}, session_id=value)),
        ("url", lambda: inject_context_into_carrier({}, url=value)),
        ("session_id", lambda: recording.with_session(session_id=value)),
        ("inputs", lambda: recording.with_session(inputs=value)),
        ("start_time", lambda: recording.create_event("e", start_time=value)),
        ("policy", lambda: WsgiMiddleware(print, policy=value)),  # type: ignore[arg-type]
        ("with_text", lambda: explain({}, with_text=value)),
    ]
    for name, call in calls:
        try:
            call()
        except (TypeError, ValueError) as error:
            assert name in str(error), (name, error)
