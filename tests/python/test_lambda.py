"""AWS Lambda: the shapes of events, warm starts, and delivery before the freeze; and the examples about sessions."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from collector import Answer, Collector
from opentelemetry import context as otel_context
from programs import SECONDS, clean_environment, output
from recorded import by_name, only_span_of, spans_of
from tracebaton import Tracer, _native, enrich_span_context, inject_context_into_carrier
from tracebaton.serverless import lambda_carrier, lambda_handler

Make = Callable[..., Tracer]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
CALLER = f"00-{TRACE_ID}-{SPAN_ID}-01"
BODY = json.dumps({"question": "why?"})

# Events as AWS documents them, cut to what matters; a header that is repeated, and one in title case.
EVENTS: dict[str, dict[str, Any]] = {
    "API Gateway 1.0": {
        "resource": "/ask",
        "path": "/ask",
        "httpMethod": "POST",
        "headers": {"Host": "x.execute-api.aws", "Traceparent": CALLER, "Baggage": "k=v", "User-Agent": "tests"},
        "multiValueHeaders": {
            "Host": ["x.execute-api.aws"],
            "Traceparent": [CALLER],
            "Baggage": ["session_id=theirs", "k=v"],
        },
        "requestContext": {"requestId": "r", "httpMethod": "POST", "stage": "prod"},
        "body": BODY,
    },
    "API Gateway 2.0": {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/ask",
        "headers": {"host": "x.execute-api.aws", "traceparent": CALLER, "baggage": "session_id=theirs,k=v"},
        "requestContext": {"http": {"method": "POST", "path": "/ask"}, "stage": "$default"},
        "body": BODY,
    },
    "ALB": {
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:x"}},
        "httpMethod": "POST",
        "path": "/ask",
        "headers": {"host": "lb.aws", "traceparent": CALLER, "baggage": "session_id=theirs,k=v"},
        "body": BODY,
    },
    "ALB with multi-value headers": {
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:x"}},
        "httpMethod": "POST",
        "path": "/ask",
        "multiValueHeaders": {
            "host": ["lb.aws"],
            "traceparent": [CALLER],
            "baggage": ["k=v", "session_id=theirs"],
        },
        "body": BODY,
    },
}
SHAPES = pytest.mark.parametrize("shape", EVENTS)


class Context:
    """What Lambda hands to a handler."""

    function_name = "ask"
    aws_request_id = "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"
    invoked_function_arn = "arn:aws:lambda:eu-central-1:1:function:ask"

    def __init__(self, remaining: Any = 3_000) -> None:
        self.remaining = remaining

    def get_remaining_time_in_millis(self) -> Any:
        return self.remaining


@SHAPES
def test_an_invocation_goes_on_in_the_callers_trace_and_session(tracer: Tracer, shape: str) -> None:
    @lambda_handler
    def handler(event: Any, context: Any) -> Any:
        return {"statusCode": 200, "headers": inject_context_into_carrier({})}

    headers = handler(EVENTS[shape], Context())["headers"]
    span = only_span_of(tracer)
    assert (span.trace_id, span.parent_id, span.session, span.name) == (TRACE_ID, SPAN_ID, "theirs", "ask")
    assert headers["baggage"] == "session_id=theirs,project=shop,source=dev,k=v"
    expected = {
        "faas.invocation_id": Context.aws_request_id,
        "cloud.resource_id": Context.invoked_function_arn,
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "url.path": "/ask",
        "honeyhive_event_type": "chain",
    }
    assert expected.items() <= span.attributes.items()
    assert span.attributes["server.address"] in ("x.execute-api.aws", "lb.aws")


def test_a_warm_start_begins_anew(tracer: Tracer) -> None:
    @lambda_handler
    def handler(event: dict[str, Any], context: Any) -> None:
        if event.get("create"):
            tracer.create_session(session_id="created")
        with enrich_span_context("work"):
            pass

    events = [{"create": True}, EVENTS["API Gateway 2.0"], {}, {"Records": [{"body": "x"}]}]
    for event in events:
        handler(event, Context())
        assert dict(otel_context.get_current()) == {}
    sessions = [span.session for span in spans_of(tracer) if span.name == "work"]
    assert sessions[:2] == ["created", "theirs"]
    assert len({*sessions, "own"}) == 5, "each has a session of its own"
    assert [uuid.UUID(session) for session in sessions[2:]]


def test_what_it_recorded_is_delivered_before_it_returns(collector: Collector, make_tracer: Make) -> None:
    tracer = make_tracer(exporter="otlp", otlp_endpoint=collector.url)

    @lambda_handler(tracer=tracer)
    def handler(event: Any, context: Any) -> int:
        return 5

    assert handler({}, Context()) == 5
    assert len(collector.spans) == 1


@pytest.mark.timeout(20)
@pytest.mark.parametrize("context", [Context(300), Context(0), Context("much"), None, object()])
def test_a_backend_that_hangs_takes_no_more_than_the_time_that_is_left(
    collector: Collector, make_tracer: Make, context: Any
) -> None:
    collector.always = Answer(hang=True)
    tracer = make_tracer(exporter="otlp", otlp_endpoint=collector.url)

    @lambda_handler(tracer=tracer, flush_millis=500)
    def handler(event: Any, context: Any) -> int:
        return 5

    assert handler({}, context) == 5


def test_what_the_handler_raises_goes_on_unchanged(tracer: Tracer) -> None:
    error = ValueError("no")

    @lambda_handler
    def handler(event: Any, context: Any) -> None:
        raise error

    with pytest.raises(ValueError, match="no") as raised:
        handler({}, Context())
    assert raised.value is error
    assert (only_span_of(tracer).status, only_span_of(tracer).error) == (2, "no")


@pytest.mark.parametrize(
    "event",
    [
        *(None, 5, "x", [], {"headers": None}, {"headers": 5}, {"headers": {1: 2}}, {"requestContext": 5}),
        *({"httpMethod": 5, "headers": {"host": 5}}, {"multiValueHeaders": {"traceparent": None}}),
    ],
)
def test_no_event_fails_an_invocation(tracer: Tracer, event: Any) -> None:
    @lambda_handler
    def handler(event: Any, context: Any) -> Any:
        return event

    assert handler(event, None) is event
    assert lambda_carrier(event) is not None


def test_nothing_of_ours_fails_an_invocation(tracer: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    @lambda_handler
    def handler(event: Any, context: Any) -> int:
        return 5

    monkeypatch.setattr(Tracer, "flush", lambda *_: 1 / 0)
    assert handler({}, Context()) == 5
    monkeypatch.setattr(_native, "extract", lambda *_: 1 / 0)
    assert handler({}, Context()) == 5
    with pytest.raises(TypeError, match=r"lambda_handler\(\) takes a function, not int"):
        lambda_handler(5)  # type: ignore[type-var]


def test_without_a_tracer_it_is_the_handler() -> None:
    assert lambda_handler(lambda event, context: event)(5, None) == 5


# The examples


INVOCATIONS = """
import importlib, json, sys
sys.path.insert(0, {folder!r})
handler = importlib.import_module({module!r}).handler
class Context:
    function_name = "ask"
    def get_remaining_time_in_millis(self): return 3000
