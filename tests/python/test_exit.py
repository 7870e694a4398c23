"""The end of a program: what has ended is delivered, however it ends, and never for longer than told."""

from __future__ import annotations

import signal
import sys
import textwrap
import time
from pathlib import Path

import pytest
from collector import Answer, Collector
from programs import clean_environment, output, run
from serving import free_port, get_when_up, running

PREAMBLE = """
import atexit, os, sys, threading, time, asyncio, signal
import tracebaton
tracer = tracebaton.Tracer.init(project="shop", session_id="own")
"""
SPAN = """
with tracer.start_span("work"):
    pass
"""

ENDINGS = {
    "end of the file": (SPAN, 0),
    "sys.exit()": (SPAN + "sys.exit()", 0),
    "sys.exit(3)": (SPAN + "sys.exit(3)", 3),
    "an exception": (SPAN + "raise ValueError('x')", 1),
    "inside the span": ("with tracer.start_span('work'):\n    sys.exit(4)", 4),
    "an exception inside": ("with tracer.start_span('work'):\n    raise KeyError", 1),
    "Ctrl-C": (SPAN + "os.kill(os.getpid(), signal.SIGINT)\ntime.sleep(10)", -2),
    "in asyncio.run": ("async def main():\n    async with tracer.start_span('work'): pass\nasyncio.run(main())", 0),
    "a daemon thread": (
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()" + SPAN,
        0,
    ),
    "a span at exit": (
        "def late():\n    with tracer.start_span('work'): pass\natexit.register(late)",
        0,
    ),
    "a thread that outlives main": (
        "def late():\n    time.sleep(0.2)\n    with tracer.start_span('work'): pass\n"
        "threading.Thread(target=late).start()",
        0,
    ),
    "a tracer nobody holds": ("del tracer\nwith tracebaton.enrich_span_context('work'): pass", 0),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_has_ended_is_delivered(collector: Collector, ending: str) -> None:
    code, status = ENDINGS[ending]
    done = run(PREAMBLE + code, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    assert done.returncode == status, done.stderr
    assert [span.name for span in collector.spans] == ["work"], done.stderr
    assert collector.spans[0].session == "own"
    if status == 0:
        assert done.stderr == ""


def test_spans_of_a_tracer_that_is_gone_are_delivered_too(collector: Collector) -> None:
    code = PREAMBLE + (
        "def request(n):\n"
        "    one = tracebaton.Tracer.init(session_id=f's{n}')\n"
        "    with one.start_span('work'): pass\n"
        "for n in range(20): request(n)\n"
    )
    output(code, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    assert sorted(span.session for span in collector.spans) == sorted(f"s{number}" for number in range(20))


def test_a_black_hole_holds_up_the_end_for_five_seconds_at_most(collector: Collector) -> None:
    collector.always = Answer(hang=True)
    began = time.monotonic()
    done = run(PREAMBLE + SPAN * 3, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    took = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    assert took < 15, took
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("attempt", range(3))
def test_what_is_lost_at_the_end_is_told(attempt: int) -> None:
    """The last word comes before the interpreter goes."""
    done = run(PREAMBLE + SPAN, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"})
    assert done.returncode == 0
    assert done.stderr == "cannot reach http://127.0.0.1:9 (connection refused): 1 span dropped\n"


def test_a_black_hole_is_told_too(collector: Collector) -> None:
    collector.always = Answer(hang=True)
    done = run(PREAMBLE + SPAN, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    assert done.returncode == 0
    assert "1 span on the way without an answer" in done.stderr


def test_nothing_to_deliver_means_no_wait(collector: Collector) -> None:
    collector.always = Answer(hang=True)
    began = time.monotonic()
    assert output(PREAMBLE + "print('done')", {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}) == "done"
    assert time.monotonic() - began < 5
    assert collector.requests == []


def test_os_exit_is_the_programs_own_wish(collector: Collector) -> None:
    done = run(PREAMBLE + SPAN + "os._exit(7)", {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    assert done.returncode == 7


def test_no_signal_handlers() -> None:
    code = PREAMBLE + SPAN + "print(int(signal.getsignal(signal.SIGTERM)), signal.getsignal(signal.SIGINT).__name__)"
    environment = {"OTEL_TRACES_EXPORTER": "none"}
    assert output(code, environment) == "0 default_int_handler"


def test_flush_before_a_freeze_delivers(collector: Collector) -> None:
    """A function as a service: what was flushed is there although the process goes without a word."""
    code = PREAMBLE + SPAN + "assert tracer.flush(10_000)\nos.kill(os.getpid(), signal.SIGKILL)"
    assert run(code, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}).returncode == -9
    assert len(collector.spans) == 1


@pytest.mark.timeout(120)
def test_uvicorn_which_ends_by_a_signal(collector: Collector, tmp_path: Path) -> None:
    """It shuts down in order, and then ends its process by the signal that it got, so that nothing runs at exit."""
    (tmp_path / "served.py").write_text(
        textwrap.dedent(
            """
            import fastapi
            import tracebaton
            from tracebaton.middleware import AsgiMiddleware

            tracer = tracebaton.Tracer.init(session_id="own")
            app = fastapi.FastAPI()
            app.add_middleware(AsgiMiddleware, tracer=tracer)

            @app.get("/")
            def index():
                return "ok"
            """
        )
    )
    port = free_port()
    environment = {"OTEL_BSP_SCHEDULE_DELAY": "3600000", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    command = [sys.executable, "-m", "uvicorn", "served:app", f"--port={port}"]
    with running(command, tmp_path, clean_environment(environment)) as server:
        get_when_up(f"http://127.0.0.1:{port}/")
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    assert [span.name for span in collector.spans] == ["GET /"]
