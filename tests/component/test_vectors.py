"""The vectors that every language reads (`tests/vectors/README.md`), in every host of the component and the module.

Not here, since the interfaces do not show it:

- `settings.json`: arguments of `Tracer.init` and environment variables. The component has no tracer and reads neither.
- `registration.json`: what a tracer tells HoneyHive about its sessions.
- `baggage.json`, cases with `write`: the writer of baggage, which `inject` uses.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from vector_files import VECTORS, cases

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SKIPPED = {"settings", "registration"}


def test_every_file_is_read() -> None:
    source = Path(__file__).read_text()
    files = {path.stem for path in VECTORS.glob("*.json")}
    assert {file for file in files if f'@cases("{file}"' not in source} == SKIPPED


def pairs(carrier: Any) -> list[tuple[str, str]]:
    """Header values are latin-1 code points, in the vectors as in the interface."""
    return [(name, value) for name, value in carrier or []]


def policy_of(host: Any, given: dict[str, Any] | None) -> Any:
    if given is None:
        return None
    return host.call("default-policy") | {name.replace("_", "-"): value for name, value in given.items()}


def span_of(given: Any) -> Any:
    """A span of a vector as a context."""
    if given is None:
        return None
    return {
        "trace-id": given["trace_id"],
        "span-id": given.get("span_id", "09" * 8),
        "trace-flags": given.get("flags", 1),
        "trace-state": given.get("tracestate", ""),
        "is-remote": given.get("is_remote", given.get("remote", False)),
    }


def facts(context: Any) -> Any:
    if context is None:
        return None
    names = {"trace-id": "trace_id", "span-id": "span_id", "trace-flags": "flags", "trace-state": "tracestate"}
    return {short: context[name] for name, short in names.items()}


def entry_of(given: Any) -> dict[str, Any]:
    if isinstance(given, dict):
        return {"name": given["name"], "value": given["value"], "properties": given.get("properties")}
    return {"name": given[0], "value": given[1], "properties": given[2] if len(given) > 2 else None}


NOTHING: dict[str, Any] = {
    "span": None,
    "session": None,
    "project": None,
    "source": None,
    "application": [],
    "is-api-view": False,
    "inbound": "",
    "policy": None,
    "destination": None,
    "origin": None,
}


def sent(host: Any, context: Any) -> dict[str, str]:
    """The headers that are written for a context into an empty carrier."""
    kind, injected = host.call("inject", [], NOTHING | {"span": context})
    assert kind == "ok"
    return dict(injected["headers"])


@cases("extract")
def test_extract(host: Any, case: dict[str, Any]) -> None:
    given, expected = case["input"], case["expected"]
    policy = policy_of(host, given.get("policy"))
    found = host.call("extract", pairs(given["carrier"]), policy)
    assert {
        "span": facts(found["span"]),
        "link": facts(found["link"]),
        "baggage": found["baggage"],
        "session": found["session"],
        "project": found["project"],
        "dropped": sorted(found["dropped"]),
    } == expected | {"dropped": sorted(expected["dropped"])}
    findings = host.call("explain", pairs(given["carrier"]), policy, True)
    assert {one["rule"] for one in findings if one["verdict"] == "dropped" and one["rule"]} == set(found["dropped"])


@cases("inject")
def test_inject(host: Any, case: dict[str, Any]) -> None:
    given, expected = case["input"], case["expected"]
    out = NOTHING | {
        "span": span_of(given.get("span")),
        "session": given.get("session"),
        "project": given.get("project"),
        "source": given.get("source"),
        "application": [entry_of(one) for one in given.get("api", given.get("application", []))],
        "is-api-view": "api" in given,
        "inbound": given.get("inbound") or "",
        "policy": policy_of(host, given.get("policy")),
        "origin": given.get("origin"),
    }
    carrier, dropped = pairs(given.get("carrier")), []
    to = given.get("to")
    for destination in to if isinstance(to, list) else [to]:
        kind, injected = host.call("inject", carrier, out | {"destination": destination})
        assert kind == "ok", injected
        carrier, dropped = injected["headers"], injected["dropped"]
    assert sorted(carrier) == sorted(pairs(expected["carrier"]))
    assert sorted(dropped) == sorted(expected["dropped"])


@cases("explain")
def test_explain(host: Any, case: dict[str, Any]) -> None:
    given = case["input"]
    findings = host.call("explain", pairs(given["carrier"]), policy_of(host, given.get("policy")), False)
    place = [one["header"] if one["position"] is None else f"{one['header']}[{one['position']}]" for one in findings]
    found = [[at, one["verdict"], one["rule"]] for at, one in zip(place, findings, strict=True)]
    assert found == case["expected"]["findings"]
    assert all(one["sentence"].endswith(".") and one["text"] is None for one in findings)


@cases("traceparent")
def test_traceparent(host: Any, case: dict[str, Any]) -> None:
    given, expected = case["input"], case["expected"]
    found = host.call("extract", [("traceparent", value) for value in given["headers"]], None)
    assert found["dropped"] == expected["dropped"]
    if found["span"] is None:
        assert expected["text"] is None
        return
    read = {name: value for name, value in facts(found["span"]).items() if name != "tracestate"}
    assert read == {name: expected[name] for name in read}
    assert sent(host, found["span"])["traceparent"] == expected["text"]
    if child := given.get("child"):
        sampler = ("always-on" if child["sampled"] else "always-off", None)
        options = {"sampler": sampler, "random-flag": True, "trace-id": None, "span-id": child["span_id"]}
        kind, context = host.call("new-child", found["span"], options)
        assert kind == "ok"
        text = sent(host, context)["traceparent"]
        assert {"text": text, "remote": context["is-remote"]} == expected["child"]


@cases("tracestate")
def test_tracestate(host: Any, case: dict[str, Any]) -> None:
    given, expected = case["input"], case["expected"]
    headers = [("traceparent", CALLER), *(("tracestate", value) for value in given["headers"])]
    found = host.call("extract", headers, None)
    text, dropped = found["span"]["trace-state"], set(found["dropped"])
    for step in given.get("steps", []):
        if "truncate" in step:
            kind, answer = host.call("tracestate-truncate", text, step["truncate"])
            assert kind == "ok"
            dropped |= set(answer["dropped"])
            answer = answer["text"]
        elif "insert" in step:
            kind, answer = host.call("tracestate-insert", text, *step["insert"])
        else:
            kind, answer = host.call("tracestate-delete", text, step["delete"])
        if kind == "ok":
            text = answer
        else:
            assert answer[0] == "tracestate"
            dropped.add(answer[1])
    assert text == expected["text"]
    assert dropped == set(expected["dropped"])
    kind, members = host.call("tracestate-members", text)
    assert (kind, [list(member) for member in members]) == ("ok", expected["members"])


@cases("baggage", lambda case: "headers" in case["input"] and "api" not in case["input"])
def test_baggage(host: Any, case: dict[str, Any]) -> None:
    given, expected = case["input"], case["expected"]
    limits = {name: given[name] for name in ("max_members", "max_bytes") if name in given}
    headers = [("baggage", value) for value in given["headers"]]
    found = host.call("extract", headers, policy_of(host, limits))
    text, dropped = found["baggage"], set(found["dropped"])
    for step in given.get("steps", []):
        if "insert" in step:
            kind, answer = host.call("baggage-insert", text, entry_of(step["insert"]))
        else:
            kind, answer = "ok", host.call("baggage-remove", text, step["remove"])
        if kind == "ok":
            text = answer
        else:
            assert answer[0] == "baggage"
            dropped.add(answer[1])
    assert text == expected["text"]
    assert dropped == set(expected["dropped"])
    members = host.call("baggage-members", text)
    named = [{name.replace("-", "_"): value for name, value in member.items()} for member in members]
    assert named == expected["members"]


@cases("baggage", lambda case: "api" in case["input"])
def test_reconcile(host: Any, case: dict[str, Any]) -> None:
    given = case["input"]
    inbound = host.call("extract", [("baggage", value) for value in given["headers"]], None)["baggage"]
    found = host.call("reconcile", inbound, [entry_of(one) for one in given["api"]])
    entries = [{name: value for name, value in one.items() if value is not None} for one in found["application"]]
    assert {"application": entries, "inbound": found["inbound"]} == case["expected"]


@cases("carrier")
def test_carrier(host: Any, case: dict[str, Any]) -> None:
    given, expected = case["input"], case["expected"]
    carrier = pairs(given["carrier"])
    if "set" in given:
        assert sorted(host.call("set-header", carrier, *given["set"])) == sorted(pairs(expected["carrier"]))
    else:
        assert host.call("collect", carrier) == expected


@cases("parent")
def test_parent(host: Any, case: dict[str, Any]) -> None:
    given, expected = case["input"], case["expected"]
    found = host.call("extract", pairs(given["carrier"]), policy_of(host, given.get("policy")))
    current = span_of(given["current"])
    kind, choice = host.call("choose-parent", found["span"], found["link"], current)
    assert kind == "ok"
    parent = {"caller": "caller", "current": "current" if current else None, "none": None}[choice]
    assert {"parent": parent, "link": parent is None and found["link"] is not None} == expected


@cases("policy")
def test_policy(host: Any, case: dict[str, Any]) -> None:
    given, expected = case["input"], case["expected"]
    if "pattern" in given:
        assert {"valid": host.call("is-host-pattern", given["pattern"])} == expected
        return
    kind, answer = host.call("destination", policy_of(host, given.get("policy")), given["to"], given.get("origin"))
    if kind == "err":
        # Said at once, where core has a pattern that matches nothing.
        case_name, at = answer
        assert case_name == "propagate-to"
        assert not host.call("is-host-pattern", given["policy"]["propagate_to"][at])
        assert expected["baggage"] is False
        return
    assert answer == expected


@cases("session", lambda case: "raw" in case["input"])
def test_session_ids(host: Any, case: dict[str, Any]) -> None:
    expected = case["expected"]
    kind, answer = host.call("honeyhive-session", case["input"]["raw"])
    if expected["valid"]:
        assert (kind, answer) == ("ok", expected["honeyhive"])
    else:
        assert (kind, answer[0]) == ("err", "session")
        assert answer[1] == ("S2" if case["input"]["raw"] else "S1")


@cases("session", lambda case: "steps" in case["input"])
def test_which_session_holds(host: Any, case: dict[str, Any]) -> None:
    given = case["input"]
    steps: list[Any] = []
    for step in given["steps"]:
        if "with_session" in step:
            steps.append(("session", tuple(step["with_session"])))
        else:
            inbound = host.call("extract", pairs(step["carrier"]), policy_of(host, step.get("policy")))
            steps.append(("inbound", (step["with_inbound"], inbound)))
    answers = []
    for ask in given["asks"]:
        kind, found = host.call("what-holds", steps, ask.get("tracer"), policy_of(host, ask.get("policy")))
        assert kind == "ok"
        answers.append(found | {"link": found["link"] is not None})
    named = [{name.replace("is-inbound", "inbound"): it for name, it in one.items()} for one in answers]
    assert named == case["expected"]["answers"]


def nodes(value: Any) -> list[Any]:
    """A value as the `conventions` of the files have it, as nodes."""
    match value:
        case None:
            return [("null", None)]
        case bool():
            return [("boolean", value)]
        case int():
            return [("integer", value)]
        case float():
            return [("double", value)]
        case str():
            return [("text", value)]
        case {"$int": text}:
            return [("integer", int(text))]
        case {"$double": text}:
            return [("double", float(text))]
        case {"$bytes": text}:
            return [("octets", base64.b64decode(text))]
        case {"$nested": [inner, times]}:
            return [("items", 1)] * times + nodes(inner)
        case list():
            return [("items", len(value)), *(node for item in value for node in nodes(item))]
        case dict():
            # A vector may be read by a map that sorts.
            entries = (node for key, item in sorted(value.items()) for node in [("text", key), *nodes(item)])
            return [("entries", len(value)), *entries]
    raise AssertionError(value)


def same(found: Any, expected: Any) -> bool:
    """Equal, with floating-point numbers by their text: NaN is equal to itself, and 0.0 not to -0.0."""
    return repr(found) == repr(expected)


@cases("flatten")
def test_flatten(host: Any, case: dict[str, Any]) -> None:
    options = None
    if "options" in case:
        options = {"redaction": ("standard", None), "leaves": 32, "depth": 64, "captured-bytes": 64 * 1024}
        for name, setting in case["options"].items():
            options[name.replace("_", "-")] = (setting, None) if name == "redaction" else setting
    kind, found = host.call("flatten", case["prefix"], nodes(case["value"]), options)
    assert kind == "ok"
    assert same(found, [(key, nodes(value)) for key, value in case["expected"]])


@cases("redact")
def test_redact(host: Any, case: dict[str, Any]) -> None:
    redaction = ("also", case["also"]) if "also" in case else ("off" if case.get("off") else "standard", None)
    if "secret" in case:
        assert host.call("is-secret-key", case["key"], redaction) is case["secret"]
        return
    kind, found = host.call("redact", case["key"], nodes(case["value"]), redaction)
    assert kind == "ok"
    assert same(found, nodes(case["expected"]))


@cases("event_type")
def test_event_type(host: Any, case: dict[str, Any]) -> None:
    attributes = [(key, nodes(value)) for key, value in case["attributes"]]
    assert host.call("event-type", attributes) == ("ok", case["expected"])


SAMPLERS = {
    "always_on": "always-on",
    "always_off": "always-off",
    "traceidratio": "trace-id-ratio",
    "parentbased_always_on": "parent-based-always-on",
    "parentbased_always_off": "parent-based-always-off",
    "parentbased_traceidratio": "parent-based-ratio",
}


@cases("sampler")
def test_sampler(host: Any, case: dict[str, Any]) -> None:
    name = SAMPLERS[case["sampler"].strip().lower() or "parentbased_always_on"]
    argument = float(case.get("argument") or 1) if name.endswith("ratio") else None
    parent = case["parent"] and span_of(case["parent"] | {"trace_id": case["trace_id"]})
    options = {
        "sampler": (name, argument),
        "random-flag": case.get("random_flag", True),
        "trace-id": None if parent else case["trace_id"],
        "span-id": None,
    }
    kind, context = host.call("new-child", parent, options)
    assert kind == "ok"
    assert (context["trace-id"], context["is-remote"]) == (case["trace_id"], False)
    flags = context["trace-flags"]
    assert {"sampled": bool(flags & 1), "flags": flags} == case["expected"]


NO_ROUTING = {"session": None, "otel-session": None, "session-name": None, "project": None, "source": None}


def of_any_value(value: dict[str, Any]) -> Any:
    """An OTLP/JSON value as nodes."""
    match value:
        case {"stringValue": text}:
            return [("text", text)]
        case {"boolValue": it}:
            return [("boolean", it)]
        case {"intValue": text}:
            return [("integer", int(text))]
        case {"doubleValue": it}:
            return [("double", float(it))]
        case {"bytesValue": text}:
            return [("octets", base64.b64decode(text))]
        case {"arrayValue": {"values": values}}:
            return [("items", len(values)), *(node for one in values for node in of_any_value(one))]
        case {"kvlistValue": {"values": values}}:
            entries = (node for one in values for node in [("text", one["key"]), *of_any_value(one["value"])])
            return [("entries", len(values)), *entries]
        case _:
            return [("null", None)]


def attributes_of(found: dict[str, Any]) -> list[Any]:
    return [(one["key"], of_any_value(one["value"])) for one in found.get("attributes", [])]


@cases("span")
def test_span(host: Any, case: dict[str, Any]) -> None:
    given, expected, trace_id = case["input"], case["expected"], "05" * 16
    parent = given["parent"] and span_of(given["parent"] | {"trace_id": trace_id})
    always_on = {"sampler": ("always-on", None), "random-flag": True, "trace-id": None, "span-id": None}
    _, context = host.call("new-child", parent, always_on)
    names = {"limit": "attributes", "link_limit": "attributes-per-link", "value_limit": "value-length"}
    limits = host.call("default-limits") | {names[key]: given[key] for key in names if key in given}
    links = [
        {
            "context": span_of(link | {"trace_id": trace_id}),
            "attributes": [(key, nodes(value)) for key, value in link.get("attributes", {}).items()],
        }
        for link in given.get("links", [])
    ]
    span = {
        "context": context,
        "parent": parent,
        "name": "s",
        "kind": "internal",
        "start-ns": 1,
        "end-ns": 2,
        "attributes": [(key, nodes(value)) for key, value in given.get("attributes", [])],
        "events": [],
        "links": links,
        "statuses": [{"code": code, "description": text} for code, text in given.get("statuses", [])],
    }
    kind, encoded = host.call("build", span, NO_ROUTING, limits)
    assert kind == "ok"
    kind, text = host.call("span-json", encoded, "numbers")
    assert kind == "ok"
    found = json.loads(text)
    attributes = attributes_of(found)
    event_type = next(value[0][1] for key, value in attributes if key == "honeyhive_event_type")
    status = found.get("status")
    answers = {
        "flags": found.get("flags"),
        "attributes": [one for one in attributes if one[0] != "honeyhive_event_type"],
        "event_type": event_type,
        "dropped_attributes": found.get("droppedAttributesCount", 0),
        "links": [
            {"flags": link["flags"], "dropped_attributes": link.get("droppedAttributesCount", 0)}
            | ({"attributes": attributes_of(link)} if "attributes" in link else {})
            for link in found.get("links", [])
        ],
        "status": status and [["unset", "ok", "error"][status.get("code", 0)], status.get("message", "")],
    }
    wanted = dict(expected)
    if "attributes" in wanted:
        wanted["attributes"] = [(key, nodes(value)) for key, value in wanted["attributes"]]
    if "links" in wanted:
        wanted["links"] = [
            link | ({"attributes": [(k, nodes(v)) for k, v in link["attributes"]]} if "attributes" in link else {})
            for link in wanted["links"]
        ]
    assert {name: answers[name] for name in wanted} == wanted


@cases("otlp_json")
def test_otlp_json(host: Any, case: dict[str, Any]) -> None:
    span, expected = bytes.fromhex(case["input"]["span"]), case["expected"]
    for dialect, name in (("numbers", "json"), ("names", "names")):
        kind, answer = host.call("span-json", span, dialect)
        if expected.get("error"):
            assert (kind, answer) == ("err", ("malformed", "OJ10"))
        else:
            assert kind == "ok"
            if name in expected:
                assert same(json.loads(answer), expected[name])
