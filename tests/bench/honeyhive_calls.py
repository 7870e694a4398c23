"""What a HoneyHive user calls most, beside the `honeyhive` package: the same program with either, in one run.

    python tests/bench/honeyhive_calls.py [--rounds N] [--calls N] [--json FILE]

`HONEYHIVE_PYTHON` names an interpreter that has the package; `SINK` names the counting receiver (an example of
tests/bench-core), which both report to as to HoneyHive, with the same arguments. Each library runs in a process of its
own, makes the same calls, and delivers what it has recorded before the other's turn; the rounds alternate. The time is
that of the thread that calls, in which it ran: neither what else the machine does nor the threads that deliver are in
it. What counts is the ratio of the medians; microseconds are this machine's. The exit code is 1 if a ratio misses what
was asked for.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SINK = os.environ.get("SINK", os.path.join(ROOT, "target/release/examples/sink"))
FLUSH_MILLIS = 30_000
WARM_UP_CALLS = 300

ASKED = {
    "with_distributed_trace_context": 15.0,
    "@trace": 150.0,
    "enrich_span_context": 100.0,
    "inject_context_into_carrier": None,
}
"""By figure: how many times as fast it must be, if that was asked for."""

HEADERS = {
    "host": "agent.internal:8080",
    "user-agent": "python-requests/2.34.2",
    "accept": "*/*",
    "content-type": "application/json",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01",
    "baggage": "session_id=7f1f0ad8-2c1c-4d3e-9b52-6a1d1c9a7f10,project=agents,source=client",
}


# What runs in a process of its own, with tracebaton or with honeyhive. ------------------------------------------------


def functions(library: str, url: str) -> tuple[Any, dict[str, Callable[[], object]]]:
    """A tracer that reports to the receiver, and by figure what is measured."""
    if library == "tracebaton":
        from tracebaton import (
            HoneyHiveTracer,
            enrich_span_context,
            inject_context_into_carrier,
            trace,
            with_distributed_trace_context,
        )
    else:
        from honeyhive import HoneyHiveTracer, trace  # type: ignore[import-not-found, no-redef]
        from honeyhive.tracer.processing.context import (  # type: ignore[import-not-found, no-redef]
            enrich_span_context,
            inject_context_into_carrier,
            with_distributed_trace_context,
        )
    tracer = HoneyHiveTracer.init(api_key="key", source="bench", server_url=url, session_name="bench")

    def distributed() -> None:
        with with_distributed_trace_context(HEADERS, tracer):
            pass

    @trace(event_type="tool", event_name="look_up")
    def look_up(subject: str, limit: int) -> str:
        return subject

    def traced() -> None:
        look_up("tides", 3)

    def enriched() -> None:
        with enrich_span_context(event_name="call_agent", inputs={"question": "tides"}, metadata={"attempt": 1}):
            pass

    def injected() -> None:
        inject_context_into_carrier({}, tracer)

    return tracer, dict(zip(ASKED, (distributed, traced, enriched, injected), strict=True))


def microseconds(call: Callable[[], object], calls: int) -> float:
    """The time of one call, the mean of so many."""
    gc.collect()
    begin = time.thread_time()
    for _ in range(calls):
        call()
    return (time.thread_time() - begin) / calls * 1e6


def serve(library: str, url: str) -> None:
    """Measures what it is told to, line by line, and prints each figure."""
    # Libraries print: what they do so is not for the one who reads the figures.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    tracer, measured = functions(library, url)
    for call in measured.values():
        microseconds(call, WARM_UP_CALLS)
    tracer.flush(FLUSH_MILLIS)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        calls, _, name = line.rstrip("\n").partition(" ")
        # In a span, as a request of a service is.
        with tracer.start_span("request"):
            took = microseconds(measured[name], int(calls))
        # The next round begins with an empty queue.
        flushed = tracer.flush(FLUSH_MILLIS)
        dropped = sum(tracer.stats()["dropped"].values()) if library == "tracebaton" else 0
        print(json.dumps({"us": took, "flushed": bool(flushed), "dropped": dropped}), file=answers, flush=True)
    os._exit(0)


# What asks it. --------------------------------------------------------------------------------------------------------


class Library:
    """A process with one of the libraries."""

    def __init__(self, name: str, python: str, url: str) -> None:
        cleared = ("HH_", "HONEYHIVE_", "OTEL_")
        self.process = subprocess.Popen(
            # -I: the folder of this file, which has the package's name, is not on the path.
            [python, "-I", os.path.abspath(__file__), "--serve", name, url],
            env={key: value for key, value in os.environ.items() if not key.startswith(cleared)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if name == "tracebaton" else subprocess.DEVNULL,
            encoding="utf-8",
        )
        self.name = name
        self.complete = True
        """Whether all spans were delivered so far."""
        self._line()

    def measure(self, figure: str, calls: int) -> float:
        """Microseconds of one call."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{calls} {figure}\n")
        self.process.stdin.flush()
        found = json.loads(self._line())
        self.complete &= found["flushed"] and not found["dropped"]
        return float(found["us"])

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process with {self.name} ended")
        return line


@contextmanager
def running(name: str, python: str) -> Iterator[Library]:
    """A library in a process of its own, and its receiver."""
    with subprocess.Popen([SINK], stdout=subprocess.PIPE, encoding="ascii") as sink:
        assert sink.stdout is not None
        library = None
        try:
            library = Library(name, python, f"http://127.0.0.1:{int(sink.stdout.readline())}")
            yield library
        finally:
            if library is not None:
                library.process.kill()
                library.process.wait()
            sink.kill()


def spread(figures: list[float]) -> str:
    """The median, and between which figures the middle half of them is."""
    low, middle, high = statistics.quantiles(figures, n=4)
    return f"{middle:.2f} ({low:.2f}-{high:.2f}) µs"


def main() -> int:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="of each figure with each library [%(default)s]")
    parser.add_argument("--calls", type=int, default=1000, help="of a round [%(default)s]")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--serve", nargs=2, metavar=("LIBRARY", "URL"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(*arguments.serve)
    python = os.environ.get("HONEYHIVE_PYTHON")
    if not python:
        print("the honeyhive package is not here (HONEYHIVE_PYTHON): nothing to compare with")
        return 0
    if not os.path.exists(SINK):
        print(f"{SINK} is missing: cargo build --release -p tracebaton-bench --example sink", file=sys.stderr)
        return 1
    rows, missed = [], False
    print(f"{'median (middle half) of one call':34} {'tracebaton':>26} {'honeyhive':>32} {'ratio':>7} {'asked':>6}")
    with running("tracebaton", sys.executable) as ours, running("honeyhive", python) as theirs:
        for figure, asked in ASKED.items():
            rounds: dict[str, list[float]] = {ours.name: [], theirs.name: []}
            for _ in range(arguments.rounds):
                for library in (ours, theirs):
                    rounds[library.name].append(library.measure(figure, arguments.calls))
            ratio = statistics.median(rounds[theirs.name]) / statistics.median(rounds[ours.name])
            met = asked is None or ratio >= asked
            missed |= not met
            rows.append({"figure": figure, "asked": asked, "ratio": ratio, "microseconds": rounds, "met": met})
            bar = "" if asked is None else f"{asked:.0f}x"
            print(
                f"{figure:34} {spread(rounds[ours.name]):>26} {spread(rounds[theirs.name]):>32} "
                f"{ratio:6.1f}x {bar:>6}{'' if met else '  MISSED'}",
                flush=True,
            )
        if not ours.complete:
            print("tracebaton did not deliver all of its spans: these figures do not count", file=sys.stderr)
            missed = True
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=2)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
