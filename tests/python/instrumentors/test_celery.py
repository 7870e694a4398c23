"""The contrib instrumentor of Celery: a worker in a thread, with a broker in memory."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import celery
import pytest
from celery.contrib.testing.worker import start_worker
from instrumented import Instrument, sessions, tree
from opentelemetry import trace as otel_trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from recorded import by_name, spans_of
from tracebaton import Tracer, enrich_span_context, trace, with_distributed_trace_context

WAIT_SECONDS = 20.0


@trace(event_name="step")
def step(value: int) -> int:
    if value < 0:
        raise ValueError("mine")
    return value + 1


def make_app() -> celery.Celery:
    app = celery.Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.update(
        broker_connection_retry_on_startup=True,
        broker_transport_options={"polling_interval": 0.01},
    )

    @app.task(name="add", shared=False)
    def add(value: int) -> int:
        with enrich_span_context("handled"):
            return step(value)

    @app.task(name="twice", shared=False)
    def twice(value: int) -> None:
        add.delay(value)

    return app


@pytest.fixture(scope="module")
def app() -> Iterator[celery.Celery]:
    """An application with a worker in a thread, which takes seconds to stop."""
    app = make_app()
    # Who listens sets up logging in Celery's place.
    celery.signals.setup_logging.connect(_leave_logging_alone)
    try:
        with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=WAIT_SECONDS):
            yield app
    finally:
        celery.signals.setup_logging.disconnect(_leave_logging_alone)


def _leave_logging_alone(**_: object) -> None:
    pass


@contextlib.contextmanager
def waiting(tasks: int) -> Iterator[None]:
    """The end of the block waits until the worker has done this many tasks."""
    done = threading.Semaphore(0)

    def finish(**_: object) -> None:
        done.release()

    # After the instrumentor's own receivers: they are called in the order in which they were connected.
    celery.signals.task_postrun.connect(finish, weak=False)
    try:
        yield
        for _ in range(tasks):
            assert done.acquire(timeout=WAIT_SECONDS)
    finally:
        celery.signals.task_postrun.disconnect(finish)


def test_a_task_on_a_worker(instrument: Instrument, tracer: Tracer, app: celery.Celery) -> None:
    with instrument(CeleryInstrumentor()), waiting(1), tracer.start_span("request"):
        app.tasks["add"].delay(1)
    spans = spans_of(tracer)
    assert tree(spans) == ["request", "  apply_async/add", "    run/add", "      handled", "        step"]
    assert sessions(spans) == {"the session"}
    named = by_name(spans)
    assert (named["apply_async/add"].kind, named["run/add"].kind) == (4, 5)
    assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN


def test_a_callers_session_reaches_the_task(instrument: Instrument, tracer: Tracer, app: celery.Celery) -> None:
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {"traceparent": caller, "baggage": "session_id=theirs,k=v"}
    with instrument(CeleryInstrumentor()), waiting(3):
        with with_distributed_trace_context(headers, tracer):
            app.tasks["twice"].delay(1)
        app.tasks["add"].delay(5)
    theirs = [span for span in spans_of(tracer) if span.trace_id == caller[3:35]]
    own = [span for span in spans_of(tracer) if span.trace_id != caller[3:35]]
    add = ["apply_async/add", "  run/add", "    handled", "      step"]
    assert tree(theirs) == ["? apply_async/twice", "  run/twice", *("    " + line for line in add)]
    assert sessions(theirs) == {"theirs"}
    # A worker's thread has nothing left of the task before.
    assert tree(own) == add
    assert sessions(own) == {"the session"}


def test_a_task_that_fails(
    instrument: Instrument, tracer: Tracer, app: celery.Celery, caplog: pytest.LogCaptureFixture
) -> None:
    with instrument(CeleryInstrumentor()), waiting(1), tracer.start_span("request"):
        app.tasks["add"].delay(-1)
    caplog.clear()  # Celery itself logs it
    named = by_name(spans_of(tracer))
    assert (named["run/add"].status, named["step"].status) == (2, 2)
    assert named["step"].error == "mine"
    assert len(named["run/add"].exceptions) == 1


def test_at_once(instrument: Instrument, tracer: Tracer) -> None:
    """`task_always_eager`: there is neither a broker nor a worker."""
    app = make_app()
    app.conf.task_always_eager = True
    with instrument(CeleryInstrumentor()), tracer.start_span("request"):
        assert app.tasks["add"].delay(1).get() == 2
    spans = spans_of(tracer)
    assert tree(spans) == ["request", "  run/add", "    handled", "      step"]
    assert sessions(spans) == {"the session"}
