"""Sizes, and calls per second of extract and inject in the component's hosts, beside their OpenTelemetry propagators.

    python tests/bench/component.py [--hosts python,plain,rust,jco,go,java] [--rounds N] [--milliseconds N]
                                    [--json FILE]

One call extracts `traceparent`, `tracestate` and `baggage` and injects them into an empty carrier. A host and its peer,
the propagator for trace context and baggage of its own language, take turns; a figure is the median of the rounds.
Hosts that are not built (`scripts/component-hosts.sh`) are left out.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/component"))

import hosts
import programs
import wasmtime
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

HEADERS = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=1,other=2",
    "baggage": "session_id=4f1e2d3c,user=alice,plan=pro",
}
PEERS = {
    "python": "opentelemetry-api",
    "plain": "opentelemetry-api",
    "rust": "opentelemetry_sdk",
    "jco": "@opentelemetry/core",
    "go": "go.opentelemetry.io/otel",
    "java": "opentelemetry-api",
}
NAMES = {
    "python": "component, PyPI wasmtime",
    "plain": "plain module, PyPI wasmtime",
    "rust": "component, wasmtime crate",
    "jco": "component, jco in Node",
    "go": "plain module, wazero",
    "java": "plain module, Chicory",
}


def of_component() -> Callable[[], object]:
    """With wasmtime's own records, as a program would: nothing is converted for the tests."""
    host = hosts.Component()
    store = host.store
    (extract, *_), (inject, *_) = host.functions["extract"], host.functions["inject"]
    headers = list(HEADERS.items())

    def call() -> object:
        inbound = extract(store, headers, None)
        extract.post_return(store)
        out = wasmtime.component.Record()
        out.__dict__.update(
            span=inbound.span,
            session=inbound.session,
            project=None,
            source=None,
            application=[],
            inbound=inbound.baggage,
            policy=None,
            destination=None,
            origin=None,
        )
        setattr(out, "is-api-view", False)
        injected = inject(store, [], out)
        inject.post_return(store)
        return injected

    return call


def of_plain() -> Callable[[], object]:
    """With spans left encoded, as the examples in Go and Java do."""
    plain = hosts.Plain(hosts.types())
    encode, string = hosts.encode, ("string",)
    option = ("option", string)

    def call() -> object:
        arguments = bytearray()
        encode(("list", ("tuple", [string, string])), list(HEADERS.items()), arguments)
        arguments.append(0)
        reader = hosts.Reader(plain.run(1, bytes(arguments)) or b"")
        span = reader.decode(("option", plain.types["extract"][1][1][0][1][1]))
        reader.decode(("option", ("tuple", [])))
        baggage, session = reader.decode(string), reader.decode(option)
        arguments = bytearray(4)
        encode(plain.types["inject"][0][1][1][0][1], span, arguments)
        encode(option, session, arguments)
        arguments += bytes(2 + 4 + 1)
        encode(string, baggage, arguments)
        arguments += bytes(3)
        answer = hosts.Reader(plain.run(2, bytes(arguments)) or b"")
        return answer.decode(plain.types["inject"][1])

    return call


def of_peer() -> Callable[[], object]:
    peer = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])

    def call() -> object:
        out: dict[str, str] = {}
        peer.inject(out, peer.extract(HEADERS, Context()))
        return out

    return call


def per_second(call: Callable[[], object], seconds: float) -> float:
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for _ in range(5):
            call()
        calls += 5
    return calls / (time.perf_counter() - start)


def rounds_here(name: str, rounds: int, milliseconds: int) -> Iterator[dict[str, float]]:
    ours, peer = of_component() if name == "python" else of_plain(), of_peer()
    for _ in range(rounds):
        yield {"ours": per_second(ours, milliseconds / 1e3), "peer": per_second(peer, milliseconds / 1e3)}


def rounds_of(name: str, rounds: int, milliseconds: int) -> list[dict[str, float]]:
    if name in {"python", "plain"}:
        return list(rounds_here(name, rounds, milliseconds))
    command = [*programs.commands("bench")[name], str(rounds), str(milliseconds)]
    if not Path(command[0]).exists() and name in {"rust", "go"}:
        return []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return [json.loads(line) for line in done.stdout.splitlines()] if done.returncode == 0 else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", default=",".join(NAMES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--milliseconds", type=int, default=100)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found: dict[str, Any] = {"sizes": {}, "hosts": {}}
    for artifact in (hosts.COMPONENT, hosts.PLAIN):
        data = artifact.read_bytes()
        found["sizes"][artifact.name] = {"bytes": len(data), "gzip": len(gzip.compress(data, 9))}
        print(f"{artifact.name}: {len(data):,} bytes, {found['sizes'][artifact.name]['gzip']:,} gzipped")
    print(f"\n{'extract + inject, calls/s':30} {'ours':>9} {'peer':>11} {'ratio':>7}  peer")
    for name in arguments.hosts.split(","):
        rounds = rounds_of(name, arguments.rounds, arguments.milliseconds)
        if not rounds:
            print(f"{NAMES[name]:30} not built: scripts/component-hosts.sh")
            continue
        ours = statistics.median(one["ours"] for one in rounds)
        peer = statistics.median(one["peer"] for one in rounds)
        ratio = statistics.median(one["ours"] / one["peer"] for one in rounds)
        found["hosts"][name] = {"ours": ours, "peer": peer, "ratio": ratio, "peer_name": PEERS[name]}
        print(f"{NAMES[name]:30} {ours:9,.0f} {peer:11,.0f} {ratio:7.3f}  {PEERS[name]}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
