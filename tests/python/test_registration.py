"""Sessions at HoneyHive: registered once and in the background, enriched after that, and never in the way of a span."""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from collector import Answer, Collector, Request
from programs import output, run
from recorded import only_span_of, spans_of
from tracebaton import (
    Tracer,
    enrich_session,
    enrich_span_context,
    trace,
    with_distributed_trace_context,
)
from vector_files import cases

Make = Callable[..., Tracer]
START = "/session/start"
EVENTS = "/events"
SPANS = "/opentelemetry/v1/traces"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def known_as(session_id: str) -> str:
    """The id that HoneyHive knows a session by."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, session_id))


def body(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request.body)
    return found


@pytest.fixture
def honeyhive(make_tracer: Make, collector: Collector) -> Make:
    """Makes tracers whose HoneyHive is the collector."""

    def make(**arguments: Any) -> Tracer:
        defaults = {"exporter": "honeyhive", "api_key": "s3cr3t", "server_url": collector.url, "session_name": "n"}
        return make_tracer(**{**defaults, **arguments})

    return make


def work(tracer: Tracer, name: str = "work") -> None:
    with tracer.start_span(name):
        pass


def started(collector: Collector) -> list[str]:
    return [body(request)["session"]["session_id"] for request in collector.requests_to(START)]


def test_the_first_span_registers_the_session(collector: Collector, honeyhive: Make) -> None:
    tracer = honeyhive(inputs={"question": "why?", "password": "hunter2"})
    assert collector.requests == []
    for _ in range(3):
        work(tracer)
    assert tracer.shutdown(10_000)
    (request,) = collector.requests_to(START)
    assert request.method == "POST"
    assert body(request) == {
        "session": {
            "session_id": known_as("own"),
            "session_name": "n",
            "source": "dev",
            "project": "shop",
            "inputs": {"question": "why?", "password": "[redacted]"},
        }
    }
    assert request.headers["authorization"] == "Bearer s3cr3t"
    assert request.headers["content-type"] == request.headers["accept"] == "application/json"
    assert request.headers["hh-client-language"] == "python"
    assert request.headers["hh-client-package"] == "tracebaton"
    assert {span.session for span in collector.spans} == {known_as("own")}


def test_it_begins_with_the_span_and_not_with_its_end(collector: Collector, honeyhive: Make) -> None:
    tracer = honeyhive()
    with tracer.start_span("long"):
        collector.wait_for_requests(1)
        assert started(collector) == [known_as("own")]


def test_every_session_of_its_own_is_registered_once(collector: Collector, honeyhive: Make) -> None:
    tracer = honeyhive()

    @trace(tracer=tracer, session_id="given")
    def traced() -> None:
        with tracer.start_span("inside"):
            pass

    traced()
    traced()
    work(tracer)
    twin = honeyhive(session_id="own")
    work(twin)
    assert twin.shutdown(10_000) and tracer.shutdown(10_000)
    assert started(collector) == [known_as("given"), known_as("own")]


def test_a_callers_session_is_the_callers_to_register(collector: Collector, honeyhive: Make) -> None:
    tracer = honeyhive()
    with with_distributed_trace_context({"traceparent": CALLER, "baggage": "session_id=theirs"}, tracer):
        work(tracer)
    assert tracer.shutdown(10_000)
    assert collector.requests_to(START) == []
    assert [span.session for span in collector.spans] == [known_as("theirs")]


@pytest.mark.parametrize("arguments", [{"sampler": "always_off"}, {"skip_backend_session_creation": True}])
def test_none_where_nothing_is_recorded_or_nothing_is_wanted(
    collector: Collector, honeyhive: Make, arguments: dict[str, Any]
) -> None:
    tracer = honeyhive(**arguments)
    work(tracer)
    assert tracer.shutdown(10_000)
    assert collector.requests_to(START) == []


def test_a_session_configuration_may_say_so_too(collector: Collector, honeyhive: Make) -> None:
    tracer = honeyhive(session_config={"skip_backend_session_creation": True})
    work(tracer)
    assert tracer.shutdown(10_000)
    assert collector.requests_to(START) == []
    tracer = honeyhive(session_config={"inputs": {"a": 1}})
    work(tracer)
    assert tracer.shutdown(10_000)
    assert body(collector.requests_to(START)[0])["session"]["inputs"] == {"a": 1}


def test_none_at_an_otlp_endpoint(collector: Collector, make_tracer: Make) -> None:
    tracer = make_tracer(exporter="otlp", otlp_endpoint=collector.url)
    work(tracer)
    assert tracer.shutdown(10_000)
    assert [request.path for request in collector.requests] == ["/v1/traces"]


@pytest.mark.parametrize(
    "answer", [Answer(status=500), Answer(status=401), Answer(status=503), Answer(drop=True), Answer(hang=True)]
)
def test_a_registration_that_fails_changes_nothing(
    collector: Collector, honeyhive: Make, answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    collector.apart[START] = answer
    with caplog.at_level(logging.DEBUG):
        tracer = honeyhive()
        for number in range(5):
            work(tracer, str(number))
        assert tracer.flush(10_000), "spans say which session they belong to"
        assert tracer.session_id == "own"
        assert tracer.shutdown(10_000)
    assert sorted(span.name for span in collector.spans) == ["0", "1", "2", "3", "4"]
    for span in collector.spans:
        assert (span.session, span.attributes["honeyhive.session_auto_create"]) == (known_as("own"), True)
    assert set(started(collector)) == {known_as("own")}
    assert len(collector.requests_to(START)) == 1 or answer.status == 503 or answer.drop
    assert "s3cr3t" not in caplog.text and known_as("own") not in caplog.text


@pytest.mark.parametrize("answer", [Answer(status=500), Answer(status=401), Answer(status=503), Answer(hang=True)])
def test_a_flush_answers_for_what_is_merged_into_sessions(
    collector: Collector, honeyhive: Make, answer: Answer
) -> None:
    tracer = honeyhive()
    collector.apart[EVENTS] = answer
    assert tracer.enrich_session({"n": 1})
    work(tracer)
    assert not tracer.flush(2_000)
    collector.apart.clear()
    if answer.status in (401, 500):
        assert tracer.flush(10_000), "that is said once"
        assert tracer.enrich_session({"n": 2})
        assert tracer.flush(10_000)
    assert [span.name for span in collector.spans] == ["work"]


def test_it_is_retried_when_it_may_be(collector: Collector, honeyhive: Make) -> None:
    collector.apart[START] = Answer(status=429, headers={"retry-after": "0"})
    tracer = honeyhive()
    work(tracer)
    assert tracer.flush(10_000)
    collector.wait(lambda: any(request.path == START for request in collector._requests))
    collector.apart.clear()
    collector.wait(lambda: any(request.path == START and request.accepted for request in collector._requests))
    assert len(collector.requests_to(SPANS)) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize("before", [True, False])
def test_a_child_registers_what_its_parent_did_not(collector: Collector, before: bool) -> None:
    code = f"""
