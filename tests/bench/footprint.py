"""What tracebaton costs beside opentelemetry-python where nothing is measured in microseconds: memory and start-up.

    python tests/bench/footprint.py [memory|import]… [--json FILE]

Memory is that of a span that has ended and waits for a receiver which never answers: by how much the process has grown
after many of them, in a process of its own for each side. Start-up is the processor time that `import tracebaton` adds
to `import opentelemetry.trace`: the median of processes that take turns. The exit code is 1 if a figure misses what was
asked for.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import Any

SPANS = 50_000
WARM_UP = 1_000
MEMORY_ROUNDS = 3
IMPORT_ROUNDS = 25
IMPORTS = {"opentelemetry": "import opentelemetry.trace", "tracebaton": "import opentelemetry.trace, tracebaton"}
ATTRIBUTES: dict[str, Any] = {"app.name": "value", "app.count": 42, "app.ratio": 0.5}


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# Kept for as long as the process lives.
listeners: list[socket.socket] = []


def ours() -> tuple[Any, Callable[[], int]]:
    """A provider before a receiver that never answers, and what tells how many spans wait."""
    import tracebaton

    listener = socket.create_server(("127.0.0.1", 0))
    tracer = tracebaton.Tracer.init(
        exporter="otlp", otlp_endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}", project="agents"
    )
    listeners.append(listener)
    return tracer.provider, lambda: tracer.stats()["queued"]


def theirs() -> tuple[Any, Callable[[], int]]:
    """The same with OpenTelemetry's SDK, whose queue is made as long as it must be."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    taken = 0

    class Never(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            nonlocal taken
            # Held here, as an exporter holds what it has not got an answer for.
            taken += len(spans)
            threading.Event().wait()
            return SpanExportResult.SUCCESS

    processor = BatchSpanProcessor(Never(), max_queue_size=2 * (SPANS + WARM_UP))
    provider = TracerProvider()
    provider.add_span_processor(processor)
    queue = processor._batch_processor._queue
    return provider, lambda: len(queue) + taken


def grow(library: str) -> None:
    """Prints by how many bytes each waiting span has made this process grow."""
    provider, waiting = ours() if library == "tracebaton" else theirs()
    tracer = provider.get_tracer("bench")

    def end(count: int) -> None:
        for _ in range(count):
            tracer.start_span("work", attributes=ATTRIBUTES).end()

    end(WARM_UP)
    gc.collect()
    before = resident_bytes()
    end(SPANS)
    gc.collect()
    after = resident_bytes()
    assert waiting() == SPANS + WARM_UP, waiting()
    print((after - before) / SPANS, flush=True)
    # Nobody waits for the receiver.
    os._exit(0)


def memory() -> dict[str, Any]:
    """Bytes of a waiting span."""
    found: dict[str, list[float]] = {"tracebaton": [], "opentelemetry": []}
    for _ in range(MEMORY_ROUNDS):
        for library, bytes_each in found.items():
            command = [sys.executable, __file__, "--grow", library]
            bytes_each.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    ours, theirs = (statistics.median(found[library]) for library in ("tracebaton", "opentelemetry"))
    print(
        f"{'memory of a waiting span, 3 attributes':42} {ours:9.0f} B {theirs:12.0f} B "
        f"{ours / theirs:7.0%} (asked: less than 50%)"
    )
    return {
        "name": "memory of a waiting span",
        "tracebaton_bytes": ours,
        "opentelemetry_bytes": theirs,
        "rounds": found,
        "met": ours < theirs / 2,
    }


def cpu_ms(code: str, compiled: str) -> float:
    """Processor time of a process that runs this code, and keeps its modules' bytecode in a directory."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["PYTHONPYCACHEPREFIX"] = compiled
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Not where a package of this name may lie.
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=compiled)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1e3 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def imports() -> dict[str, Any]:
    """Milliseconds of an import."""
    found: dict[str, list[float]] = {name: [] for name in IMPORTS}
    with tempfile.TemporaryDirectory() as compiled:
        for _ in range(IMPORT_ROUNDS + 1):
            for name, code in IMPORTS.items():
                found[name].append(cpu_ms(code, compiled))
    # The first of each has compiled the modules.
    times = {name: sorted(of_one[1:]) for name, of_one in found.items()}
    with_ours, without = (statistics.median(times[name]) for name in ("tracebaton", "opentelemetry"))
    added = with_ours - without
    spread = max(times[name][3 * IMPORT_ROUNDS // 4] - times[name][IMPORT_ROUNDS // 4] for name in IMPORTS)
    print(
        f"{'import, on top of opentelemetry.trace':42} {added:8.1f} ms {without:11.1f} ms "
        f"{'':7} (asked: at most 15 ms; half of the processes within {spread:.1f} ms)"
    )
    return {
        "name": "import",
        "added_ms": added,
        "opentelemetry_ms": without,
        "spread_ms": spread,
        "met": added <= 15,
    }


FIGURES: dict[str, Callable[[], dict[str, Any]]] = {"memory": memory, "import": imports}


def main() -> int:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help="memory, import [both]")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--grow", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.grow:
        grow(arguments.grow)
    unknown = sorted(set(arguments.figures) - set(FIGURES))
    if unknown:
        parser.error(f"no such figure: {', '.join(unknown)}")
    print(f"{'':42} {'tracebaton':>12} {'OpenTelemetry':>14} {'ratio':>7}")
    rows = [figure() for name, figure in FIGURES.items() if name in (arguments.figures or FIGURES)]
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=2)
    return 0 if all(row["met"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
