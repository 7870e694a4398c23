"""The vectors that every language reads, through the Python surface: `tests/vectors/README.md`.

Cases about what Python does not show (mutation of core's baggage, truncation, a browser's origin) are core's own tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.context.context import Context
from opentelemetry.trace.status import StatusCode
from recorded import ROUTING, only_span_of
from tracebaton import (
    Policy,
    TracebatonPropagator,
    Tracer,
    extract_context_from_carrier,
    inject_context_into_carrier,
    with_distributed_trace_context,
)
from vector_files import cases

Make = Callable[..., Tracer]
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def octets(pairs: list[list[str]]) -> list[tuple[str, bytes]]:
    """Header values are latin-1 code points; a framework hands them out as bytes."""
    return [(name, value.encode("latin-1")) for name, value in pairs]


def span_facts(span: Any) -> dict[str, Any] | None:
    if not span.is_valid:
        return None
    return {
        "trace_id": f"{span.trace_id:032x}",
        "span_id": f"{span.span_id:016x}",
        "flags": int(span.trace_flags),
        "tracestate": span.trace_state.to_header(),
    }


def kept_of(text: str, ours: list[str]) -> list[str]:
    """The members of a baggage text but for those that ours replace."""
    aliases = {prefix + key for key in ours for prefix in ("", "honeyhive.", "honeyhive_")}
    members = text.split(",") if text else []
    return [member for member in members if member.split("=")[0].strip() not in aliases]


@cases("extract")
def test_extract(make_tracer: Make, case: dict[str, Any]) -> None:
    tracer = make_tracer(policy=case["input"].get("policy"), project=None)
    expected = case["expected"]
    with with_distributed_trace_context(octets(case["input"]["carrier"]), tracer) as context:
        span = otel_trace.get_current_span(context).get_span_context()
        with tracer.start_span("s", attributes=None):
            pass
        sent = inject_context_into_carrier({})
    assert span_facts(span) == expected["span"]
    assert set(tracer.stats()["inbound_dropped"]) == set(expected["dropped"])
    if expected["span"] is not None and not expected["span"]["flags"] & 1:
        return  # not sampled: no span to look at
    recorded = only_span_of(tracer)
    assert recorded.session == (expected["session"] or "own")
    assert recorded.project == expected["project"]
    links = [
        {"trace_id": link.trace_id, "span_id": link.span_id, "flags": link.flags & 3, "tracestate": link.trace_state}
        for link in recorded.links
    ]
    assert links == ([expected["link"]] if expected["link"] else [])
    # Ours first, then what was kept of the caller's, as it came and as far as there is room.
    ours = ["session_id", *(["project"] if recorded.project else []), "source"]
    members = sent["baggage"].split(",")
    assert [member.split("=")[0] for member in members[: len(ours)]] == ours
    kept = kept_of(expected["baggage"], ours)
    assert members[len(ours) :] == kept[: 180 - len(ours)]


@cases("extract")
def test_extract_as_other_carriers(make_tracer: Make, case: dict[str, Any]) -> None:
    """The same by every form in which a carrier can come that holds these headers."""
    tracer = make_tracer(policy=case["input"].get("policy"))
    pairs = octets(case["input"]["carrier"])
    by_pairs = extract_context_from_carrier(pairs, tracer)
    for carrier in (
        [(name.encode(), value) for name, value in pairs if name.isascii()],
        tuple([name, value] for name, value in pairs),
    ):
        context = extract_context_from_carrier(carrier, tracer)
        assert baggage.get_all(context) == baggage.get_all(by_pairs)
        assert (
            otel_trace.get_current_span(context).get_span_context()
            == otel_trace.get_current_span(by_pairs).get_span_context()
        )


def injectable(case: dict[str, Any]) -> bool:
    """Whether the case can be told through a tracer: it always has a source, and it names its values itself."""
    given = case["input"]
    return (
        bool(given.get("session"))
        and bool(given.get("source"))
        and "policy" not in given
        and "origin" not in given
        and all(len(entry) == 2 for entry in given.get("application", []))
    )


@cases("inject", injectable)
def test_inject(make_tracer: Make, case: dict[str, Any]) -> None:
    given = case["input"]
    tracer = make_tracer(session_id=given["session"], project=given.get("project"), source=given["source"])
    context = Context()
    if given.get("inbound"):
        # Of sessions that came in the case says itself what holds.
        policy = Policy(accept_session=True)
        headers = [("baggage", given["inbound"].encode("latin-1"))]
        token = otel_context.attach(context)
        with with_distributed_trace_context(headers, tracer, session_id=given["session"], policy=policy) as inner:
            context = Context(inner)
        otel_context.detach(token)
    if "api" in given:
        context = baggage.clear(context)
        for name, value in given["api"]:
            context = baggage.set_baggage(name, value, context)
    for name, value in given.get("application", []):
        context = baggage.set_baggage(name, value, context)
    if given.get("span"):
        span = given["span"]
        lines = {
            "traceparent": f"00-{span['trace_id']}-{span['span_id']}-{span['flags']:02x}",
            "tracestate": span["tracestate"],
        }
        remote = otel_trace.get_current_span(TracebatonPropagator().extract(lines, Context()))
        context = otel_trace.set_span_in_context(remote, context)
    carrier: list[Any] = [tuple(pair) for pair in given.get("carrier", [])]
    token = otel_context.attach(context)
    to = given.get("to")
    for url in to if isinstance(to, list) else [to]:
        inject_context_into_carrier(carrier, tracer, url=url)
    otel_context.detach(token)
    assert sorted(carrier) == sorted(tuple(pair) for pair in case["expected"]["carrier"])


@cases("traceparent")
def test_traceparent(tracer: Tracer, case: dict[str, Any]) -> None:
    context = extract_context_from_carrier(octets([["traceparent", value] for value in case["input"]["headers"]]))
    token = otel_context.attach(context)
    sent = inject_context_into_carrier({})
    otel_context.detach(token)
    assert sent.get("traceparent") == case["expected"]["text"]
    assert set(tracer.stats()["inbound_dropped"]) == set(case["expected"]["dropped"])


@cases("tracestate", lambda case: "steps" not in case["input"])
def test_tracestate(tracer: Tracer, case: dict[str, Any]) -> None:
    headers = [["traceparent", CALLER], *(["tracestate", value] for value in case["input"]["headers"])]
    context = extract_context_from_carrier(octets(headers))
    state = otel_trace.get_current_span(context).get_span_context().trace_state
    assert list(state.items()) == [tuple(member) for member in case["expected"]["members"]]
    token = otel_context.attach(context)
    sent = inject_context_into_carrier({})
    otel_context.detach(token)
    assert sent.get("tracestate", "") == case["expected"]["text"]
    assert set(tracer.stats()["inbound_dropped"]) == set(case["expected"]["dropped"])


def steps_of_the_api(case: dict[str, Any]) -> bool:
    """OpenTelemetry's class has no truncation, and counts nothing."""
    steps = case["input"].get("steps", [])
    return bool(steps) and not any("truncate" in step for step in steps)