for number, event in enumerate(json.loads({events!r})):
    context = Context()
    context.aws_request_id = str(number)
    print(handler(event, context)["body"])
"""


def invoke(module: str, events: list[Any], collector: Collector) -> list[str]:
    """Has a process of its own handle the events, one after the other."""
    code = INVOCATIONS.format(folder=str(EXAMPLES / "lambda"), module=module, events=json.dumps(events))
    return output(code, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}).splitlines()


def test_example_lambda_handler(collector: Collector) -> None:
    plain = {"httpMethod": "POST", "path": "/ask", "body": BODY}
    answers = invoke("handler", [*EVENTS.values(), plain, plain], collector)
    assert answers == ['{"answer": "4 characters"}'] * 6
    invocations = [span for span in collector.spans if span.name == "ask"]
    inner = [span for span in collector.spans if span.name == "answer"]
    assert [span.parent_id for span in inner] == [span.span_id for span in invocations]
    assert [span.session for span in inner] == [span.session for span in invocations]
    assert [span.session for span in invocations[:4]] == ["theirs"] * 4
    assert {span.trace_id for span in invocations[:4]} == {TRACE_ID}
    assert len({span.session for span in invocations}) == len({span.trace_id for span in invocations}) == 3
    assert {span.source for span in collector.spans} == {"lambda"}


def test_example_lambda_by_hand(collector: Collector) -> None:
    answers = invoke("by_hand", [{"body": BODY}] * 3, collector)
    assert answers == ['{"answer": "4 characters"}'] * 3
    sessions = [span.session for span in collector.spans if span.name == "answer"]
    assert len(set(sessions)) == 3, "a warm invocation is never in the session of the one before"
    for name in ("create_session", "enrich_session"):
        assert [span.session for span in collector.spans if span.name == name] == sessions


@contextmanager
def program(*arguments: str, collector: Collector) -> Iterator[str]:
    """A program that runs while the block does; yields its first line."""
    environment = clean_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    process = subprocess.Popen([sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(SECONDS)
        process.stdout.close()


def test_example_session_by_its_id(collector: Collector) -> None:
    folder = EXAMPLES / "sessions"
    with program(str(folder / "worker.py"), collector=collector) as url:
        environment = clean_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
        done = subprocess.run(
            [sys.executable, str(folder / "client.py"), url],
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
    first, second, session = done.stdout.splitlines()
    assert (first, second) == ("11 characters", "8 characters")
    spans = collector.spans
    assert {span.session for span in spans} == {session.removeprefix("session ")}
    assert sorted((span.name, span.source) for span in spans) == [
        *[("answer", "worker")] * 2,
        *[("ask", "client")] * 2,
        ("enrich_session", "client"),
    ]
    # By the id alone they are siblings: each service has traces of its own.
    assert all(span.parent_id == "" for span in spans)


def test_example_session_per_request(collector: Collector) -> None:
    code = f"""
