"""`enrich_span_context`, `start_span` and `enrich_span`."""

from __future__ import annotations

import threading
from types import MappingProxyType
from typing import Any

import pytest
from opentelemetry import trace as otel_trace
from opentelemetry.trace import SpanKind, StatusCode
from recorded import by_name, only_span_of, spans_of
from tracebaton import Span, Tracer, enrich_span_context, trace

FIELDS: dict[str, Any] = {
    "inputs": {"question": "why", "nested": {"a": [1, {"b": None}]}},
    "outputs": {"answer": 42},
    "metadata": {"m": "x"},
    "metrics": {"score": 0.25},
    "feedback": {"rating": 5},
    "config": {"model": "m1"},
    "user_properties": {"plan": "pro"},
    "error": "told",
    "attributes": {"plain": [1, 2], "other": True},
    "event_type": "model",
}


def check_fields(span: Any) -> None:
    assert span.under("inputs") == {"question": "why", "nested.a.0": 1}
    assert span.under("outputs") == {"answer": 42}
    assert span.under("metadata") == {"m": "x"}
    assert span.under("metrics") == {"score": 0.25}
    assert span.under("feedback") == {"rating": 5}
    assert span.under("config") == {"model": "m1"}
    assert span.under("user_properties") == {"plan": "pro"}
    assert span.error == "told"
    assert span.attributes["plain"] == [1, 2]
    assert span.attributes["other"] is True
    assert span.attributes["honeyhive_event_type"] == "model"


def test_every_field_of_a_block(tracer: Tracer) -> None:
    with enrich_span_context("block", **FIELDS) as span:
        assert isinstance(span, Span)
        assert otel_trace.get_current_span() is span
    assert only_span_of(tracer).name == "block"
    check_fields(only_span_of(tracer))
    assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN


async def test_every_field_of_an_async_block(tracer: Tracer) -> None:
    async with enrich_span_context("block", **FIELDS) as span:
        assert otel_trace.get_current_span() is span
    check_fields(only_span_of(tracer))
    assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN


def test_every_field_of_enrich_span(tracer: Tracer) -> None:
    with tracer.start_span("block"):
        assert tracer.enrich_span(**FIELDS) is True
    check_fields(only_span_of(tracer))


def test_blocks_nest(tracer: Tracer) -> None:
    with enrich_span_context("outer"), enrich_span_context("inner"):
        pass
    spans = by_name(spans_of(tracer))
    assert spans["inner"].parent_id == spans["outer"].span_id
    assert spans["outer"].parent_id == ""


def test_an_exception_leaves_a_block(tracer: Tracer) -> None:
    raised = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught, enrich_span_context("block"):
        raise raised
    assert caught.value is raised
    span = only_span_of(tracer)
    assert (span.status, span.message, span.error) == (2, "ValueError: mine", "mine")
    assert len(span.exceptions) == 1
    assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN


async def test_an_exception_leaves_an_async_block(tracer: Tracer) -> None:
    with pytest.raises(ValueError, match="mine"):
        async with enrich_span_context("block"):
            raise ValueError("mine")
    assert (only_span_of(tracer).status, len(only_span_of(tracer).exceptions)) == (2, 1)


def test_an_exception_with_no_text(tracer: Tracer) -> None:
    with pytest.raises(ValueError, match="^$"), enrich_span_context("block"):
        raise ValueError
    assert only_span_of(tracer).error == "ValueError"


@pytest.mark.parametrize("wrong", [5, None, b"x", ["x"]], ids=repr)
def test_a_name_of_another_type_is_a_type_error(tracer: Tracer, wrong: Any) -> None:
    with pytest.raises(TypeError, match="event_name"):
        enrich_span_context(wrong)


def test_an_unknown_keyword_is_a_type_error(tracer: Tracer) -> None:
    with pytest.raises(TypeError, match="imputs"):
        enrich_span_context("block", imputs={})  # type: ignore[call-arg]


def test_a_block_that_was_not_entered_records_nothing(tracer: Tracer) -> None:
    enrich_span_context("block")
    tracer.start_span("span")
    assert spans_of(tracer) == []