import os, tracebaton
tracer = tracebaton.Tracer.init(session_id="own")
def span(name):
    with tracer.start_span(name): pass
if {before}:
    span("before")
    assert tracer.flush(10_000)
for number in range(2):
    pid = os.fork()
    if pid == 0:
        span(f"child {{number}}")
        os._exit(0 if tracer.flush(10_000) else 5)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
"""
    output(code, {"HH_API_KEY": "s3cr3t", "HH_API_URL": collector.url})
    assert started(collector) == [known_as("own")] * (1 if before else 2)
    assert len(collector.spans) == (3 if before else 2)


def test_a_program_that_ends_at_once_has_registered(collector: Collector) -> None:
    code = """
import tracebaton
with tracebaton.Tracer.init(session_id="own").start_span("work"):
    pass
"""
    output(code, {"HH_API_KEY": "s3cr3t", "HH_API_URL": collector.url})
    assert started(collector) == [known_as("own")]


def test_a_program_that_ends_does_not_wait_for_a_registration_that_hangs(collector: Collector) -> None:
    collector.apart[START] = Answer(hang=True)
    code = """
import tracebaton
with tracebaton.Tracer.init(session_id="own").start_span("work"):
    pass
"""
    done = run(code, {"HH_API_KEY": "s3cr3t", "HH_API_URL": collector.url})
    assert done.returncode == 0
    assert [span.name for span in collector.spans] == ["work"]
    assert "1 session request on the way without an answer" in done.stderr, "it did not wait, and it says so"
    assert "s3cr3t" not in done.stderr


def test_an_enrichment_is_merged_at_honeyhive(collector: Collector, honeyhive: Make) -> None:
    tracer = honeyhive()
    assert tracer.enrich_session(
        {"a": 1},
        inputs={"q": "?"},
        outputs="done",
        metrics={"score": 0.5},
        feedback={"rating": 5},
        config={"model": "m", "api_key": "k"},
        user_properties={"plan": "free"},
        tier="gold",
    )
    assert tracer.shutdown(10_000)
    requests = collector.requests
    assert [(request.method, request.path) for request in requests] == [("POST", START), ("PUT", EVENTS)]
    assert body(requests[1]) == {
        "event_id": known_as("own"),
        "metadata": {"a": 1, "tier": "gold", "inputs": {"q": "?"}},
        "outputs": {"result": "done"},
        "metrics": {"score": 0.5},
        "feedback": {"rating": 5},
        "config": {"model": "m", "api_key": "[redacted]"},
        "user_properties": {"plan": "free"},
    }


@cases("registration", lambda case: "start" in case)
def test_vectors_of_sessions_that_begin(collector: Collector, honeyhive: Make, case: dict[str, Any]) -> None:
    start = dict(case["start"])
    expected = dict(case["expected"]["session"])
    # A tracer always has a project, a source and a name.
    tracer = honeyhive(project=start.pop("project", "shop"))
    with tracer.with_session(**start):
        pass
    assert tracer.shutdown(10_000)
    (request,) = collector.requests_to(START)
    assert body(request) == {"session": {"project": "shop", "source": "dev", "session_name": "n", **expected}}


@cases("registration", lambda case: "enrichment" in case)
def test_vectors_of_enrichments(collector: Collector, honeyhive: Make, case: dict[str, Any]) -> None:
    tracer = honeyhive()
    put = tracer.enrich_session(**case["enrichment"])
    assert tracer.shutdown(10_000)
    assert put is (case["expected"] is not None)
    assert [body(request) for request in collector.requests_to(EVENTS)] == [case["expected"]] * put


def test_requests_about_sessions_are_counted(collector: Collector, honeyhive: Make, make_tracer: Make) -> None:
    collector.apart[START] = Answer(status=429, headers={"retry-after": "0"})
    tracer = honeyhive()
    assert tracer.stats()["sessions"] == {"queued": 0, "sent": 0, "dropped": {}, "retried": 0, "last_error": None}
    work(tracer)
    collector.wait(lambda: any(request.path == START for request in collector._requests))
    collector.apart[START] = Answer(status=401)
    assert tracer.enrich_session({"n": 1})
    assert tracer.shutdown(10_000)
    stats = tracer.stats()
    sessions = stats["sessions"]
    assert (sessions["queued"], sessions["sent"], sessions["dropped"]) == (0, 1, {"refused": 1})
    assert sessions["retried"] >= 1
    assert sessions["last_error"] == "HTTP 401"
    assert (stats["sent"], stats["dropped"], stats["retried"], stats["last_error"]) == (1, {}, 0, None), "of spans"
    assert make_tracer().stats()["sessions"]["sent"] == 0, "nobody is told"


def test_a_burst_of_sessions_loses_none(collector: Collector, honeyhive: Make) -> None:
    tracer = honeyhive()
    collector.apart[START] = Answer(hang=True)
    count = 3_000
    for number in range(count):
        with tracer.with_session(session_id=f"s{number}", inputs={"question": "why?"}):
            pass
    sessions = tracer.stats()["sessions"]
    assert (sessions["queued"], sessions["dropped"]) == (count, {})


def test_the_session_that_holds_is_enriched_or_the_one_that_is_named(collector: Collector, honeyhive: Make) -> None:
    tracer = honeyhive()
    with with_distributed_trace_context({"baggage": "session_id=theirs"}, tracer):
        assert tracer.enrich_session({"n": 1})
    assert enrich_session("named", {"n": 2}, tracer)
    assert enrich_session(metadata={"n": 3})
    assert tracer.shutdown(10_000)
    assert [body(request)["event_id"] for request in collector.requests_to(EVENTS)] == [
        *(known_as("theirs"), known_as("named"), known_as("own"))
    ]
    assert started(collector) == [known_as("own")], "only its own"


def test_elsewhere_an_enrichment_is_a_span_without_a_duration(tracer: Tracer) -> None:
    with enrich_span_context("work", tracer=tracer) as work:
        assert tracer.enrich_session({"a": {"b": 1}}, outputs={"password": "p"})
    span = next(span for span in spans_of(tracer) if span.name == "enrich_session")
    assert span.start_ns == span.end_ns
    assert span.parent_id == f"{work.get_span_context().span_id:016x}"
    assert span.session == "own"
    expected = {
        "honeyhive_event_type": "session",
        "honeyhive_metadata.a.b": 1,
        "honeyhive_outputs.password": "[redacted]",
    }
    assert expected.items() <= span.attributes.items()


def test_both_where_both_are_asked_for(collector: Collector, honeyhive: Make) -> None:
    tracer = honeyhive(exporter=["honeyhive", "memory"])
    assert tracer.enrich_session({"a": 1}, session_id="named")
    assert tracer.shutdown(10_000)
    assert only_span_of(tracer).session == "named"
    assert len(collector.requests_to(EVENTS)) == 1
    assert collector.spans == []


def test_nothing_to_enrich_is_false(collector: Collector, honeyhive: Make, make_tracer: Make) -> None:
    assert not enrich_session(metadata={"a": 1}), "there is no tracer"
    for tracer in (honeyhive(), make_tracer(), make_tracer(exporter="none"), make_tracer(disable_tracing=True)):
        assert not tracer.enrich_session()
        assert not tracer.enrich_session(metadata=None, outputs=None)
    assert not make_tracer(exporter="none").enrich_session({"a": 1})
    assert not make_tracer(sampler="always_off").enrich_session({"a": 1})
    with pytest.raises(TypeError, match="session_id must be a str, not dict"):
        enrich_session({"a": 1})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="session_id"):
        tracer.enrich_session({"a": 1}, session_id="")


class Rude:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


def test_what_a_value_raises_stays_here(collector: Collector, honeyhive: Make) -> None:
    tracer = honeyhive()
    assert tracer.enrich_session({"rude": Rude()})
    assert tracer.shutdown(10_000)
    assert "Rude" in body(collector.requests_to(EVENTS)[0])["metadata"]["rude"]
