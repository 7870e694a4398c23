"""Limits, which never cost a span its session, and secrets, which never leave."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from recorded import ROUTING, only_span_of, spans_of
from tracebaton import Tracer, enrich_span_context, trace

Make = Callable[..., Tracer]


def check_routing(span: Any) -> None:
    assert set(ROUTING) <= set(span.attributes)
    assert span.session == "own"
    assert span.project == "shop"


def test_5000_attributes_cost_no_routing_attribute(tracer: Tracer) -> None:
    with tracer.start_span("many") as span:
        for number in range(5_000):
            span.set_attribute(f"key {number}", number)
    recorded = only_span_of(tracer)
    check_routing(recorded)
    assert recorded.attributes["honeyhive_event_type"] == "tool"
    assert recorded.attributes["key 0"] == 0
    kept = sum(key.startswith("key ") for key in recorded.attributes)
    assert 1_000 <= kept <= 1_024
    assert recorded.dropped_attributes == 5_000 - kept


def test_a_list_of_1100_items_as_result(tracer: Tracer) -> None:
    trace(lambda: list(range(1_100)))()
    recorded = only_span_of(tracer)
    check_routing(recorded)
    assert recorded.under("outputs")


def test_every_tracer_has_the_limit(make_tracer: Make) -> None:
    make_tracer()
    second = make_tracer()
    with second.start_span("many") as span:
        span.set_attributes({f"key {number}": number for number in range(500)})
    assert sum(key.startswith("key ") for key in only_span_of(second).attributes) == 500


@pytest.mark.parametrize("limit", [0, 1, 5])
def test_a_limit_of_ones_own(make_tracer: Make, limit: int) -> None:
    tracer = make_tracer(max_attributes=limit)
    with tracer.start_span("many", attributes={f"key {number}": number for number in range(10)}) as span:
        span.set_attribute("key 0", "again")
    recorded = only_span_of(tracer)
    check_routing(recorded)
    assert sum(key.startswith("key ") for key in recorded.attributes) == limit
    assert recorded.dropped_attributes == 10 - limit + (1 if limit == 0 else 0)
    if limit:
        assert recorded.attributes["key 0"] == "again"


def test_routing_attributes_set_by_hand_stay_one_each(tracer: Tracer) -> None:
    with tracer.start_span("s") as span:
        for key in ROUTING:
            span.set_attribute(key, "mine")
    attributes = only_span_of(tracer).attributes  # no key twice: the reader asserts it
    assert attributes["session.id"] == "mine"


def test_events_and_links(make_tracer: Make) -> None:
    tracer = make_tracer(max_events=2, max_links=1)
    with tracer.start_span("other") as other:
        pass
    with tracer.start_span("many") as span:
        for number in range(5):
            span.add_event(f"event {number}")
            span.add_link(other.get_span_context())
    recorded = spans_of(tracer)[1]
    assert [event.name for event in recorded.events] == ["event 0", "event 1"]
    assert (recorded.dropped_events, len(recorded.links), recorded.dropped_links) == (3, 1, 4)
    assert (span.dropped_events, span.dropped_links) == (3, 4)


def test_past_the_leaf_limit_a_node_is_one_json_text(tracer: Tracer) -> None:
    big = {f"k{number}": {"n": number} for number in range(3_000)}
    with tracer.start_span("s"):
        tracer.enrich_span(inputs={"small": 1, "big": big})
    recorded = only_span_of(tracer)
    inputs = recorded.under("inputs")
    assert inputs["small"] == 1
    texts = [value for value in inputs.values() if isinstance(value, str)]
    assert any(isinstance(json.loads(text), dict) for text in texts)
    assert len(recorded.attributes) <= 1_024 + len(ROUTING) + 1


def test_a_captured_value_has_a_cap_in_bytes(tracer: Tracer) -> None:
    with tracer.start_span("s"):
        tracer.enrich_span(inputs={"short": "✓" * 100, "long": "✓" * 1_000_000})
    inputs = only_span_of(tracer).under("inputs")
    assert inputs["short"] == "✓" * 100
    assert 60_000 <= len(inputs["long"].encode()) <= 65_600


def test_what_is_passed_as_attribute_has_no_cap(tracer: Tracer) -> None:
    with tracer.start_span("s", attributes={"long": "x" * 200_000}):
        pass
    assert len(only_span_of(tracer).attributes["long"]) == 200_000


def test_a_million_items_take_no_time(tracer: Tracer) -> None:
    @trace
    def work(items: Any) -> Any:
        return items

    big = list(range(1_000_000))
    assert work(big) is big
    check_routing(only_span_of(tracer))


SECRETS = [
    *("password", "passwd", "secret", "token", "authorization", "cookie", "credential", "credentials"),
    *("PASSWORD", "db_password", "dbPassword", "user-secret", "accessToken", "Authorization", "x.cookie", "AWSToken"),
    *("api_key", "apiKey", "API-KEY", "private_key", "secret_key", "secretKey", "access_key", "x_api_key"),
]
PUBLIC = ["tokens", "token_count", "key", "keyboard", "passwords", "secretary", "cookie_jar", "primary_key", "a_b"]


@pytest.mark.parametrize("key", SECRETS)
def test_secrets_are_replaced(tracer: Tracer, key: str) -> None:
    @trace(event_name="work")
    def work(**arguments: Any) -> Any:
        return {key: "hunter2", "list": [{key: "hunter2"}]}

    work(**{key: "hunter2", "other": b"shown"})
    with enrich_span_context("block", inputs={"deep": {key: "hunter2"}}, metadata={key: b"hunter2"}):
        tracer.enrich_span(config={key: ["hunter2"]}, outputs={key: {"a": "hunter2"}})
    for span in spans_of(tracer):
        assert "hunter2" not in str(span.attributes), span.attributes
    assert "[redacted]" in str(spans_of(tracer)[0].under("inputs"))
    assert "[redacted]" in str(spans_of(tracer)[0].under("outputs"))


@pytest.mark.parametrize("key", PUBLIC)
def test_what_is_no_secret_stays(tracer: Tracer, key: str) -> None:
    with enrich_span_context("block", inputs={key: "shown"}):
        pass
    assert only_span_of(tracer).under("inputs") == {key: "shown"}


def test_numbers_stay(tracer: Tracer) -> None:
    with enrich_span_context("block", metrics={"token": 5, "api_key": 1.5, "secret": True}):
        pass
    assert only_span_of(tracer).under("metrics") == {"token": 5, "api_key": 1.5, "secret": True}


def test_an_argument_of_a_traced_function(tracer: Tracer) -> None:
    @trace
    def login(user: str, password: str, api_key: str = "hunter3") -> str:
        return user

    login("u", "hunter2")
    login("u", password="hunter2", api_key="hunter3")
    for span in spans_of(tracer):
        assert span.under("inputs")["user"] == "u"
        assert span.under("inputs")["password"] == "[redacted]"
        assert "hunter" not in str(span.attributes)


def test_redaction_can_be_turned_off(make_tracer: Make) -> None:
    tracer = make_tracer(redact=False)
    with enrich_span_context("block", inputs={"password": "hunter2"}):
        pass
    assert only_span_of(tracer).under("inputs") == {"password": "hunter2"}


def test_a_secret_in_a_json_text_past_the_leaf_limit(tracer: Tracer) -> None:
    big = {f"k{number}": {"password": "hunter2"} for number in range(3_000)}
    with enrich_span_context("block", inputs={"big": big}):
        pass
    assert "hunter2" not in str(only_span_of(tracer).attributes)


def test_what_is_passed_as_attribute_stays(tracer: Tracer) -> None:
    with tracer.start_span("s", attributes={"app.token": "shown"}):
        pass
    assert only_span_of(tracer).attributes["app.token"] == "shown"