def test_fields_that_are_no_mappings(tracer: Tracer) -> None:
    with enrich_span_context("block", inputs="text", outputs=[1, 2], metrics=0.5):
        pass
    attributes = only_span_of(tracer).attributes
    assert attributes["honeyhive_inputs"] == "text"
    assert (attributes["honeyhive_outputs.0"], attributes["honeyhive_outputs.1"]) == (1, 2)
    assert attributes["honeyhive_metrics"] == 0.5


@pytest.mark.parametrize(
    ("fields", "truth"),
    [
        ({"metadata": {"a": 1}}, True),
        ({"error": "x"}, True),
        ({"attributes": {"a": 1}}, True),
        ({"event_type": "tool"}, True),
        ({"free": 1}, True),
        ({}, False),
        ({"metadata": {}}, False),
        ({"metadata": None}, False),
        ({"inputs": {"a": None}}, False),
        ({"inputs": []}, False),
        ({"attributes": {}}, False),
        ({"attributes": {"a": None}}, False),
    ],
    ids=repr,
)
def test_true_only_if_something_was_enriched(tracer: Tracer, fields: dict[str, Any], truth: bool) -> None:
    with tracer.start_span("block"):
        assert tracer.enrich_span(**fields) is truth
    added = {
        key
        for key in only_span_of(tracer).attributes
        if not key.startswith(("honeyhive.", "session.id", "honeyhive_event_type"))
    }
    assert bool(added) is truth or "event_type" in fields


def test_false_without_a_span(tracer: Tracer) -> None:
    assert tracer.enrich_span(metadata={"a": 1}) is False


def test_false_in_another_thread(tracer: Tracer) -> None:
    got: list[bool] = []
    with tracer.start_span("block"):
        thread = threading.Thread(target=lambda: got.append(tracer.enrich_span(metadata={"a": 1})))
        thread.start()
        thread.join()
    assert got == [False]


def test_false_after_the_end(tracer: Tracer) -> None:
    with tracer.start_span("block") as span:
        span.end()
        assert tracer.enrich_span(metadata={"a": 1}) is False
    assert only_span_of(tracer).under("metadata") == {}


def test_false_on_a_span_that_is_not_sampled(make_tracer: Any) -> None:
    tracer = make_tracer(sampler="always_off")
    with tracer.start_span("block"):
        assert tracer.enrich_span(metadata={"a": 1}) is False


def test_false_where_the_limit_is_reached(make_tracer: Any) -> None:
    tracer = make_tracer(max_attributes=1)
    with tracer.start_span("block", attributes={"a": 1}):
        assert tracer.enrich_span(metadata={"b": 2}) is False
        assert tracer.enrich_span(attributes={"b": 2}) is False
    assert only_span_of(tracer).dropped_attributes == 2


def test_a_dict_by_position_and_free_keywords_are_metadata(tracer: Tracer) -> None:
    with tracer.start_span("block"):
        assert tracer.enrich_span({"a": 1, "b": 1}, b=2, step="x")
    assert only_span_of(tracer).under("metadata") == {"a": 1, "b": 2, "step": "x"}


@pytest.mark.parametrize("wrong", [5, "text", [1], object()], ids=lambda it: type(it).__name__)
def test_enrich_never_raises(tracer: Tracer, wrong: Any) -> None:
    with tracer.start_span("block"):
        tracer.enrich_span(wrong)
        tracer.enrich_span(metadata=wrong)
        tracer.enrich_span(attributes=wrong)
        tracer.enrich_span(error=wrong)
    assert only_span_of(tracer).name == "block"


def test_enriching_again_adds_and_replaces(tracer: Tracer) -> None:
    with tracer.start_span("block"):
        tracer.enrich_span(metadata={"a": 1, "b": 1})
        tracer.enrich_span(metadata={"b": 2, "c": 3})
    assert only_span_of(tracer).under("metadata") == {"a": 1, "b": 2, "c": 3}


