"""Delivery where it is hard: bursts, slow and busy receivers, dead ones, and as many spans as one process can end.

    python tests/bench/delivery.py [burst|late|sustained|flood|busy|dead|spool]…

Every figure stands beside what was asked for, and beside what the `honeyhive` package does in the same run where
`HONEYHIVE_PYTHON` names an interpreter that has it. `SINK` names the counting receiver (an example of
tests/bench-core). The exit code is 1 if a figure misses what was asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SINK = os.environ.get("SINK", os.path.join(ROOT, "target/release/examples/sink"))
BURST = 20_000
SUSTAINED_SECONDS = 5.0
SUSTAINED_RATE = 120_000
SPOOL_ROUNDS = 100
SPOOL_SPANS = 1_000
PROGRAM_SECONDS = 150.0


class Row(NamedTuple):
    """One line of the table."""

    figure: str
    asked: str
    ours: str
    theirs: str
    met: bool


# What runs in a process of its own, with tracebaton or with honeyhive. ------------------------------------------------


def tracer_for(library: str, url: str) -> Any:
    """A tracer with default settings that reports to the receiver."""
    if library == "tracebaton":
        import tracebaton

        return tracebaton.Tracer.init(exporter="otlp", otlp_endpoint=url)
    from honeyhive import HoneyHiveTracer  # type: ignore[import-not-found]

    return HoneyHiveTracer.init(api_key="key", project="bench", server_url=url, session_name="bench")


def end_spans(library: str, tracer: Any, count: int) -> None:
    """Ends so many small spans, as fast as can be."""
    if library == "tracebaton":
        otel_tracer = tracer.provider.get_tracer("bench")
        for _ in range(count):
            otel_tracer.start_span("work").end()
    else:
        for _ in range(count):
            with tracer.start_span("work"):
                pass


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def spool_costs(url: str) -> dict[str, dict[str, float]]:
    """Nanoseconds of this thread for a span, by what it is and how much of it a spool records: the median of rounds in
    which the tracers take turns, so that what else the machine does meets all of them."""
    import tracebaton

    tracers: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as directory:
        for recorded in ("nothing", "ends", "starts"):
            os.environ["TRACEBATON_SPOOL_STARTS"] = str(recorded == "starts").lower()
            spool_dir = None if recorded == "nothing" else os.path.join(directory, recorded)
            tracers[recorded] = tracebaton.Tracer.init(exporter="otlp", otlp_endpoint=url, spool_dir=spool_dir)
        found = {}
        for what, make in SPANS.items():
            works = {recorded: make(tracer) for recorded, tracer in tracers.items()}
            times: dict[str, list[float]] = {recorded: [] for recorded in works}
            for _ in range(SPOOL_ROUNDS):
                for recorded, work in works.items():
                    begin = time.thread_time_ns()
                    for _ in range(SPOOL_SPANS):
                        work()
                    times[recorded].append((time.thread_time_ns() - begin) / SPOOL_SPANS)
                    assert tracers[recorded].flush(60_000)
            found[what] = {recorded: statistics.median(times[recorded]) for recorded in times}
        for tracer in tracers.values():
            assert tracer.stats()["sent"] == SPOOL_ROUNDS * SPOOL_SPANS * len(SPANS), tracer.stats()
            assert tracer.stats()["unspooled"] == 0
            tracer.shutdown()
    return found


def block_of(tracer: Any) -> Callable[[], None]:
    attributes = {"app.name": "value", "app.count": 42, "app.ratio": 0.5}

    def block() -> None:
        with tracer.start_span("work", attributes=attributes):
            pass

    return block


def traced_by(tracer: Any) -> Callable[[], object]:
    import tracebaton

    @tracebaton.trace(tracer=tracer)
    def answer(question: str) -> str:
        return question

    return lambda: answer("why?")


def bare_of(tracer: Any) -> Callable[[], None]:
    otel_tracer = tracer.provider.get_tracer("bench")
    return lambda: otel_tracer.start_span("work").end()


SPANS: dict[str, Callable[[Any], Callable[[], object]]] = {
    "block with 3 attributes": block_of,
    "call of a @trace function": traced_by,
    "start_span().end()": bare_of,
}


def program(library: str, task: str, url: str) -> None:
    """Runs one task and prints what came of it."""
    if task == "spool":
        print(json.dumps(spool_costs(url)), flush=True)
        return
    tracer = tracer_for(library, url)
    out: dict[str, Any] = {}
    if task in ("sustained", "flood"):
        end_spans(library, tracer, 1_000)
        before = most = resident_bytes()
        ended, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < SUSTAINED_SECONDS:
            end_spans(library, tracer, 2_000 if library == "tracebaton" else 100)
            ended += 2_000 if library == "tracebaton" else 100
            most = max(most, resident_bytes())
            if task == "sustained":
                time.sleep(max(0.0, ended / SUSTAINED_RATE - (time.perf_counter() - begin)))
        out["ended_per_second"] = ended / (time.perf_counter() - begin)
        out["flushed"] = tracer.flush(60_000)
        out["seconds"] = time.perf_counter() - begin
        out["ended"] = ended + 1_000
        out["grown_mib"] = (max(most, resident_bytes()) - before) / 2**20
    else:
        count, millis = {"burst": (BURST, 60_000), "busy": (1_000, 30_000), "dead": (10, 2_000)}[task]
        end_spans(library, tracer, count)
        begin = time.perf_counter()
        out["flushed"] = tracer.flush(millis)
        out["seconds"] = time.perf_counter() - begin
    if library == "tracebaton":
        out["dropped"] = sum(tracer.stats()["dropped"].values())
    print(json.dumps(out), flush=True)
    # What the end of the process would still deliver, or wait for, is not the flush's.
    os._exit(0)


# What watches it. -----------------------------------------------------------------------------------------------------


def run(library: str, task: str, url: str) -> dict[str, Any] | None:
    """Runs a program with one of the libraries; `None` if it is not here."""
    python: str | None = sys.executable if library == "tracebaton" else os.environ.get("HONEYHIVE_PYTHON")
    if not python:
        return None
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HH_", "OTEL_"))}
    done = subprocess.run(
        [python, os.path.abspath(__file__), "--program", library, task, url],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if library == "honeyhive" else None,
        timeout=PROGRAM_SECONDS,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def sink(**milliseconds: int) -> Iterator[str]:
    """A receiver that counts; its URL."""
    arguments = [text for name, value in milliseconds.items() for text in (f"--{name}", str(value))]
    with subprocess.Popen([SINK, *arguments], stdout=subprocess.PIPE, encoding="ascii") as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


@contextmanager
def black_hole() -> Iterator[str]:
    """A receiver that takes connections and requests and never answers; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def accept() -> None:
            try:
                while True:
                    held.append(server.accept())
            except OSError:
                pass

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        for connection, _ in held:
            connection.close()


