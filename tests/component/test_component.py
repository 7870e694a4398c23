"""What the component and the plain module promise besides the vectors."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hosts import COMPONENT, OPERATIONS, PLAIN, ROOT, Component, Plain
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from test_vectors import NO_ROUTING, NOTHING, nodes
from wasmtime import Engine, Module

WIT = ROOT / "bindings-wasm/component/wit"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_imports_and_exports() -> None:
    component = Component().component
    engine = Engine()
    assert sorted(component.type.imports(engine)) == [
        "wasi:clocks/monotonic-clock@0.2.0",
        "wasi:clocks/wall-clock@0.2.0",
        "wasi:random/random@0.2.0",
    ]
    assert sorted(component.type.exports(engine)) == [
        f"tracebaton:context/{name}@0.1.0" for name in ("members", "propagation", "spans")
    ]
    module = Module.from_file(engine, PLAIN)
    assert module.imports == []
    assert {it.name for it in module.exports} >= {"memory", "tracebaton_alloc", "tracebaton_call", "tracebaton_free"}


def test_the_table_of_operations_has_every_function() -> None:
    functions = {}
    for path in WIT.glob("*.wit"):
        functions |= dict.fromkeys(re.findall(r"^  ([a-z-]+): func", path.read_text(), re.MULTILINE), path.stem)
    assert {name: interface for name, (interface, _) in OPERATIONS.items()} == functions


def test_every_item_of_the_interfaces_is_documented() -> None:
    for path in WIT.glob("*.wit"):
        lines = path.read_text().splitlines()
        for before, line in itertools.pairwise(lines):
            if re.match(r"  (record|variant|enum|type|[a-z-]+: func)", line):
                assert before.strip().startswith("///"), f"{path.name}: {line}"


def test_time_and_randomness_are_the_hosts() -> None:
    component = Component(random=[1, 2, 3, 4], clocks=[5 * 10**9 + 7, 1000, 1250])
    kind, root = component.call("new-child", None, None)
    assert (kind, root) == (
        "ok",
        {
            "trace-id": "00000000000000010000000000000002",
            "span-id": "0000000000000003",
            "trace-flags": 3,
            "trace-state": "",
            "is-remote": False,
        },
    )
    kind, child = component.call("new-child", root, None)
    assert (child["trace-id"], child["span-id"]) == (root["trace-id"], "0000000000000004")
    start = component.call("now")
    assert start == {"unix-ns": 5 * 10**9 + 7, "monotonic-ns": 1000}
    assert component.call("since", start) == 5 * 10**9 + 257


def test_ids_differ() -> None:
    component = Component()
    made = {component.call("new-child", None, None)[1]["trace-id"] for _ in range(100)}
    assert len(made) == 100


def test_given_ids_are_judged(host: Any) -> None:
    options = {"sampler": ("always-on", None), "random-flag": True, "trace-id": "0" * 32, "span-id": None}
    assert host.call("new-child", None, options) == ("err", ("span-context", "TP6"))
    context = {"trace-id": "A" * 32, "span-id": "1" * 16, "trace-flags": 0, "trace-state": "", "is-remote": True}
    assert host.call("inject", [], NOTHING | {"span": context}) == ("err", ("span-context", "TP5"))
    context |= {"trace-id": "a" * 32, "trace-state": "=1"}
    assert host.call("new-child", context, None) == ("err", ("span-context", "TS3"))


def test_headers_that_are_not_ours_stay(host: Any) -> None:
    given = [("X-Name", "zoë ☃"), ("Baggage", "k=v"), ("baggage", "ä=1")]
    kind, injected = host.call("inject", given, NOTHING | {"session": "s"})
    assert kind == "ok"
    assert injected == {"headers": [("X-Name", "zoë ☃"), ("baggage", "session_id=s,k=v")], "dropped": ["B3"]}


def test_text_of_headers_is_told_only_when_asked_for(host: Any) -> None:
    headers = [("traceparent", CALLER), ("baggage", "k=secret")]
    assert all(one["text"] is None for one in host.call("explain", headers, None, False))
    assert any(one["text"] == "k=secret" for one in host.call("explain", headers, None, True))


def test_patterns_that_cannot_match_are_refused(host: Any) -> None:
    policy = host.call("default-policy") | {"propagate-to": ["api.example.com", "no pattern"]}
    assert host.call("inject", [], NOTHING | {"policy": policy}) == ("err", ("propagate-to", 1))


def span_of(context: Any, **fields: Any) -> dict[str, Any]:
    base = {"context": context, "parent": None, "name": "s", "kind": "client", "start-ns": 1, "end-ns": 2}
    return base | {"attributes": [], "events": [], "links": [], "statuses": []} | fields


CONTEXT = {
    "trace-id": "0af7651916cd43dd8448eb211c80319c",
    "span-id": "b7ad6b7169203331",
    "trace-flags": 3,
    "trace-state": "a=1",
    "is-remote": False,
}


def test_requests_are_what_the_official_schema_reads(host: Any) -> None:
    parent = CONTEXT | {"span-id": "00f067aa0ba902b7", "is-remote": True}
    event = {"time-ns": 5, "name": "retry", "attributes": [("reason", nodes("slow"))]}
    attributes = [("n", nodes({"a": [1, 2.5, None], "b": {"$bytes": "aGk="}})), ("n", nodes(7))]
    span = span_of(CONTEXT, parent=parent, attributes=attributes, events=[event])
    routing = NO_ROUTING | {"session": "s", "source": "test"}
    kind, encoded = host.call("build", span, routing, None)
    assert kind == "ok"
    kind, unsampled = host.call("build", span_of(CONTEXT | {"trace-flags": 0}), routing, None)
    assert (kind, unsampled) == ("ok", b"")
    run = {"scope-name": "lib", "scope-version": "1", "scope-attributes": [], "schema-url": "http://schema"}
    resource = [("service.name", nodes("svc"))]
    kind, protobuf = host.call("encode-protobuf", resource, [run | {"spans": [encoded, unsampled]}])
    assert kind == "ok"
    request = ExportTraceServiceRequest.FromString(protobuf)
    (found,) = request.resource_spans[0].scope_spans[0].spans
    assert (found.trace_id.hex(), found.parent_span_id.hex()) == (CONTEXT["trace-id"], parent["span-id"])
    assert (found.kind, found.flags, found.trace_state, found.events[0].name) == (3, 0x303, "a=1", "retry")
    values = {one.key: one.value for one in found.attributes}
    assert values["n"].int_value == 7
    assert values["honeyhive.session_id"].string_value == "s"
    kind, text = host.call("encode-json", resource, [run | {"spans": [encoded]}], "numbers")
    assert kind == "ok"
    scope_spans = json.loads(text)["resourceSpans"][0]["scopeSpans"][0]
    assert scope_spans["schemaUrl"] == "http://schema"
    assert scope_spans["spans"][0]["spanId"] == CONTEXT["span-id"]
    assert host.call("encode-protobuf", resource, [run | {"spans": []}]) == ("ok", b"")
    bad = run | {"spans": [b"\xff"]}
    assert host.call("encode-json", resource, [bad], "numbers") == ("err", ("malformed", "OJ10"))


@pytest.mark.parametrize(
    "broken",
    [
        [],
        [("items", 2), ("null", None)],
        [("null", None), ("null", None)],
        [("entries", 1), ("null", None), ("null", None)],
    ],
)
def test_nodes_that_are_no_value_are_refused(host: Any, broken: list[Any]) -> None:
    assert host.call("event-type", [("key", broken)]) == ("err", ("value", "key"))


def test_deep_values_need_no_deep_stack(host: Any) -> None:
    deep = [("items", 1)] * 3000 + [("null", None)]
    kind, found = host.call("flatten", "p", deep, None)
    assert kind == "ok"
    assert len(found) == 1
    kind, _ = host.call("redact", "p", [("entries", 1), ("text", "k")] * 1500 + [("null", None)], ("standard", None))
    assert kind == "ok"


def test_the_plain_module_refuses_what_is_no_call(known: dict[str, Any]) -> None:
    plain = Plain(known)
    assert plain.run(99, b"") is None
    assert plain.run(0, b"\0") is None, "more than the arguments"
    assert plain.run(1, b"\xff\xff\xff\xff") is None, "a list that ends too early"
    assert plain.run(8, b"\1\0\0\0\xff") is None, "a text that is not UTF-8"
    assert plain.run(1, b"\0\0\0\0\2") is None, "an option that is neither"
    assert plain.run(8, b"\1\0\0\0s") is not None, "and it still works"


def test_memory_does_not_grow(known: dict[str, Any]) -> None:
    plain = Plain(known)
    out = NOTHING | {"session": "s", "inbound": "k=v" * 100}

    def calls(count: int) -> int:
        for _ in range(count):
            plain.call("inject", [("baggage", "a=b")], out)
            plain.run(1, b"\0\0\0\0\2")
        return int(plain.memory.size(plain.store))

    assert calls(500) == calls(5000)


def copy_of_the_sources(target: Path) -> None:
    for name in ("Cargo.toml", "Cargo.lock", "rust-toolchain.toml"):
        shutil.copy(ROOT / name, target)
    members = re.search(r"^members = \[(.*?)\]", (ROOT / "Cargo.toml").read_text(), re.MULTILINE | re.DOTALL)
    assert members is not None
    for member in re.findall(r'"([^"]+)"', members[1]):
        ignored = shutil.ignore_patterns("target", "node_modules", "__pycache__", "*.so")
        shutil.copytree(ROOT / member, target / member, ignore=ignored)


@pytest.mark.timeout(900)
@pytest.mark.skipif("TRACEBATON_REBUILD" not in os.environ, reason="compiles everything again: make test-all")
def test_two_builds_give_the_same_bytes(tmp_path: Path) -> None:
    checkout = tmp_path / "another place"
    checkout.mkdir()
    copy_of_the_sources(checkout)
    environment = {**os.environ, "CARGO_TARGET_DIR": str(tmp_path / "target")}
    command = ["cargo", "run", "-q", "-p", "xtask", "--", "component", "plain"]
    subprocess.run(command, cwd=checkout, env=environment, check=True)
    for built in (COMPONENT, PLAIN):
        assert (checkout / "build/wasm" / built.name).read_bytes() == built.read_bytes()


def test_no_path_of_the_machine_is_in_the_files() -> None:
    for built in (COMPONENT, PLAIN):
        found = built.read_bytes()
        for path in (str(ROOT), str(Path.home())):
            assert len(path) < 3 or path.encode() not in found


def check_service_output(text: str, source: str) -> None:
    """What the example programs print for the headers of `example`."""
    *headers, otlp = text.splitlines()
    lines = dict(line.split(": ", 1) for line in headers)
    span = json.loads(otlp)["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert lines["traceparent"] == f"00-0af7651916cd43dd8448eb211c80319c-{span['spanId']}-01"
    assert lines["baggage"] == f"session_id=abc,source={source},k=v"
    assert span["parentSpanId"] == "b7ad6b7169203331"
    assert int(span["endTimeUnixNano"]) >= int(span["startTimeUnixNano"])


EXAMPLE = [f"traceparent: {CALLER}", "baggage: session_id=abc,k=v"]


def test_the_python_example() -> None:
    command = [sys.executable, "examples/component-python/service.py", str(COMPONENT), *EXAMPLE]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    check_service_output(done.stdout, "component-python")
