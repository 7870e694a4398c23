"""Every name and keyword of the documented surface, and the names that do what another name does."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tracebaton
from collector import Collector
from opentelemetry import context as otel_context
from programs import SECONDS, clean_environment
from recorded import only_span_of, spans_of
from tracebaton import Finding, Policy, TracebatonPropagator, Tracer, explain, inject_context_into_carrier

Make = Callable[..., Tracer]
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OF_THE_PACKAGE = [
    "Tracer",
    "HoneyHiveTracer",
    "trace",
    "atrace",
    "trace_class",
    "enrich_span_context",
    "enrich_span",
    "enrich_session",
    "inject_context_into_carrier",
    "extract_context_from_carrier",
    "with_distributed_trace_context",
    "TracebatonPropagator",
    "set_default_tracer",
    "get_tracer",
    "flush",
    "explain",
    "Policy",
]
OF_A_TRACER = [
    "provider",
    "session_id",
    "project",
    "source",
    "start_span",
    "enrich_span",
    "enrich_session",
    "create_event",
    "create_session",
    "acreate_session",
    "with_session",
    "flush",
    "force_flush",
    "shutdown",
    "stats",
    "trace",
    "session_start",
    "inject_context",
    "inject",
    "extract_context",
    "link",
    "unlink",
    "get_baggage",
    "set_baggage",
    "flush_all",
    "project_name",
    "source_environment",
    "is_initialized",
    "propagator",
    "tracer",
    "session_name",
]
INIT = [
    "api_key",
    "project",
    "source",
    "server_url",
    "session_name",
    "session_id",
    "skip_backend_session_creation",
    "disable_batch",
    "disable_http_tracing",
    "verbose",
    "test_mode",
    "inputs",
    "is_evaluation",
    "run_id",
    "dataset_id",
    "datapoint_id",
    "link_carrier",
    "requests_session",
    "span_name_filters",
    "max_attributes",
    "max_events",
    "max_links",
    "max_span_size",
    "preserve_core_attributes",
    "cache_enabled",
    "cache_max_size",
    "cache_ttl",
    "cache_cleanup_interval",
    "disable_tracing",
    "otlp_enabled",
    "otlp_endpoint",
    "otlp_headers",
    "otlp_protocol",
    "batch_size",
    "flush_interval",
    "max_export_batch_size",
    "export_timeout",
    "config",
    "session_config",
    "evaluation_config",
    "exporter",
    "policy",
    "sampler",
    "service_name",
    "redact",
    "capture",
    "limits",
    "spool_dir",
    "set_global",
]
FIELDS = [
    "inputs",
    "outputs",
    "metadata",
    "metrics",
    "feedback",
    "config",
    "user_properties",
    "error",
    "attributes",
    "event_id",
]
KEYWORDS = {
    "trace": [
        *FIELDS,
        *[
            "event_type",
            "event_name",
            "tracer",
            "source",
            "project",
            "session_id",
            "user_id",
            "session_name",
            "span_config",
        ],
    ],
    "enrich_span_context": [
        *FIELDS,
        *["event_name", "event_type", "session_id", "project", "source", "tracer", "tracer_instance"],
    ],
    "enrich_span": [*FIELDS, "tracer"],
    "enrich_session": [
        "session_id",
        "metadata",
        "tracer",
        "inputs",
        "outputs",
        "config",
        "feedback",
        "metrics",
        "user_properties",
    ],
    "inject_context_into_carrier": ["carrier", "tracer", "url", "tracer_instance"],
    "extract_context_from_carrier": ["carrier", "tracer", "tracer_instance"],
    "with_distributed_trace_context": ["carrier", "tracer", "session_id", "policy", "tracer_instance"],
    "flush": ["tracer", "timeout_millis"],
}


@pytest.mark.parametrize("name", OF_THE_PACKAGE)
def test_a_name_of_the_package(name: str) -> None:
    assert name in tracebaton.__all__
    assert getattr(tracebaton, name)


@pytest.mark.parametrize("name", OF_A_TRACER)
def test_a_name_of_a_tracer(tracer: Tracer, name: str) -> None:
    getattr(tracer, name)


@pytest.mark.parametrize("name", INIT)
def test_a_keyword_of_init(name: str) -> None:
    """It is taken; what is not given as `None` may be wrong, but is not unknown."""
    assert Tracer.init(exporter="none", **({name: None} if name != "exporter" else {}))


@pytest.mark.parametrize("name", KEYWORDS)
def test_keywords_of_a_function(name: str) -> None:
    function = getattr(tracebaton, name)
    parameters = inspect.signature(function).parameters
    if name == "trace":
        function(**dict.fromkeys(KEYWORDS[name]))
    else:
        assert set(KEYWORDS[name]) <= parameters.keys()


def test_the_names_of_the_reference_mean_what_ours_mean(make_tracer: Make) -> None:
    tracer = make_tracer(source="service")
    assert (tracer.project_name, tracer.source_environment, tracer.is_initialized) == ("shop", "service", True)
    assert isinstance(tracer.propagator, TracebatonPropagator)
    with tracer.tracer.start_as_current_span("work"):
        expected = inject_context_into_carrier({}, tracer)
        assert tracer.inject({}) == tracer.inject_context({}) == expected
        carrier: dict[str, str] = {}
        tracer.propagator.inject(carrier)
        assert carrier == expected
    token = otel_context.attach(tracer.extract_context({"traceparent": CALLER, "baggage": "session_id=theirs"}))
    with tracer.start_span("extracted"):
        pass
    otel_context.detach(token)
    span = spans_of(tracer)[-1]
    assert (span.trace_id, span.session) == (CALLER[3:35], "theirs")
    assert Tracer.flush_all() is tracer.force_flush() is True


def test_link_goes_on_in_the_callers_trace_until_unlink(tracer: Tracer) -> None:
    token = tracer.link({"Traceparent": CALLER, "Baggage": "session_id=theirs"})
    with tracer.start_span("linked"):
        pass
    tracer.unlink(token)
    with tracer.start_span("unlinked"):
        pass
    linked, unlinked = spans_of(tracer)
    assert (linked.trace_id, linked.session) == (CALLER[3:35], "theirs")
    assert (unlinked.parent_id, unlinked.session) == ("", "own")
    with pytest.raises(TypeError, match=r"token must be what link\(\) returned, not str"):
        tracer.unlink("139872")  # type: ignore[arg-type]


def test_baggage(tracer: Tracer) -> None:
    with tracer.start_span("block"):
        tracer.set_baggage("user", "Amélie")
        assert tracer.get_baggage("user") == "Amélie"
        assert inject_context_into_carrier({}, tracer)["baggage"].endswith(",user=Am%C3%A9lie")
    assert tracer.get_baggage("user") is None
    with pytest.raises(TypeError, match="value must be a str, not int"):
        tracer.set_baggage("user", 5)  # type: ignore[arg-type]


def test_span_name_filters(make_tracer: Make) -> None:
    filters = {
        "include": [{"type": "prefix", "value": "agent."}, {"type": "prefix", "value": "llm"}],
        "exclude": [{"type": "prefix", "value": "agent.internal"}],
    }
    tracer = make_tracer(span_name_filters=filters)
    with tracer.start_span("other"), tracer.start_span("agent.run") as run, tracer.start_span("agent.internal.step"):
        with tracer.start_span("started as") as span:
            span.update_name("llm")
    assert [span.name for span in spans_of(tracer)] == ["llm", "agent.run"]
    assert run.get_span_context().is_valid
    with make_tracer(span_name_filters={}).start_span("any"):
        pass


@pytest.mark.parametrize(
    ("filters", "kind", "message"),
    [
        ("agent.", TypeError, "span_name_filters must be a mapping, not str"),
        ({"includes": []}, ValueError, "'includes' is neither 'include' nor 'exclude'"),
        ({"include": "agent."}, TypeError, "include must be a list, not str"),
        ({"exclude": ["agent."]}, TypeError, "an entry of exclude must be a mapping with a str 'value'"),
        ({"exclude": [{"type": "regex", "value": "."}]}, ValueError, "type of an entry of exclude must be 'prefix'"),
    ],
)
def test_wrong_span_name_filters(make_tracer: Make, filters: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make_tracer(span_name_filters=filters)


# create_event


NOW = 1_700_000_000_000
"""Milliseconds since 1970."""
NS = 1_000_000


@pytest.mark.parametrize(
    ("times", "begin", "end"),
    [
        ({"start_time": NOW, "end_time": NOW + 5}, NOW, NOW + 5),
        ({"start_time": NOW, "duration": 2.0}, NOW, NOW + 2),
        ({"end_time": NOW, "duration": 5}, NOW - 5, NOW),
        ({"start_time": NOW}, NOW, NOW),
        ({"end_time": NOW}, NOW, NOW),
        ({"start_time": NOW, "end_time": NOW - 5}, NOW, NOW),
        ({"start_time": 0, "end_time": NOW, "duration": 1}, 0, NOW),
    ],
)
def test_an_event_has_the_times_that_it_is_given(tracer: Tracer, times: Any, begin: int, end: int) -> None:
    assert tracer.create_event("event", **times)
    span = only_span_of(tracer)
    assert (span.start_ns, span.end_ns) == (begin * NS, end * NS)


def test_an_event_without_times_is_now(tracer: Tracer) -> None:
    before = time.time_ns()
    tracer.create_event("event", duration=1_000)
    span = only_span_of(tracer)
    assert before <= span.end_ns <= time.time_ns()
    assert span.end_ns - span.start_ns == 1_000 * NS


def test_an_event_is_a_span_with_fields(tracer: Tracer) -> None:
    fields = {
        "inputs": {"q": "?", "password": "p"},
        "outputs": {"a": "!"},
        "metadata": {"m": 1},
        "metrics": {"score": 0.5},
        "config": {"model": "m"},
        "error": "no",
    }
    with tracer.start_span("parent") as parent:
        span_id = tracer.create_event("call", event_type="model", **fields)
        again = tracer.create_event({"event_name": "call", "event_type": "model", **fields})
    first, second, _ = spans_of(tracer)
    assert (first.span_id, second.span_id) == (span_id, again)
    for span in (first, second):
        assert (span.name, span.parent_id) == ("call", f"{parent.get_span_context().span_id:016x}")
        assert span.attributes["honeyhive_event_type"] == "model"
        assert span.under("inputs") == {"q": "?", "password": "[redacted]"}
        assert (span.under("metrics"), span.error, span.session) == ({"score": 0.5}, "no", "own")


def test_an_event_in_another_session(tracer: Tracer) -> None:
    tracer.create_event("event", session_id="other")
    assert only_span_of(tracer).session == "other"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"event_name": 5}, "event_name must be a str, not int"),
        ({"event_name": "e", "event_type": None}, "event_type must be a str, not NoneType"),
        ({"event_name": "e", "start_time": "now"}, "start_time must be a number of milliseconds, not str"),
        ({"event_name": "e", "duration": True}, "duration must be a number of milliseconds, not bool"),
        ({"event_name": "e", "session_id": 5}, "session_id must be a str, not int"),
        ({"event_name": "e", "colour": 5}, r"create_event\(\) got an unexpected keyword argument 'colour'"),
        ({"event_name": {"event_name": "e", "colour": 5}}, "unexpected keyword argument 'colour'"),
    ],
)
def test_a_wrong_argument_of_an_event_is_named(tracer: Tracer, arguments: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        tracer.create_event(**arguments)
    for wrong in (-1, float("nan"), float("inf"), 1e300):
        with pytest.raises(ValueError, match="end_time must be a number of milliseconds from 0 on"):
            tracer.create_event("event", end_time=wrong)


def test_an_event_that_is_not_recorded_has_no_id(make_tracer: Make) -> None:
    assert make_tracer(sampler="always_off").create_event("event") is None
    assert make_tracer(disable_tracing=True).create_event("event") is None


# explain


def test_explain_says_what_is_kept_and_what_is_not() -> None:
    carrier = {"Traceparent": CALLER[:-3], "baggage": "session_id=s3cr3t,=,honeyhive_tracer_id=5"}
    findings = explain(carrier)
    assert all(isinstance(finding, Finding) and finding.sentence.endswith(".") for finding in findings)
    assert [(finding.header, finding.position, finding.verdict) for finding in findings] == [
        ("traceparent", None, "dropped"),
        ("baggage", 0, "kept"),
        ("baggage", 1, "dropped"),
        ("baggage", 2, "dropped"),
    ]
    assert findings[0].rule
    assert "s3cr3t" not in str(findings)
    assert explain(carrier, with_text=True)[1].text == "session_id=s3cr3t"
    assert {finding.verdict for finding in explain(carrier, policy={"inbound": "ignore"})} == {"dropped"}
    assert explain(carrier, policy=Policy(accept_session=False))[1].verdict == "dropped"


@pytest.mark.parametrize("carrier", [None, 5, {}, [], {"baggage": None}])
def test_explain_takes_any_carrier(carrier: Any) -> None:
    assert all(finding.verdict != "kept" for finding in explain(carrier))
    with pytest.raises(TypeError, match="with_text must be a bool, not int"):
        explain(carrier, with_text=1)  # type: ignore[arg-type]


# Programs written for the reference


def test_the_documented_names_under_tracebaton_run(collector: Collector, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        """
from honeyhive import HoneyHiveTracer, enrich_session, enrich_span, flush, set_default_tracer, trace
from honeyhive.models import EventType
from honeyhive.tracer import HoneyHiveSpanProcessor, get_default_tracer
from honeyhive.tracer.processing.context import get_current_baggage, setup_baggage_context
from opentelemetry.sdk.trace import TracerProvider