def test_enrich_span_inside_a_traced_function(tracer: Tracer) -> None:
    @trace(event_name="work")
    def work() -> None:
        with enrich_span_context("inner"):
            tracer.enrich_span(outputs={"o": 1})
        tracer.enrich_span(metadata={"m": 1})

    work()
    spans = by_name(spans_of(tracer))
    assert spans["inner"].under("outputs") == {"o": 1}
    assert spans["work"].under("metadata") == {"m": 1}


def test_start_span_with_all_there_is(tracer: Tracer) -> None:
    with tracer.start_span("other") as other:
        pass
    link = otel_trace.Link(other.get_span_context(), {"why": "x"})
    with tracer.start_span(
        "span", kind=SpanKind.SERVER, attributes={"a.b": 1}, links=[link], start_time=1_700_000_000_000_000_000
    ) as span:
        assert span.kind is SpanKind.SERVER
    recorded = by_name(spans_of(tracer))["span"]
    assert recorded.kind == 2
    assert recorded.attributes["a.b"] == 1
    assert "a_b" not in recorded.attributes
    assert recorded.start_ns == 1_700_000_000_000_000_000
    assert [(one.span_id, one.attributes) for one in recorded.links] == [
        (by_name(spans_of(tracer))["other"].span_id, {"why": "x"})
    ]


@pytest.mark.parametrize("record", [True, False])
@pytest.mark.parametrize("status", [True, False])
def test_start_span_says_what_an_exception_does(tracer: Tracer, record: bool, status: bool) -> None:
    with (
        pytest.raises(ValueError, match="x"),
        tracer.start_span("span", record_exception=record, set_status_on_exception=status),
    ):
        raise ValueError("x")
    span = only_span_of(tracer)
    assert (len(span.exceptions), span.status) == (int(record), 2 if status else 0)


def test_start_span_in_a_given_context(tracer: Tracer) -> None:
    with tracer.start_span("parent") as parent:
        pass
    context = otel_trace.set_span_in_context(parent)
    with tracer.start_span("span", context=context):
        pass
    spans = by_name(spans_of(tracer))
    assert spans["span"].parent_id == spans["parent"].span_id


async def test_start_span_as_async_with(tracer: Tracer) -> None:
    async with tracer.start_span("span") as span:
        span.set_status(StatusCode.OK)
    assert only_span_of(tracer).status == 1


def test_trace_of_the_tracer(tracer: Tracer) -> None:
    with tracer.trace("span", event_type="model", key="value"):
        pass
    span = only_span_of(tracer)
    assert span.attributes["honeyhive_event_type"] == "model"
    assert span.attributes["key"] == "value"


class _Text(str):
    __slots__ = ()


CAPTURED: dict[str, dict[Any, Any]] = {
    "texts and numbers": {"a": "x", "b": 1, "c": 0.5, "d": True, "e": None},
    "keys that name secrets": {"api_key": "sk-1", "token": 5, "user_password": "p"},
    "keys that are paths": {"a.b": 1, "a": {"b": 2}, "": 3},
    "keys that are no texts": {1: "one", None: "none", ("a", 1): "pair"},
    "a large integer": {"n": 2**70},
    "texts of another class": {_Text("k"): "v", "k2": _Text("v")},
    "lone surrogates": {"k": "\ud800", "\udc00": 1},
    "long texts": {"k": "x" * 70_000},
    "too many": {f"k{number}": number for number in range(40)},
    "nothing": {},
}


@pytest.mark.parametrize("kind", CAPTURED)
def test_a_dict_is_captured_as_any_other_mapping_is(tracer: Tracer, kind: str) -> None:
    for _ in range(2):  # the second time its keys are known
        with enrich_span_context("dict", inputs=CAPTURED[kind], tracer=tracer):
            pass
        with enrich_span_context("mapping", inputs=MappingProxyType(CAPTURED[kind]), tracer=tracer):
            pass
    found = [list(span.attributes.items()) for span in spans_of(tracer)]
    inputs = [[item for item in attributes if item[0].startswith("honeyhive_inputs")] for attributes in found]
    assert inputs == [inputs[1]] * 4
