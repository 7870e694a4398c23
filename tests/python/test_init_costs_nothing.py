"""`init` touches no network and starts no thread, and an unreachable backend costs the program nothing."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from collector import Answer, Collector
from programs import OPENTELEMETRY, output
from tracebaton import Tracer, trace


def threads() -> int:
    """Native threads too."""
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_no_connection_and_no_thread(collector: Collector) -> None:
    code = """
        import sys
        from pathlib import Path
        import tracebaton
        tasks = lambda: len(list(Path("/proc/self/task").iterdir()))
        before = tasks()
        opened = []
        sys.addaudithook(lambda event, args: opened.append(event) if event.startswith("socket.") else None)
        for _ in range(20):
            tracebaton.Tracer.init(api_key="k", project="p")
        sockets = [one for one in Path("/proc/self/fd").iterdir() if "socket" in str(one.resolve())]
        print(tasks() - before, opened, sockets)
    """
    assert output(code, {"HH_API_URL": collector.url}) == "0 [] []"
    assert collector.requests == []


def test_importing_brings_in_no_sdk_and_no_client() -> None:
    code = """
        import sys
        import tracebaton
        tracebaton.Tracer.init(exporter="otlp")
        heavy = ("opentelemetry.sdk", "google.protobuf", "requests", "grpc", "pydantic", "asyncio", "urllib.request")
        print([name for name in heavy if name in sys.modules])
    """
    # OpenTelemetry's API brought asyncio itself until 1.39.
    assert output(code) == ("[]" if OPENTELEMETRY >= (1, 39) else "['asyncio']")


def test_tracers_that_are_gone_leave_no_thread(collector: Collector) -> None:
    before = threads()
    for _ in range(20):
        tracer = Tracer.init(otlp_endpoint=collector.url, exporter="otlp")
        with tracer.start_span("work"):
            pass
        assert tracer.shutdown(10_000)
        del tracer
    deadline = time.monotonic() + 10
    # The collector's own threads come and go too.
    while threads() > before + 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threads() <= before + 2
    assert len(collector.spans) == 20


def test_many_tracers_of_one_destination_share_a_thread(collector: Collector) -> None:
    tracers = [Tracer.init(otlp_endpoint=collector.url, exporter="otlp") for _ in range(30)]
    before = threading.active_count(), threads()
    for tracer in tracers:
        with tracer.start_span("work"):
            pass
    assert threads() - before[1] <= 12
    assert all(tracer.flush(10_000) for tracer in tracers)
    assert len(collector.spans) == 30


def test_an_unreachable_backend_is_reported_once_and_work_goes_on(
    closed_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    tracer = Tracer.init(exporter="otlp", otlp_endpoint=f"http://127.0.0.1:{closed_port}", flush_interval=0.01)

    @trace
    def work(number: int) -> int:
        return number + 1

    with caplog.at_level(logging.WARNING, logger="tracebaton"):
        assert [work(number) for number in range(50)] == list(range(1, 51))
        assert not tracer.flush(300)
        assert [work(number) for number in range(50)] == list(range(1, 51))
        assert not tracer.flush(1_500)
    assert len(caplog.messages) == 1, caplog.messages
    stats = tracer.stats()
    assert stats["sent"] == 0
    assert stats["queued"] == 100
    assert stats["last_error"]


def test_a_black_hole_does_not_hold_up_spans(collector: Collector) -> None:
    collector.always = Answer(hang=True)
    tracer = Tracer.init(exporter="otlp", otlp_endpoint=collector.url, disable_batch=True)
    with tracer.start_span("first"):
        pass
    collector.wait_for_requests(1)
    began = time.monotonic()
    for _ in range(500):
        with tracer.start_span("work"):
            pass
    assert time.monotonic() - began < 2
    assert tracer.stats()["queued"] > 0


def test_a_name_that_does_not_resolve_holds_up_nothing() -> None:
    code = """
        import time, tracebaton
        tracer = tracebaton.Tracer.init(exporter="otlp", otlp_endpoint="http://nowhere.invalid:4318")
        with tracer.start_span("work"):
            pass
        began = time.monotonic()
        assert not tracer.flush(200)
        assert time.monotonic() - began < 2
        assert not tracer.shutdown(100)
        print("done")
    """
    began = time.monotonic()
    assert "done" in output_of_any(code)
    assert time.monotonic() - began < 20


def output_of_any(code: str) -> str:
    """As `output`, but warnings on stderr are fine."""
    from programs import run

    done = run(code)
    assert done.returncode == 0, done.stderr
    return done.stdout