@cases("tracestate", steps_of_the_api)
def test_tracestate_steps(tracer: Tracer, case: dict[str, Any]) -> None:
    headers = [["traceparent", CALLER], *(["tracestate", value] for value in case["input"]["headers"])]
    context = extract_context_from_carrier(octets(headers))
    state = otel_trace.get_current_span(context).get_span_context().trace_state
    for step in case["input"]["steps"]:
        state = state.update(*step["insert"]) if "insert" in step else state.delete(step["delete"])
    assert state.to_header() == case["expected"]["text"]
    assert list(state.items()) == [tuple(member) for member in case["expected"]["members"]]


def read_only(case: dict[str, Any]) -> bool:
    return set(case["input"]) <= {"headers", "max_members", "max_bytes"}


@cases("baggage", read_only)
def test_baggage(make_tracer: Make, case: dict[str, Any]) -> None:
    given = dict(case["input"])
    headers = octets([["baggage", value] for value in given.pop("headers")])
    tracer = make_tracer(policy=given)
    context = extract_context_from_carrier(headers, tracer)
    members = case["expected"]["members"]
    assert baggage.get_all(context) == {member["name"]: member["value"] for member in members}
    assert set(tracer.stats()["inbound_dropped"]) == set(case["expected"]["dropped"])


@cases("baggage", lambda case: "api" in case["input"])
def test_baggage_reconciled_with_the_api(case: dict[str, Any]) -> None:
    headers = octets([["baggage", value] for value in case["input"]["headers"]])
    context = baggage.clear(TracebatonPropagator().extract(headers, Context()))
    for entry in case["input"]["api"]:
        context = baggage.set_baggage(entry["name"], entry["value"], context)
    sent: dict[str, str] = {}
    TracebatonPropagator().inject(sent, context)
    members = sent.get("baggage", "").split(",")
    for member in filter(None, case["expected"]["inbound"].split(",")):
        assert member.strip() in [one.strip() for one in members]
    names = [member.split("=")[0].strip() for member in members if member]
    for entry in case["expected"]["application"]:
        # A name that is no token cannot be sent (rule B13).
        assert (entry["name"] in names) is (" " not in entry["name"])