def seen(url: str) -> dict[str, int]:
    """What the receiver counted."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        found: dict[str, int] = json.loads(answer.read())
        return found


def both(task: str, **milliseconds: int) -> Iterator[tuple[dict[str, Any], dict[str, int]] | None]:
    """What came of a task with each library: what it says, and what the receiver does."""
    for library in ("tracebaton", "honeyhive"):
        with sink(**milliseconds) as url:
            said = run(library, task, url)
            yield None if said is None else (said, seen(url))


def no_reference() -> str:
    return "not here"


def arrived(result: tuple[dict[str, Any], dict[str, int]] | None) -> str:
    if result is None:
        return no_reference()
    said, saw = result
    twice = saw["spans"] - saw["distinct"]
    return f"{saw['distinct']:,}{f' ({twice:,} twice)' if twice else ''}, flush {said['flushed']}"


def burst(figure: str = "burst of 20,000 spans", late: int = 0) -> Iterator[Row]:
    ours, theirs = both("burst", late=late)
    assert ours is not None
    said, saw = ours
    met = said["flushed"] is True and saw["spans"] == saw["distinct"] == BURST
    yield Row(figure, f"{BURST:,}, flush True", arrived(ours), arrived(theirs), met)


def late() -> Iterator[Row]:
    yield from burst("the same, each answer 0.3 s late", 300)


def busy() -> Iterator[Row]:
    ours, theirs = both("busy", busy=3_000)
    assert ours is not None
    said, saw = ours
    met = said["flushed"] is True and saw["spans"] == saw["distinct"] == 1_000 and saw["refused"] > 0
    yield Row("1,000 spans, 503 for 3 s", "1,000, flush True", arrived(ours), arrived(theirs), met)


def dead() -> Iterator[Row]:
    shown = []
    met = False
    for library in ("tracebaton", "honeyhive"):
        with black_hole() as url:
            said = run(library, "dead", url)
        shown.append(no_reference() if said is None else f"{said['flushed']} in {said['seconds']:.2f} s")
        if library == "tracebaton":
            met = said is not None and said["flushed"] is False and 1.9 <= said["seconds"] <= 2.1
    yield Row("flush of 2,000 ms, dead receiver", "False in 1.9-2.1 s", shown[0], shown[1], met)


def sustained() -> Iterator[Row]:
    yield from stream("sustained", f"small spans at {SUSTAINED_RATE:,}/s, 5 s: delivered", 100_000)


def flood() -> Iterator[Row]:
    yield from stream("flood", "small spans without a pause, 5 s: delivered", 100_000)


def stream(task: str, figure: str, rate: int) -> Iterator[Row]:
    results = list(both(task))
    shown = []
    for result in results:
        if result is None:
            shown.append((no_reference(),) * 3)
            continue
        said, saw = result
        lost = said["ended"] - saw["distinct"]
        shown.append((f"{saw['distinct'] / said['seconds']:,.0f}/s", f"{lost:,}", f"{said['grown_mib']:.0f} MiB"))
    assert results[0] is not None
    said, saw = results[0]
    lost = said["ended"] - saw["distinct"]
    figures = (
        (figure, f"{rate:,}/s", saw["distinct"] / said["seconds"] >= rate),
        # A queue that is full drops what comes, which flush and statistics say.
        ("  lost", "0", lost == 0 and said["flushed"] is True)
        if task == "sustained"
        else (
            "  lost, and counted",
            f"{said['dropped']:,}",
            lost == said["dropped"] and said["flushed"] is (lost == 0),
        ),
        ("  memory, more than at the start", "96 MiB at most", said["grown_mib"] <= 96),
    )
    for at, (name, asked, met) in enumerate(figures):
        yield Row(name, asked, shown[0][at], shown[1][at], met)


def spool() -> Iterator[Row]:
    with sink() as url:
        costs = run("tracebaton", "spool", url)
    assert costs is not None
    for what, times in costs.items():
        whole = times["nothing"]
        yield Row(f"spool: {what}", "", f"{whole:,.0f} ns without", "it has none", True)
        for recorded, most in (("ends", 10), ("starts", 30)):
            more = (times[recorded] / whole - 1) * 100
            # One that is empty and never current is no whole span; it is here to be seen.
            asked = f"+{most} % at most" if what != "start_span().end()" else ""
            said = "  ended spans" if recorded == "ends" else "  starts, too"
            yield Row(said, asked, f"+{more:.1f} %", "", not asked or more <= most)


FIGURES: dict[str, Callable[[], Iterator[Row]]] = {
    "burst": burst,
    "late": late,
    "sustained": sustained,
    "flood": flood,
    "busy": busy,
    "dead": dead,
    "spool": spool,
}


def main() -> int:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("figures", nargs="*", choices=[*FIGURES, []], help="all unless some are named")
    parser.add_argument("--program", nargs=3, metavar=("LIBRARY", "TASK", "URL"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.program:
        program(*arguments.program)
        return 0
    if not os.path.exists(SINK):
        print(f"{SINK} is missing: cargo build --release -p tracebaton-bench --example sink", file=sys.stderr)
        return 1
    if not os.environ.get("HONEYHIVE_PYTHON"):
        print("the honeyhive package is not here (HONEYHIVE_PYTHON): no figures beside ours")
    missed = False
    print(f"{'':46} {'asked':>20} {'tracebaton':>22} {'honeyhive':>28}")
    for name in arguments.figures or FIGURES:
        for row in FIGURES[name]():
            missed |= not row.met
            mark = "" if row.met else "  MISSED"
            print(f"{row.figure:46} {row.asked:>20} {row.ours:>22} {row.theirs:>28}{mark}", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
