"""Our propagator among others, by its entry point, and in applications that have no tracer of ours."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import flask
import pytest
import requests
from collector import Collector
from instrumented import tree
from opentelemetry import propagate
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.propagators.aws import AwsXRayPropagator
from opentelemetry.propagators.b3 import B3MultiFormat, B3SingleFormat
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from programs import clean_environment, output, run
from recorded import by_name, spans_of
from serving import serving_wsgi
from tracebaton import (
    TracebatonPropagator,
    Tracer,
    inject_context_into_carrier,
    with_distributed_trace_context,
)

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
CALLER = f"00-{TRACE_ID}-{SPAN_ID}-01"
FOREIGN = "user=Am%C3%A9lie+x%2520;p=1;q, b = c"


@pytest.fixture
def tracer(make_tracer: Callable[..., Tracer]) -> Tracer:
    return make_tracer()


NAMED = """
    import json
    from opentelemetry import context, propagate
    chosen = propagate.get_global_textmap()
    import tracebaton

    tracer = tracebaton.Tracer.init(exporter="none", session_id="own", project="shop")
    assert propagate.get_global_textmap() is chosen
    sent = {}
    with tracer.start_span("s") as span:
        propagate.inject(sent)
    print(json.dumps([[type(it).__name__ for it in chosen._propagators], f"{span.context.trace_id:032x}", sent]))
"""


@pytest.mark.parametrize(
    ("names", "kinds", "headers"),
    [
        ("tracebaton", ["TracebatonPropagator"], {"traceparent", "baggage"}),
        ("tracebaton,b3", ["TracebatonPropagator", "B3SingleFormat"], {"traceparent", "baggage", "b3"}),
        ("b3,tracebaton", ["B3SingleFormat", "TracebatonPropagator"], {"traceparent", "baggage", "b3"}),
        (
            "xray,tracebaton",
            ["AwsXRayPropagator", "TracebatonPropagator"],
            {"traceparent", "baggage", "X-Amzn-Trace-Id"},
        ),
        (
            "tracecontext,baggage,tracebaton",
            ["TraceContextTextMapPropagator", "W3CBaggagePropagator", "TracebatonPropagator"],
            {"traceparent", "baggage"},
        ),
    ],
)
def test_by_name(names: str, kinds: list[str], headers: set[str]) -> None:
    found, trace_id, sent = json.loads(output(NAMED, {"OTEL_PROPAGATORS": names}))
    assert set(found) == set(kinds)
    assert set(sent) == headers
    assert trace_id in sent["traceparent"]
    assert sent["baggage"] == "session_id=own,project=shop,source=dev"
    if "b3" in headers:
        assert sent["b3"].startswith(trace_id)
    if "xray" in names:
        assert trace_id[:8] in sent["X-Amzn-Trace-Id"]


@pytest.mark.parametrize("names", ["tracebaton", "tracebaton,b3", "b3,tracebaton"])
@pytest.mark.parametrize(
    "first", ["tracebaton", "opentelemetry.propagate", "opentelemetry.instrumentation.requests", "tracebaton.testing"]
)
def test_by_name_whoever_is_imported_first(names: str, first: str) -> None:
    """The entry point loads this package, which may be just what is being loaded."""
    code = f"""
    import {first}
    import tracebaton

    tracer = tracebaton.Tracer.init(exporter="none", session_id="own")
    from opentelemetry import propagate

    sent = {{}}
    with tracer.start_span("s"):
        propagate.inject(sent)
    print(*sorted(sent))
    """
    found = output(code, {"OTEL_PROPAGATORS": names}).split()
    assert found == (["b3"] if "b3" in names else []) + ["baggage", "traceparent"]


@pytest.mark.parametrize("names", ["", "nobody-has-this", "tracebaton,nobody-has-this"])
def test_names_that_opentelemetry_cannot_load(names: str) -> None:
    """Its module cannot be imported then; ours can, and `init` does not fail."""
    code = """
    import tracebaton

    tracer = tracebaton.Tracer.init(exporter="none", session_id="own")
    with tracer.start_span("s"):
        print(*sorted(tracebaton.inject_context_into_carrier({})))
    """
    done = run(code, {"OTEL_PROPAGATORS": names})
    assert (done.returncode, done.stdout.split()) == (0, ["baggage", "traceparent"]), done.stderr


B3 = {"X-B3-TraceId": TRACE_ID, "X-B3-SpanId": SPAN_ID, "X-B3-Sampled": "1"}
XRAY = {"X-Amzn-Trace-Id": f"Root=1-{TRACE_ID[:8]}-{TRACE_ID[8:]};Parent={SPAN_ID};Sampled=1"}


@pytest.mark.parametrize(
    ("other", "headers"),
    [
        (B3MultiFormat(), B3),
        (B3SingleFormat(), {"b3": f"{TRACE_ID}-{SPAN_ID}-1"}),
        (AwsXRayPropagator(), XRAY),
    ],
    ids=["b3multi", "b3", "xray"],
)
@pytest.mark.parametrize("ours", ["first", "last"])
def test_a_caller_that_speaks_another_format(
    make_tracer: Callable[..., Tracer], other: TextMapPropagator, headers: Mapping[str, str], ours: str
) -> None:
    """Its trace goes on, in its session: the instrumentor extracts with what the user installed."""
    both: list[TextMapPropagator] = [TracebatonPropagator(), other]
    propagate.set_global_textmap(CompositePropagator(both if ours == "first" else both[::-1]))
    tracer = make_tracer()
    app = flask.Flask("shop")
    sent: dict[str, str] = {}

    @app.get("/agent")
    def agent() -> dict[str, str]:
        with with_distributed_trace_context(flask.request.headers), tracer.start_span("handled"):
            propagate.inject(sent)
            return inject_context_into_carrier({})

    FlaskInstrumentor().instrument_app(app, tracer_provider=tracer.provider)
    with serving_wsgi(app) as url:
        answer = requests.get(
            f"{url}/agent", headers={**headers, "baggage": f"session_id=theirs,{FOREIGN}"}, timeout=20
        ).json()
    spans = spans_of(tracer)
    assert tree(spans) == ["? GET /agent", "  handled"]
    served = by_name(spans)
    assert (served["GET /agent"].trace_id, served["GET /agent"].parent_id) == (TRACE_ID, SPAN_ID)
    assert {span.session for span in spans} == {"theirs"}
    expected = f"session_id=theirs,project=shop,source=dev,{FOREIGN}"
    assert answer["baggage"] == sent["baggage"] == expected
    assert answer["traceparent"] == sent["traceparent"] == f"00-{TRACE_ID}-{served['handled'].span_id}-01"
    (field,) = other.fields if len(other.fields) == 1 else {"x-b3-spanid"}
    assert served["handled"].span_id in sent[field]


@pytest.mark.parametrize("order", [1, -1], ids=["ours first", "ours last"])
def test_beside_the_w3c_propagators(make_tracer: Callable[..., Tracer], order: int) -> None:
    """Whoever lists ours beside OpenTelemetry's own has each header once, with the session in it."""
    parts = [TracebatonPropagator(), *propagate.get_global_textmap()._propagators][::order]  # type: ignore[attr-defined]
    propagate.set_global_textmap(CompositePropagator(parts))
    tracer = make_tracer(project=None)
    context = propagate.extract({"traceparent": CALLER, "baggage": f"session_id=theirs,{FOREIGN}"})
    sent: dict[str, str] = {}
    with tracer.start_span("s", context=context):
        propagate.inject(sent)
    assert sorted(sent) == ["baggage", "traceparent"]
    (span,) = spans_of(tracer)
    assert (span.trace_id, span.parent_id, span.session) == (TRACE_ID, SPAN_ID, "theirs")
    members = [member.strip() for member in sent["baggage"].split(",")]
    assert "session_id=theirs" in members
    assert any(member.startswith("user=Am%C3%A9lie") for member in members)