@cases("policy", lambda case: "to" in case["input"] and "origin" not in case["input"])
def test_policy(make_tracer: Make, case: dict[str, Any]) -> None:
    try:
        make_tracer(policy=case["input"].get("policy"))
    except ValueError as error:
        # Python says so at once where core has a pattern that matches nothing.
        assert "propagate_to" in str(error)
        assert case["expected"]["baggage"] is False
        return
    context = TracebatonPropagator().extract({"traceparent": CALLER}, Context())
    token = otel_context.attach(context)
    sent = inject_context_into_carrier({}, url=case["input"]["to"])
    otel_context.detach(token)
    assert {"trace": "traceparent" in sent, "baggage": "baggage" in sent} == case["expected"]


@cases("policy", lambda case: "pattern" in case["input"])
def test_patterns_of_hosts(case: dict[str, Any]) -> None:
    pattern = case["input"]["pattern"]
    if case["expected"]["valid"]:
        assert Policy(propagate_to=[pattern]).propagate_to == (pattern,)
        return
    with pytest.raises(ValueError, match="propagate_to"):
        Policy(propagate_to=["api.example.com", pattern])


@cases("parent")
def test_which_span_is_the_parent(make_tracer: Make, case: dict[str, Any]) -> None:
    given, expected = case["input"], case["expected"]
    tracer = make_tracer(policy=given.get("policy"))
    headers = octets(given["carrier"])
    context = Context()
    current = given["current"]
    if current:
        span = otel_trace.SpanContext(
            int(current["trace_id"], 16), int(current["span_id"], 16), current["remote"], otel_trace.TraceFlags(1)
        )
        context = otel_trace.set_span_in_context(otel_trace.NonRecordingSpan(span), context)
    token = otel_context.attach(context)
    with with_distributed_trace_context(headers, tracer), tracer.start_span("s"):
        pass
    otel_context.detach(token)
    recorded = only_span_of(tracer)
    parents = {
        "current": (current or {}).get("span_id"),
        "caller": CALLER.split("-")[2],
        None: "",
    }
    assert recorded.parent_id == parents[expected["parent"]]
    assert bool(recorded.links) is expected["link"]


@cases("session", lambda case: "raw" in case["input"])
def test_session_ids(make_tracer: Make, case: dict[str, Any]) -> None:
    raw, expected = case["input"]["raw"], case["expected"]
    if not expected["valid"]:
        with pytest.raises(ValueError, match="session_id"):
            make_tracer(session_id=raw)
        return
    assert make_tracer(session_id=raw).session_id == raw


@cases("session", lambda case: "steps" in case["input"])
def test_which_session_holds(make_tracer: Make, case: dict[str, Any]) -> None:
    for ask in case["input"]["asks"]:
        if ask.get("tracer") is None:
            continue  # without a tracer there is no session of a span
        tracers: dict[int, Tracer] = {}

        def tracer_of(number: int, asked: dict[str, Any] = ask, known: dict[int, Tracer] = tracers) -> Tracer:
            if number not in known:
                policy = asked.get("policy") if number == asked["tracer"] else None
                known[number] = make_tracer(session_id=f"own {number}", project=None, policy=policy)
            return known[number]

        context = _after(case["input"]["steps"], tracer_of)
        answer = case["expected"]["answers"][case["input"]["asks"].index(ask)]
        tracer = tracer_of(ask["tracer"])
        token = otel_context.attach(context)
        with tracer.start_span("s"):
            pass
        otel_context.detach(token)
        recorded = only_span_of(tracer)
        assert recorded.session == (answer["session"] or f"own {ask['tracer']}")
        assert recorded.project == answer["project"]
        assert bool(recorded.links) is answer["link"]