tracer = HoneyHiveTracer.init(source="service")
setup_baggage_context(tracer)
session_id = tracer.create_session(session_name="chat", inputs={"a": 1})
assert get_current_baggage()["session_id"] == session_id

@trace(event_type=EventType.chain, event_name="work")
def work():
    enrich_span(metadata={"m": 1})
    tracer.create_event("event", event_type="tool")

work()
enrich_session(session_id, metadata={"done": True})
provider = TracerProvider()
provider.add_span_processor(HoneyHiveSpanProcessor(tracer_instance=tracer))
with provider.get_tracer("sdk").start_as_current_span("of the SDK"):
    pass
assert flush(tracer, 10_000)
print(session_id)
"""
    )
    environment = clean_environment({"HH_API_KEY": "k", "HH_API_URL": collector.url})
    done = subprocess.run(
        [sys.executable, "-m", "tracebaton.run", str(program)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    session_id = done.stdout.strip()
    assert uuid.UUID(session_id)
    assert sorted(span.name for span in collector.spans) == ["event", "of the SDK", "work"]
    assert {span.session for span in collector.spans} == {session_id}
    (start,) = collector.requests_to("/session/start")
    assert json.loads(start.body)["session"]["session_id"] == session_id


def test_the_table_of_the_docs_names_every_call() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "honeyhive.md").read_text()
    missing = [name for name in {*OF_THE_PACKAGE, *INIT} if f"`{name}" not in text and f"`tracer.{name}" not in text]
    assert missing == []
    for name in OF_A_TRACER:
        assert f"tracer.{name}" in text or f"`{name}" in text, name
