"""Servers and workers under tracebaton-run, in the processes that they start: each serves a program written for
`honeyhive`, and goes on in its callers' trace and session."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from launched import RUN, Backend, Write, serving_flask, succeed
from serving import free_port, get_when_up, running

SECONDS = 60.0
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
SESSION = "9e107d9d-372b-4b81-8db2-8f3b0c7c1a11"
SENT = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01", "baggage": f"session_id={SESSION}"}

pytestmark = pytest.mark.timeout(150)

WSGI = """\
    import os
    from honeyhive import HoneyHiveTracer, trace
    from honeyhive.tracer.processing.context import enrich_span_context, with_distributed_trace_context

    tracer = HoneyHiveTracer.init(source="served")

    @trace(event_type="tool", event_name="work")
    def work(number):
        return os.getpid()

    def app(environ, start_response):
        with with_distributed_trace_context(environ, tracer), enrich_span_context("handled " + environ["QUERY_STRING"]):
            body = str(work(environ["QUERY_STRING"])).encode()
        start_response("200 OK", [("content-type", "text/plain"), ("content-length", str(len(body)))])
        return [body]
    """

ASGI = """\
    import os
    from honeyhive import HoneyHiveTracer, trace
    from honeyhive.tracer.processing.context import enrich_span_context, with_distributed_trace_context

    tracer = HoneyHiveTracer.init(source="served")
    VERSION = "one"

    @trace(event_type="tool", event_name="work")
    async def work(number):
        return str(os.getpid())

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        number = scope["query_string"].decode()
        if scope["path"] == "/version":
            body = VERSION.encode()
        else:
            carrier = dict(scope["headers"])
            with with_distributed_trace_context(carrier, tracer), enrich_span_context("handled " + number):
                body = (await work(number)).encode()
        headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
    """


def check(backend: Backend, handled: int) -> None:
    """Every request that was handled is there once, with what was called in it, where its caller is."""
    spans = backend.raw_spans
    named = {span["name"]: span for span in spans}
    assert set(named) == {"work", *(f"handled {number}" for number in range(handled))}
    assert len({span["spanId"] for span in spans}) == len(spans) == 2 * handled
    outer = {span["spanId"] for span in spans if span["name"] != "work"}
    for span in spans:
        assert span["traceId"] == TRACE_ID
        assert span["parentSpanId"] in (outer if span["name"] == "work" else {SPAN_ID})
        assert span["values"]["honeyhive.session_id"] == SESSION
        assert span["values"]["honeyhive.source"] == "served"


def ask_until(url: str, enough: Callable[[set[str], int], bool]) -> int:
    """Sends requests, numbered from 0 on, until the different answers and their number are enough; the number."""
    answers: set[str] = set()
    asked = 0
    end = time.monotonic() + SECONDS
    while not enough(answers, asked):
        assert time.monotonic() < end, answers
        answers.add(get_when_up(f"{url}/?{asked}", SENT))
        asked += 1
    return asked


SERVERS: dict[str, tuple[str, list[str], int]] = {
    # The program, the command, and how many processes serve.
    "gunicorn": (WSGI, ["gunicorn", "served:app", "--bind", "127.0.0.1:{port}"], 1),
    "gunicorn, two workers": (WSGI, ["gunicorn", "served:app", "--workers=2", "--bind", "127.0.0.1:{port}"], 2),
    "gunicorn, preloaded": (
        WSGI,
        ["gunicorn", "served:app", "--preload", "--workers=2", "--bind", "127.0.0.1:{port}"],
        2,
    ),
    "gunicorn, as a module": (WSGI, ["-m", "gunicorn", "served:app", "--bind", "127.0.0.1:{port}"], 1),
    "gunicorn, threads": (WSGI, ["gunicorn", "served:app", "--threads=4", "--bind", "127.0.0.1:{port}"], 1),
    "uvicorn": (ASGI, ["uvicorn", "served:app", "--port={port}"], 1),
    "uvicorn, two workers": (ASGI, ["uvicorn", "served:app", "--workers=2", "--port={port}"], 2),
    "uvicorn, as a module": (ASGI, ["-m", "uvicorn", "served:app", "--port={port}"], 1),
}


@pytest.mark.parametrize("kind", SERVERS)
def test_a_server(kind: str, backend: Backend, environment: dict[str, str], tmp_path: Path, write: Write) -> None:
    program, command, processes = SERVERS[kind]
    write("served.py", program)
    port = free_port()
    filled = [part.format(port=port) for part in command]
    with running([*RUN, *filled], tmp_path, environment) as server:
        url = f"http://127.0.0.1:{port}"
        asked = ask_until(url, lambda answers, asked: len(answers) >= processes and asked >= 10)
        if program is ASGI:
            # It kills itself by the signal, and what it has recorded by then is lost: AsgiMiddleware delivers before.
            backend.wait_for_spans(2 * asked)
        server.send_signal(signal.SIGTERM)
        assert server.wait(SECONDS) in (0, -signal.SIGTERM)
    check(backend, asked)


def test_a_server_that_reloads(backend: Backend, environment: dict[str, str], tmp_path: Path, write: Write) -> None:
    """The program is changed, and served by a new process."""
    write("served.py", ASGI)
    port = free_port()
    with running([*RUN, "uvicorn", "served:app", "--reload", f"--port={port}"], tmp_path, environment) as server:
        url = f"http://127.0.0.1:{port}"
        get_when_up(f"{url}/?0", SENT)
        backend.wait_for_spans(2)
        write("served.py", ASGI.replace('"one"', '"the second"'))
        end = time.monotonic() + SECONDS
        while get_when_up(f"{url}/version") != "the second":
            assert time.monotonic() < end, "the server does not reload"
            time.sleep(0.05)
        get_when_up(f"{url}/?1", SENT)
        backend.wait_for_spans(4)
        server.send_signal(signal.SIGTERM)
        assert server.wait(SECONDS) in (0, -signal.SIGTERM)
    check(backend, 2)


def test_an_installed_command(backend: Backend, environment: dict[str, str], tmp_path: Path, write: Write) -> None:
    program = """\
        import os
        from flask import Flask, request
        from honeyhive import HoneyHiveTracer, trace
        from honeyhive.tracer.processing.context import with_distributed_trace_context

        tracer = HoneyHiveTracer.init(source="served")
        app = Flask(__name__)

        @app.get("/")
        def root():
            with with_distributed_trace_context(dict(request.headers), tracer), tracer.start_span("handled"):
                return "ok"
        """
    write("served.py", program)
    client = """\
        import sys, urllib.request
        from honeyhive.tracer import HoneyHiveTracer
        from honeyhive.tracer.processing import inject_context_into_carrier
        tracer = HoneyHiveTracer.init(source="client", session_id="9e107d9d-372b-4b81-8db2-8f3b0c7c1a11")
        with tracer.start_span("asked"):
            request = urllib.request.Request(sys.argv[1], headers=inject_context_into_carrier({}, tracer))
            assert urllib.request.urlopen(request).read() == b"ok"
        """
    with serving_flask(["flask", "--app", "served", "run", "--port", "0"], environment, tmp_path) as url:
        succeed([write("client.py", client), url], environment, tmp_path)
    asked, handled = backend.raw_span("asked"), backend.raw_span("handled")
    assert handled["traceId"] == asked["traceId"]
    assert handled["parentSpanId"] == asked["spanId"]
    assert handled["values"]["honeyhive.session_id"] == "9e107d9d-372b-4b81-8db2-8f3b0c7c1a11"


def test_celery(backend: Backend, environment: dict[str, str], tmp_path: Path, write: Write) -> None:
    """A worker with processes, and a program that sends it tasks, both written for `honeyhive`."""
    tasks = 8
    write(
        "tasks.py",
        """
        import os
        import celery
        from honeyhive import HoneyHiveTracer, trace
        from honeyhive.tracer.processing.context import enrich_span_context, with_distributed_trace_context

        folder = os.environ["QUEUE_FOLDER"]
        tracer = HoneyHiveTracer.init(source="served")
        app = celery.Celery("tasks", broker="filesystem://")
        app.conf.update(
            broker_transport_options={"data_folder_in": folder, "data_folder_out": folder, "processed_folder": folder},
            broker_connection_retry_on_startup=True,
            worker_prefetch_multiplier=1,
            task_ignore_result=True,
        )

        @trace(event_type="tool", event_name="work")
        def work(number):
            return number

        @app.task
        def handle(number, carrier):
            with with_distributed_trace_context(carrier, tracer), enrich_span_context(f"handled {number}"):
                work(number)
            with open(os.path.join(folder, f"done-{number}-{os.getpid()}"), "w"):
                pass
        """,
    )
    sender = """
        import sys, tasks
        for number in range(int(sys.argv[1])):
            tasks.handle.delay(number, {"traceparent": sys.argv[2], "baggage": sys.argv[3]})
        """
    queue = tmp_path / "queue"
    queue.mkdir()
    environment["QUEUE_FOLDER"] = str(queue)
    succeed([write("send.py", sender), str(tasks), SENT["traceparent"], SENT["baggage"]], environment, tmp_path)
    command = ["celery", "-A", "tasks", "worker", "--concurrency=2", "--pool=prefork", "--loglevel=INFO"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    with running([*RUN, *command], tmp_path, environment) as worker:
        end = time.monotonic() + SECONDS
        while len(done := list(queue.glob("done-*"))) < tasks:
            assert time.monotonic() < end, "the tasks are not done"
            assert worker.poll() is None
            time.sleep(0.02)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(SECONDS) == 0
    assert str(worker.pid) not in {name.name.rpartition("-")[2] for name in done}
    check(backend, tasks)