STATUSES = {"unset": StatusCode.UNSET, "ok": StatusCode.OK, "error": StatusCode.ERROR}


def context_of(trace_id: str, part: dict[str, Any]) -> otel_trace.SpanContext:
    flags = otel_trace.TraceFlags(part["flags"])
    return otel_trace.SpanContext(int(trace_id, 16), 0xB7AD6B7169203331, part["is_remote"], flags)


def below(trace_id: str, parent: dict[str, Any] | None) -> Context:
    """A context with this parent; without one, an empty one."""
    if parent is None:
        return Context()
    return otel_trace.set_span_in_context(otel_trace.NonRecordingSpan(context_of(trace_id, parent)), Context())


@cases("span")
def test_span(make_tracer: Make, case: dict[str, Any]) -> None:
    given, expected, trace_id = case["input"], case["expected"], "05" * 16
    names = {"limit": "attributes", "link_limit": "attributes_per_link", "value_limit": "value_length"}
    limits = {name: given[key] for key, name in names.items() if key in given}
    tracer = make_tracer(sampler="always_on", limits=limits)
    otel = tracer.provider.get_tracer("library")
    span = otel.start_span("s", below(trace_id, given["parent"]))
    for key, value in given.get("attributes", []):
        span.set_attribute(key, value)
    for link in given.get("links", []):
        span.add_link(context_of(trace_id, link), link.get("attributes"))
    for name, description in given.get("statuses", []):
        span.set_status(STATUSES[name], description or None)
    span.end()
    recorded = only_span_of(tracer)
    set_here = {key for key, _ in given.get("attributes", [])}
    attributes = [
        [key, value]
        for key, value in recorded.attributes.items()
        if key != "honeyhive_event_type" and (key not in ROUTING or key in set_here)
    ]
    names_of = {status.value: name for name, status in STATUSES.items()}
    found = {
        "flags": recorded.flags,
        "attributes": attributes,
        "event_type": recorded.attributes["honeyhive_event_type"],
        "dropped_attributes": recorded.dropped_attributes,
        "links": [
            {"flags": link.flags, "dropped_attributes": link.dropped_attributes}
            | ({"attributes": [[key, value] for key, value in link.attributes.items()]} if link.attributes else {})
            for link in recorded.links
        ],
        "status": [names_of[recorded.status], recorded.message] if recorded.status else None,
    }
    assert {key: found[key] for key in expected} == expected


@cases("sampler", lambda case: case["parent"] is not None or not case["sampler"].endswith("ratio"))
def test_sampler(make_tracer: Make, case: dict[str, Any]) -> None:
    arguments = {"sampler": case["sampler"], "sampler_argument": case.get("argument")}
    tracer = make_tracer(**arguments, random_flag=case.get("random_flag"))
    span = tracer.provider.get_tracer("library").start_span("s", below(case["trace_id"], case["parent"]))
    flags = int(span.get_span_context().trace_flags)
    assert {"sampled": span.is_recording(), "flags": flags} == case["expected"]


def _after(steps: list[dict[str, Any]], tracer_of: Callable[[int], Tracer]) -> Context:
    """The context after the steps."""
    context = Context()
    for step in steps:
        token = otel_context.attach(context)
        if "with_session" in step:
            number, session = step["with_session"]
            block = with_distributed_trace_context({}, tracer_of(number), session_id=session)
            with block as inner:
                context = Context(inner)
        elif step["with_inbound"] is None:
            context = TracebatonPropagator().extract(octets(step["carrier"]), context)
        else:
            # A policy of the call is whole: it does not take what it does not say from the tracer's.
            policy = step.get("policy", {})
            block = with_distributed_trace_context(
                octets(step["carrier"]), tracer_of(step["with_inbound"]), policy=policy
            )
            with block as inner:
                context = Context(inner)
        otel_context.detach(token)
    return context
