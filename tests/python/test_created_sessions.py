"""Sessions that a program makes itself, and what HoneyHive is told about them."""

from __future__ import annotations

import asyncio
import contextvars
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from collector import Answer, Collector, Request
from recorded import only_span_of, spans_of
from tracebaton import Tracer, enrich_session, inject_context_into_carrier, trace, with_distributed_trace_context

Make = Callable[..., Tracer]
START = "/session/start"
EVENTS = "/events"


def known_as(session_id: str) -> str:
    """The id that HoneyHive knows a session by."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, session_id))


def body(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request.body)
    return found


def work(tracer: Tracer, name: str = "work") -> None:
    with tracer.start_span(name):
        pass


def isolated(function: Callable[[], Any]) -> Any:
    """Runs what leaves a session current in a context of its own."""
    return contextvars.copy_context().run(function)


@pytest.fixture
def honeyhive(make_tracer: Make, collector: Collector) -> Make:
    """Makes tracers whose HoneyHive is the collector."""

    def make(**arguments: Any) -> Tracer:
        defaults = {"exporter": "honeyhive", "api_key": "k", "server_url": collector.url, "session_name": "n"}
        return make_tracer(**{**defaults, **arguments})

    return make


def test_what_comes_next_is_in_the_session(tracer: Tracer) -> None:
    def program() -> tuple[str, dict[str, str]]:
        session_id = tracer.create_session("chat")
        work(tracer)
        return session_id, inject_context_into_carrier({}, tracer)

    session_id, headers = isolated(program)
    assert str(uuid.UUID(session_id)) == session_id != tracer.session_id == "own"
    span = only_span_of(tracer)
    assert (span.session, span.attributes["session.id"]) == (session_id, session_id)
    assert span.attributes["honeyhive.session_name"] == "chat"
    assert headers["baggage"].startswith(f"session_id={session_id},")


def test_the_next_session_takes_its_place(tracer: Tracer) -> None:
    def program() -> None:
        for name in ("one", "two"):
            assert tracer.create_session(session_id=name) == name
            work(tracer)

    isolated(program)
    work(tracer)
    assert [span.session for span in spans_of(tracer)] == ["one", "two", "own"]


def test_the_end_of_the_block_around_it_undoes_it(tracer: Tracer) -> None:
    @trace(tracer=tracer)
    def traced() -> None:
        tracer.create_session(session_id="in a function")
        work(tracer, "inside")

    with tracer.start_span("block"):
        tracer.create_session(session_id="in a block")
        work(tracer, "inside")
        traced()
        work(tracer, "after")
    with with_distributed_trace_context({"baggage": "session_id=theirs"}, tracer):
        work(tracer, "callers")
        tracer.create_session(session_id="mine")
        work(tracer, "mine")
    work(tracer, "outside")
    sessions = [(span.name, span.session) for span in spans_of(tracer) if "traced" not in span.name]
    assert sessions == [
        ("inside", "in a block"),
        ("inside", "in a function"),
        ("after", "in a block"),
        ("block", "own"),
        ("callers", "theirs"),
        ("mine", "mine"),
        ("outside", "own"),
    ]


def test_with_session_undoes_it_whatever_happens(tracer: Tracer) -> None:
    with pytest.raises(ZeroDivisionError), tracer.with_session("chat", "inside") as session_id:
        assert session_id == "inside"
        work(tracer)
        tracer.create_session(session_id="left behind")
        raise ZeroDivisionError
    work(tracer)
    assert [span.session for span in spans_of(tracer)] == ["inside", "own"]


async def test_in_async_code(tracer: Tracer) -> None:
    async def request(number: int) -> None:
        assert await tracer.acreate_session(session_id=f"s{number}") == f"s{number}"
        await asyncio.sleep(0)
        with tracer.start_span(f"s{number}"):
            await asyncio.sleep(0)

    await asyncio.gather(*(request(number) for number in range(20)))
    async with tracer.with_session(session_id="block"):
        work(tracer, "block")
    work(tracer, "own")
    assert all(span.session == span.name for span in spans_of(tracer))


def test_a_session_that_is_none_is_refused_before_anything_changes(tracer: Tracer) -> None:
    for make in (tracer.create_session, tracer.with_session):
        with pytest.raises(ValueError, match="session_id"):
            make(session_id="x" * 257)
        with pytest.raises(ValueError, match="session_id"):
            make(session_id="\ud800")
        for name, value, wanted in (
            ("session_id", 5, "a str, not int"),
            ("session_name", b"n", "a str, not bytes"),
            ("source", 5, "a str, not int"),
            ("inputs", "text", "a mapping, not str"),
            ("metadata", [], "a mapping, not list"),
            ("user_properties", 1, "a mapping, not int"),
            ("skip_api_call", "yes", "a bool, not str"),
        ):
            with pytest.raises(TypeError, match=f"{name} must be {wanted}"):
                make(**{name: value})  # type: ignore[arg-type]
    work(tracer)
    assert only_span_of(tracer).session == "own"


def test_an_empty_id_is_none(tracer: Tracer) -> None:
    with tracer.with_session(session_id="") as session_id:
        assert uuid.UUID(session_id)


def test_sessions_of_one_tracer_are_nothing_to_another(make_tracer: Make) -> None:
    one, other = make_tracer(session_id="one"), make_tracer(session_id="other")
    with one.with_session(session_id="created"):
        work(one)
        work(other)
    assert (only_span_of(one).session, only_span_of(other).session) == ("created", "other")


def test_honeyhive_is_told_in_the_background(collector: Collector, honeyhive: Make) -> None:
    tracer = honeyhive(source="service")
    with tracer.with_session(
        *("chat", "created", {"q": "?", "password": "p"}),
        metadata={"m": 1},
        user_properties={"plan": "free"},
        source="web",
    ):
        work(tracer)
        assert tracer.enrich_session(outputs={"status_code": 200})
    assert tracer.shutdown(10_000)
    (start,), (enrichment,) = collector.requests_to(START), collector.requests_to(EVENTS)
    assert body(start)["session"] == {
        "session_id": known_as("created"),
        "session_name": "chat",
        "source": "web",
        "project": "shop",
        "inputs": {"q": "?", "password": "[redacted]"},
        "metadata": {"m": 1},
        "user_properties": {"plan": "free"},
    }
    assert body(enrichment) == {"event_id": known_as("created"), "outputs": {"status_code": 200}}
    (span,) = collector.spans
    assert (span.session, span.source) == (known_as("created"), "service")
    assert span.attributes["honeyhive.session_name"] == "chat"


def test_a_session_that_goes_on_is_enriched(collector: Collector, honeyhive: Make) -> None:
    tracer = honeyhive()
    for turn in (1, 2):
        with tracer.with_session(session_id="chat", inputs={"turn": turn}):
            work(tracer)
    assert tracer.shutdown(10_000)
    (start,), (enrichment,) = collector.requests_to(START), collector.requests_to(EVENTS)
    assert body(start)["session"]["inputs"] == {"turn": 1}
    assert body(enrichment) == {"event_id": known_as("chat"), "metadata": {"inputs": {"turn": 2}}}


@pytest.mark.parametrize("tracer_too", [True, False])
def test_somebody_else_registers_it(collector: Collector, honeyhive: Make, tracer_too: bool) -> None:
    tracer = honeyhive(skip_backend_session_creation=tracer_too)
    with tracer.with_session("chat", "theirs", {"a": 1}, skip_api_call=not tracer_too):
        with with_distributed_trace_context({"baggage": "k=v"}, tracer):
            work(tracer)
    assert tracer.shutdown(10_000)
    assert [request.path for request in collector.requests] == ["/opentelemetry/v1/traces"]
    (span,) = collector.spans
    assert (span.session, span.attributes["honeyhive.session_name"]) == (known_as("theirs"), "chat")


@pytest.mark.parametrize("answer", [Answer(status=500), Answer(status=401), Answer(drop=True), Answer(hang=True)])
def test_a_registration_that_fails_changes_nothing(collector: Collector, honeyhive: Make, answer: Answer) -> None:
    collector.apart[START] = answer
    tracer = honeyhive()
    for number in range(3):
        with tracer.with_session(session_id=f"s{number}") as session_id:
            assert session_id == f"s{number}"
            work(tracer)
    assert tracer.flush(10_000)
    assert [span.session for span in collector.spans] == [known_as(f"s{number}") for number in range(3)]


def test_elsewhere_it_is_a_span_without_a_duration(tracer: Tracer) -> None:
    with tracer.with_session("chat", "created", {"q": "?"}, metadata={"m": 1}, user_properties={"plan": "free"}):
        pass
    with tracer.with_session("chat", "nothing to say"):
        pass
    span = only_span_of(tracer)
    assert span.start_ns == span.end_ns
    assert (span.name, span.session) == ("create_session", "created")
    expected = {
        "honeyhive_event_type": "session",
        "honeyhive_inputs.q": "?",
        "honeyhive_metadata.m": 1,
        "honeyhive_user_properties.plan": "free",
        "honeyhive.session_name": "chat",
    }
    assert expected.items() <= span.attributes.items()


def test_the_free_function_enriches_the_session_that_holds(collector: Collector, honeyhive: Make) -> None:
    tracer = honeyhive()
    with tracer.with_session(session_id="created"):
        assert enrich_session(metadata={"a": 1})
    assert tracer.shutdown(10_000)
    assert body(collector.requests_to(EVENTS)[0])["event_id"] == known_as("created")


def test_session_start_registers_the_tracers_own(collector: Collector, honeyhive: Make) -> None:
    tracer = honeyhive(inputs={"a": 1})
    assert tracer.session_start() == tracer.session_start() == "own"
    assert tracer.shutdown(10_000)
    (start,) = collector.requests
    assert body(start)["session"]["inputs"] == {"a": 1}


class Rude:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


def test_what_a_value_raises_stays_here(make_tracer: Make) -> None:
    for exporter in ("memory", "none"):
        tracer = make_tracer(exporter=exporter)
        with tracer.with_session(session_id="created", inputs={"rude": Rude()}) as session_id:
            assert session_id == "created"
    with make_tracer(disable_tracing=True).with_session(session_id="created") as session_id:
        assert session_id == "created"