@contextlib.contextmanager
def running(program: str, *arguments: str, environment: Mapping[str, str]) -> Iterator[str]:
    """A program of this folder in a process of its own, which says its URL."""
    here = Path(__file__).parent
    # The modules that the tests share are in the folder above.
    environment = {**environment, "PYTHONPATH": str(here.parent)}
    process = subprocess.Popen(
        [sys.executable, str(here / program), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env=clean_environment(environment),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        assert url, "the program did not start"
        yield url
        process.stdin.close()
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.mark.timeout(120)
def test_two_services_without_a_tracer_pass_everything_on(tracer: Tracer, collector: Collector) -> None:
    """Three real processes: two on OpenTelemetry's SDK with `OTEL_PROPAGATORS=tracebaton`, the last one is an agent.

    A program with a tracer asks them, and one that only sends headers.
    """
    named = {"OTEL_PROPAGATORS": "tracebaton"}
    state = "9key@x=v , a=1"
    headers = {"traceparent": CALLER, "tracestate": state, "baggage": f"session_id=the%20session,{FOREIGN}"}
    with contextlib.ExitStack() as stack:
        agent = stack.enter_context(
            running("tracebaton_hop.py", environment={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
        )
        second = stack.enter_context(
            running("sdk_hop.py", "fastapi", f"{agent}/agent", collector.url, environment=named)
        )
        first = stack.enter_context(running("sdk_hop.py", "flask", f"{second}/agent", collector.url, environment=named))
        RequestsInstrumentor().instrument(tracer_provider=tracer.provider)
        try:
            with tracer.start_span("call"):
                of_a_tracer = requests.get(f"{first}/agent", timeout=20).json()
        finally:
            RequestsInstrumentor().uninstrument()
        of_headers = requests.get(f"{first}/agent", headers=headers, timeout=20).json()
    spans = collector.wait_for_spans(12)
    sent = by_name(spans_of(tracer))["GET"]
    callers = ((sent.trace_id, sent.span_id, "own"), (TRACE_ID, SPAN_ID, "the session"))
    for trace_id, parent_id, session in callers:
        of_trace = [span for span in spans if span.trace_id == trace_id]
        assert tree(of_trace) == [
            "? GET /agent",
            "  GET",
            "    GET /agent",
            "      GET",
            "        GET /agent",
            "          answer",
        ]
        of_trace.sort(key=lambda it: it.start_ns)
        assert of_trace[0].parent_id == parent_id
        services = [span.resource["service.name"] for span in of_trace]
        assert services == ["flask", "flask", "fastapi", "fastapi", "agent", "agent"]
        assert {span.session for span in of_trace if span.resource["service.name"] == "agent"} == {session}
    got = {name.lower(): value for name, value in of_headers["got"].items()}
    assert got["baggage"] == f"session_id=the%20session,{FOREIGN}"
    assert got["tracestate"] == of_headers["sent"]["tracestate"] == state
    assert of_headers["sent"]["baggage"] == f"session_id=the%20session,source=agent,{FOREIGN}"
    assert of_a_tracer["sent"]["baggage"] == "session_id=own,project=shop,source=agent"
