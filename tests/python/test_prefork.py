"""Servers that fork their workers from a process that has a tracer already: each span arrives once, also those of a
worker's last moments."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from collector import Collector
from programs import clean_environment
from serving import free_port, get_when_up, running

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork"),
    pytest.mark.timeout(120),
]
SECONDS = 60.0
# Nothing is delivered because its time has come: what arrives was delivered by a flush, or at the end of its process.
PATIENT = {"OTEL_BSP_SCHEDULE_DELAY": "3600000"}


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(textwrap.dedent(text), encoding="utf-8")


def once(collector: Collector) -> list[str]:
    spans = collector.spans
    assert len({span.span_id for span in spans}) == len(spans), "a span came twice, or an id did"
    return sorted(span.name for span in spans)


@pytest.mark.parametrize("preload", [True, False])
def test_gunicorn(collector: Collector, tmp_path: Path, preload: bool) -> None:
    write(
        tmp_path,
        "served.py",
        """
        import os
        import tracebaton

        tracer = tracebaton.Tracer.init(session_id="own")
        with tracer.start_span("loaded"):
            pass
        # Preloaded, the tracer has delivered, and so has had a thread, before the workers are forked.
        assert tracer.flush(10_000)

        def app(environ, start_response):
            with tracer.start_span("handled " + environ["QUERY_STRING"]):
                start_response("200 OK", [("content-type", "text/plain")])
                return [str(os.getpid()).encode()]
        """,
    )
    port = free_port()
    command = ["-m", "gunicorn", "served:app", "--workers", "2", "--bind", f"127.0.0.1:{port}", "--graceful-timeout=20"]
    environment = {**PATIENT, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "PYTHONPATH": str(tmp_path)}
    command += ["--preload"] if preload else []
    with running([sys.executable, *command], tmp_path, clean_environment(environment)) as server:
        workers, sent = set(), 0
        end = time.monotonic() + SECONDS
        while len(workers) < 2 or sent < 40:
            assert time.monotonic() < end, "only one worker answers"
            workers.add(get_when_up(f"http://127.0.0.1:{port}/?{sent}"))
            sent += 1
        assert str(server.pid) not in workers
        # At once: what the workers have not delivered yet, they deliver at their ends.
        server.send_signal(signal.SIGTERM)
        assert server.wait(SECONDS) == 0
    loaded = ["loaded"] * (1 if preload else 2)
    assert once(collector) == sorted(["handled " + str(number) for number in range(sent)] + loaded)


@pytest.mark.parametrize("end", ["SIGTERM", "max-tasks-per-child"])
def test_celery(collector: Collector, tmp_path: Path, end: str) -> None:
    """Celery's pool processes end by `os._exit`, after a signal of its own."""
    tasks = 12
    write(
        tmp_path,
        "tasks.py",
        """
        import os
        import celery
        import tracebaton

        folder = os.environ["QUEUE_FOLDER"]
        tracer = tracebaton.Tracer.init(session_id="own")
        app = celery.Celery("tasks", broker="filesystem://")
        app.conf.update(
            broker_transport_options={"data_folder_in": folder, "data_folder_out": folder, "processed_folder": folder},
            broker_connection_retry_on_startup=True,
            worker_prefetch_multiplier=1,
            task_ignore_result=True,
        )
        with tracer.start_span("loaded"):
            pass

        @app.task
        def work(number):
            with tracer.start_span(f"task {number}"):
                pass
            with open(os.path.join(folder, f"done-{number}"), "w"):
                pass
        """,
    )
    queue = tmp_path / "queue"
    queue.mkdir()
    environment = {**PATIENT, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "QUEUE_FOLDER": str(queue)}
    sender = f"import tasks\nfor number in range({tasks}): tasks.work.delay(number)\n"
    subprocess.run(
        [sys.executable, "-c", sender],
        cwd=tmp_path,
        env=clean_environment({**environment, "OTEL_TRACES_EXPORTER": "none"}),
        timeout=SECONDS,
        check=True,
    )
    command = ["-m", "celery", "-A", "tasks", "worker", "--concurrency=2", "--pool=prefork", "--loglevel=INFO"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    command += ["--max-tasks-per-child=3"] if end != "SIGTERM" else []
    environment["PYTHONPATH"] = str(tmp_path)
    with running([sys.executable, *command], tmp_path, clean_environment(environment)) as worker:
        until = time.monotonic() + SECONDS
        while len(list(queue.glob("done-*"))) < tasks:
            assert time.monotonic() < until, "the tasks are not done"
            assert worker.poll() is None
            time.sleep(0.02)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(SECONDS) == 0
    assert once(collector) == sorted(["loaded", *(f"task {number}" for number in range(tasks))])