import asyncio, sys
sys.path.insert(0, {str(EXAMPLES / "sessions")!r})
import httpx, web
async def main():
    transport = httpx.ASGITransport(web.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://web") as client:
        answers = await asyncio.gather(*(client.get("/answer", params={{"question": "x" * n}}) for n in range(3)))
        created = await client.get("/created", params={{"question": "?"}})
        missing = await client.get("/missing")
    print([answer.json()["answer"] for answer in answers], created.json()["session_id"], missing.status_code)
asyncio.run(main())
web.tracer.flush()
"""
    printed = output(code, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    assert printed.startswith("['0 characters', '1 characters', '2 characters']")
    assert printed.endswith("404")
    created = printed.split()[-2]
    begun = [span for span in collector.spans if span.name == "create_session"]
    ended = [span for span in collector.spans if span.name == "enrich_session"]
    answers = [span for span in collector.spans if span.name == "answer"]
    assert len({span.session for span in begun}) == len(begun) == len(ended) == 5
    assert sorted(span.session for span in begun) == sorted(span.session for span in ended)
    assert len({span.session for span in answers}) == 4
    assert [span.session for span in answers if span.session not in {one.session for one in begun}] == [created]
    statuses = sorted(span.attributes["honeyhive_outputs.status_code"] for span in ended)
    assert statuses == [200, 200, 200, 200, 404]
    named = by_name([span for span in begun if span.attributes["honeyhive.session_name"] == "GET /missing"])
    assert named["create_session"].under("inputs") == {"path": "/missing"}
