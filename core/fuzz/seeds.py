#!/usr/bin/env python3
"""Writes seeds/<target>/ from tests/vectors: one input for each case, in the form that the target reads.

`run.sh --minimise` then leaves only those that reach something that no other reaches.
"""

import hashlib
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "tests" / "vectors"))
from vector_files import cases_of

END = b"\xff"  # what ends a part of an input: see fuzz_targets/lines.rs


def header(text: str) -> bytes:
    """The octets of a header value: each code point is one."""
    return text.encode("latin-1")


def lines(*parts: object) -> bytes:
    return END.join(part if isinstance(part, bytes) else str(part or "").encode() for part in parts)


def traceparent() -> list[bytes]:
    return [lines(*map(header, case["input"]["headers"])) for case in cases_of("traceparent")]


def tracestate() -> list[bytes]:
    def one(case: dict) -> bytes:
        inserted = [step["insert"] for step in case["input"].get("steps", []) if "insert" in step] or [["k", "v"]]
        return lines(*map(header, case["input"]["headers"]), *map(header, inserted[0]))

    return [one(case) for case in cases_of("tracestate")]


def baggage() -> list[bytes]:
    inputs = [case["input"] for case in cases_of("baggage")]
    return [bytes([180, 255]) + lines(*map(header, one["headers"])) for one in inputs if "headers" in one]


def percent() -> list[bytes]:
    members = [member for case in cases_of("baggage") for member in case["expected"].get("members", [])]
    return [member["raw_value"].encode() for member in members] + [member["value"].encode() for member in members]


def policy_bits(policy: dict) -> int:
    mode = {"continue": 0, "restart": 2, "ignore": 3}[policy.get("inbound", "continue")]
    session, project = policy.get("accept_session", True), policy.get("accept_project", True)
    caps = 16 * ("max_members" in policy) + 32 * ("max_bytes" in policy)
    return mode + 4 * (not session) + 8 * (not project) + caps


def extract() -> list[bytes]:
    def one(given: dict) -> bytes:
        pairs = [header(name) + b":" + header(value) for name, value in given["carrier"]]
        return bytes([policy_bits(given.get("policy", {}))]) + lines(*pairs)

    return [one(case["input"]) for case in cases_of("extract") if isinstance(case["input"]["carrier"], list)]


def inject() -> list[bytes]:
    def one(given: dict) -> bytes:
        span = given.get("span") or {}
        parent = f"00-{span['trace_id']}-{span['span_id']}-{span.get('flags', 0):02x}" if span else ""
        carried = [value for name, value in given.get("carrier", []) if name.lower() == "baggage"]
        entries = [part for entry in given.get("application", []) for part in (entry + [""])[:3]]
        inbound = given.get("inbound") or ""
        inbound = inbound if isinstance(inbound, str) else ",".join(inbound)
        own = [given.get(name) for name in ("session", "project", "source")]
        return lines(*own, parent, span.get("tracestate"), header(inbound), header(",".join(carried)), *entries)

    return [one(case["input"]) for case in cases_of("inject")]


def destination() -> list[bytes]:
    return [case["input"]["to"].encode() for case in cases_of("policy") if "to" in case["input"]]


def settings() -> list[bytes]:
    def one(case: dict) -> bytes:
        def flat(value: object) -> str:
            if isinstance(value, dict):
                return ",".join(f"{key}={item}" for key, item in value.items())
            return ",".join(map(str, value)) if isinstance(value, list) else str(value)

        given = {**case.get("arguments", {}), **case.get("environment", {})}
        return lines(*(f"{name}={flat(value)}".encode() for name, value in given.items()))

    return [one(case) for case in cases_of("settings")]


def otlp() -> list[bytes]:
    return [bytes.fromhex(case["input"]["span"]) for case in cases_of("otlp_json") if "span" in case["input"]]


def spool() -> list[bytes]:
    """Spans that begin and end in turn, in pools of several sizes, with and without damage."""
    orders = [bytes([order, size]) for order in range(40) for size in (order, 63 - order)]
    damage = [b"", bytes([0, 60, 1]), bytes([1, 7, 128, 4, 90, 255])]
    return [bytes([segments, len(orders) * 2]) + b"".join(orders) + more for segments in range(3) for more in damage]


def exchange() -> list[bytes]:
    """Operations on the headers of every case, and what other inputs of the exchange look like."""

    def words(*numbers: int) -> bytes:
        return b"".join(number.to_bytes(4, "little") for number in numbers)

    def text(value: str | bytes) -> bytes:
        value = value if isinstance(value, bytes) else value.encode()
        return words(len(value)) + value

    def pairs(case: dict) -> tuple[int, bytes]:
        given = [(name.encode(), header(value)) for name, value in case["input"]["carrier"]]
        return len(given), b"".join(words(len(name), len(value)) + name + value for name, value in given)

    ids = b"0af7651916cd43dd8448eb211c80319c00f067aa0ba902b7"
    found = []
    for case in cases_of("extract"):
        if isinstance(case["input"]["carrier"], list):
            count, given = pairs(case)
            found.append(bytes([4]) + words(4, count, 0, 0, 0, 0) + given)
            found.append(bytes([8]) + words(1, 0, count) + given)
            found.append(bytes([7]) + words(17 | 1 << 24, 3, 0, 0, 0, 0, count, 0, 0) + ids + b"a=b" + given)
    # A tree: a map of every kind.
    tree = b"\x08" + words(3) + text("k") + b"\x03" + bytes(8) + text("l") + b"\x07" + words(2) + b"\x01\x04" + bytes(8)
    tree += text("t") + b"\x05" + text("text")
    found += [bytes([2]) + tree, bytes([14]) + words(0) + tree]
    # A scope: a session that a caller sent, and baggage.
    scope = b"\x01\x21" + words(1) + text("session") + b"\x03" + words(1) + text("k=v;p,x=y")
    found += [bytes([1]) + scope, bytes([5]) + scope, bytes([6]) + words(2, len(scope), 3, 4) + scope + b"newname"]
    # Two span records with every kind of entry, the second one in the scope of the first.
    entries = b"\x01" + text("k") + tree + b"\x02" + bytes(16) + text("event") + words(1, 1) + text("a") + b"\x02"
    entries += b"\x03" + ids + b"\x01\x01" + text("a=b") + words(0, 0) + b"\x04\x00" + tree + b"\x05" + text("error")
    entries += b"\x06" + words(1, 2, 3)
    first = words(1, 0, 1 << 8 | 2 << 24 | 31) + bytes(32) + ids + ids[32:] + text("name") + text("a=b")
    place = 4 + len(first)
    first += text(scope) + text("broken") + entries
    second = words(1, 0, 1 << 8 | 8) + bytes(32) + ids + text("name") + words(1 << 31 | place)
    found.append(bytes([0]) + text(first) + text(second))
    return found


def main() -> None:
    shutil.rmtree(HERE / "seeds", ignore_errors=True)
    for target in (traceparent, tracestate, baggage, percent, extract, inject, destination, settings, otlp, spool, exchange):
        folder = HERE / "seeds" / target.__name__
        folder.mkdir(parents=True)
        inputs = {one for one in target() if len(one) <= 4096}
        for one in inputs:
            (folder / hashlib.sha1(one).hexdigest()).write_bytes(one)
        print(f"{target.__name__}: {len(inputs)}")


if __name__ == "__main__":
    main()
