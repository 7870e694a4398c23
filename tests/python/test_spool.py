"""The spool: spans outlive their process, whatever ends it."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from collector import Answer, Collector
from opentelemetry.trace import get_current_span
from tracebaton import Tracer, enrich_span_context, trace

ROUNDS = int(os.environ.get("SPOOL_ROUNDS", "6"))
BINARY = Path(os.environ.get("TRACEBATON_BIN") or Path(__file__).parents[2] / "target" / "release" / "tracebaton")
NOWHERE = "http://127.0.0.1:9"

# Two threads that tell of each span when its start has returned, and its end.
VICTIM = """
    import os, sys, threading, time
    from tracebaton import Tracer

    tracer = Tracer.init(spool_dir=sys.argv[1], exporter="otlp", otlp_endpoint=sys.argv[2], flush_interval=0.05)
    library = tracer.provider.get_tracer("victim")

    def work(number):
        spans = []
        while True:
            span = library.start_span("work", attributes={"number": number})
            spans.append(span)
            os.write(1, b"s %016x\\n" % span.get_span_context().span_id)
            time.sleep(0.0002)
            if len(spans) > 5:
                span = spans.pop(len(spans) // 2)
                span.end()
                os.write(1, b"e %016x\\n" % span.get_span_context().span_id)

    for number in range(2):
        threading.Thread(target=work, args=(number,)).start()
"""


def python(code: str, *arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def died(code: str, *arguments: object) -> int:
    """The exit code of a program that kills itself."""
    process = python(code, *arguments)
    process.communicate(timeout=60)
    return process.returncode


def recover(directory: Path, collector: Collector, make_tracer: Callable[..., Tracer]) -> Tracer:
    """The next start: delivers everything that is left."""
    tracer = make_tracer(spool_dir=directory, exporter="otlp", otlp_endpoint=collector.url)
    deadline = time.monotonic() + 20
    while [file for file in files(directory) if f"-{os.getpid()}-" not in file]:
        assert time.monotonic() < deadline, "something was not recovered"
        time.sleep(0.005)
    return tracer


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.spool"))


@pytest.mark.timeout(60 + 5 * ROUNDS)
def test_kill_9_at_any_moment_loses_no_span(collector: Collector, tmp_path: Path, make_tracer: Any) -> None:
    seconds = random.Random(7)
    started: set[str] = set()
    ended: set[str] = set()
    for number in range(ROUNDS):
        # Every other one delivers on the way, and is killed between answers and what it makes of them.
        process = python(VICTIM, tmp_path, collector.url if number % 2 else NOWHERE)
        assert process.stdout is not None
        first = process.stdout.readline()
        timer = threading.Timer(seconds.random() * 0.2, process.kill)
        timer.start()
        said = first + process.communicate(timeout=60)[0]
        timer.join()
        # The last line may be torn, which its process had not finished to say.
        for line in said.decode().splitlines():
            what, _, span_id = line.partition(" ")
            if len(span_id) == 16:
                (started if what == "s" else ended).add(span_id)
        recover(tmp_path, collector, make_tracer).shutdown()
    assert ended
    spans = {span.span_id: span for span in collector.spans}
    interrupted = {span_id for span_id, span in spans.items() if span.message == "interrupted"}
    assert not ended - spans.keys(), "ended spans are missing"
    assert not ended & interrupted
    assert not (started - ended) - spans.keys(), "open spans are missing"
    for span_id in interrupted:
        span = spans[span_id]
        assert (span.status, span.name, span.scope) == (2, "work", "victim")
        assert span.end_ns >= span.start_ns > 0
    assert files(tmp_path) == []


@pytest.mark.parametrize("how", ["os.kill(os.getpid(), signal.SIGKILL)", "ctypes.string_at(0)", "os.abort()"])
def test_an_interrupted_span_is_reported_with_its_inputs_and_its_place(
    how: str, collector: Collector, tmp_path: Path, make_tracer: Any
) -> None:
    code = f"""
        import ctypes, faulthandler, os, signal, sys
        import tracebaton
        from tracebaton import Tracer

        tracer = Tracer.init(spool_dir=sys.argv[1], session_id="s-1", exporter="otlp", otlp_endpoint="{NOWHERE}")

        @tracebaton.trace(event_type="chain")
        def answer(question, api_key):
            with tracer.trace("done", event_type="tool"):
                pass
            with tracer.trace("inner", event_type="model"):
                {how}

        answer("why?", "secret")
    """
    assert died(code, tmp_path) != 0
    recover(tmp_path, collector, make_tracer)
    spans = {span.name: span for span in collector.spans}
    assert spans.keys() == {"__main__.answer", "inner", "done"}
    root, inner, done = spans["__main__.answer"], spans["inner"], spans["done"]
    assert (done.status, done.message, done.parent_id) == (0, "", root.span_id)
    for span, parent in ((root, ""), (inner, root.span_id)):
        assert (span.status, span.message, span.parent_id) == (2, "interrupted", parent)
        assert span.attributes["honeyhive.session_id"] == "s-1"
        assert span.end_ns >= done.end_ns, "the last time that is known"
    assert root.attributes["honeyhive_inputs.question"] == "why?"
    assert root.attributes["honeyhive_inputs.api_key"] == "[redacted]"
    assert (root.attributes["honeyhive_event_type"], inner.attributes["honeyhive_event_type"]) == ("chain", "model")


def test_what_was_delivered_is_not_delivered_again(collector: Collector, tmp_path: Path, make_tracer: Any) -> None:
    tracer = make_tracer(spool_dir=str(tmp_path), exporter="otlp", otlp_endpoint=collector.url)
    with tracer.trace("one"):
        assert len(files(tmp_path)) == 1
    assert tracer.flush()
    stats = tracer.stats()
    assert (stats["sent"], stats["spooled"], stats["recovered"]) == (1, 0, 0)
    tracer.shutdown()
    assert files(tmp_path) == [], "nothing is left"
    recover(tmp_path, collector, make_tracer)
    assert [span.name for span in collector.spans] == ["one"]


def test_a_destination_that_is_down_costs_nothing(collector: Collector, tmp_path: Path, make_tracer: Any) -> None:
    code = f"""
        import sys
        from tracebaton import Tracer
        tracer = Tracer.init(spool_dir=sys.argv[1], exporter="otlp", otlp_endpoint="{NOWHERE}")
        with tracer.trace("kept"):
            pass
    """
    process = python(code, tmp_path)
    said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 0
    assert "1 span kept in the spool" in said
    tracer = recover(tmp_path, collector, make_tracer)
    assert [span.name for span in collector.spans] == ["kept"]
    assert tracer.stats()["recovered"] == 1


def test_processes_share_a_directory_and_children_have_their_own_files(tmp_path: Path, collector: Collector) -> None:
    code = f"""
        import os, sys
        from tracebaton import Tracer
        tracer = Tracer.init(spool_dir=sys.argv[1], exporter="otlp", otlp_endpoint="{NOWHERE}")
        span = tracer.trace("parent")
        with span:
            pid = os.fork()
            if pid == 0:
                with tracer.trace("child"):
                    os._exit(0)
            os.waitpid(pid, 0)
            print(len(os.listdir(sys.argv[1])), flush=True)
            sys.stdin.read()
    """
    processes = [python(code, tmp_path, stdin=subprocess.PIPE) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline()
    assert len(files(tmp_path)) == 4
    for process in processes:
        process.kill()
        process.communicate()
    tracer = Tracer.init(spool_dir=tmp_path, exporter="otlp", otlp_endpoint=collector.url)
    spans = collector.wait_for_spans(4)
    assert sorted(span.name for span in spans) == ["child", "child", "parent", "parent"]
    assert all(span.message == "interrupted" for span in spans)
    tracer.shutdown()


def test_the_environment_names_the_directory_and_switches_starts_off(
    tmp_path: Path, collector: Collector, make_tracer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACEBATON_SPOOL_DIR", str(tmp_path))
    monkeypatch.setenv("TRACEBATON_SPOOL_STARTS", "false")
    code = f"""
        import os, signal
        from tracebaton import Tracer
        tracer = Tracer.init(exporter="otlp", otlp_endpoint="{NOWHERE}")
        with tracer.trace("open"):
            with tracer.trace("ended"):
                pass
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert died(code) == -9
    recover(tmp_path, collector, make_tracer)
    assert [span.name for span in collector.spans] == ["ended"]


def test_a_directory_that_cannot_be_is_a_warning(
    tmp_path: Path, collector: Collector, make_tracer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    tracer = make_tracer(spool_dir=tmp_path / "file" / "below", exporter="otlp", otlp_endpoint=collector.url)
    with tracer.trace("one"):
        pass
    assert tracer.flush()
    messages = [record.getMessage() for record in caplog.records if "spool" in record.getMessage()]
    assert len(messages) == 1
    assert str(tmp_path) not in messages[0]


def copies(directory: Path, span_id: int) -> int:
    """How many records of a span there are in the only file."""
    (file,) = directory.glob("*.spool")
    return file.read_bytes().count(span_id.to_bytes(8, "big"))


def test_a_span_is_recorded_once_when_its_inputs_are_there(tmp_path: Path, make_tracer: Any) -> None:
    tracer = make_tracer(spool_dir=tmp_path, exporter="otlp", otlp_endpoint=NOWHERE)

    @trace(tracer=tracer)
    def answer(question: str) -> None:
        span_id = get_current_span().get_span_context().span_id
        assert copies(tmp_path, span_id) == 1
        (file,) = tmp_path.glob("*.spool")
        assert question.encode() in file.read_bytes()

    answer("is it there?")
    with enrich_span_context("block", inputs={"q": "there too?"}, tracer=tracer) as span:
        assert copies(tmp_path, span.get_span_context().span_id) == 1
    assert copies(tmp_path, span.get_span_context().span_id) == 2, "its start, and its end"
    event = tracer.create_event("event", event_type="tool")
    assert event is not None
    assert copies(tmp_path, int(event, 16)) == 1, "it is over when it begins"


class Rude:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__

    def __iter__(self) -> Any:
        raise RuntimeError("no")


def test_a_span_whose_inputs_cannot_be_captured_is_recorded(tmp_path: Path, make_tracer: Any) -> None:
    tracer = make_tracer(spool_dir=tmp_path, exporter="otlp", otlp_endpoint=NOWHERE)
    with enrich_span_context("block", inputs={"q": Rude()}, attributes={"n": Rude()}, tracer=tracer) as span:
        assert copies(tmp_path, span.get_span_context().span_id) == 1


def test_the_sessions_of_interrupted_spans_are_their_own(
    collector: Collector, tmp_path: Path, make_tracer: Any
) -> None:
    code = f"""
        import contextlib, os, signal, sys
        from tracebaton import Tracer
        tracer = Tracer.init(spool_dir=sys.argv[1], session_id="own", exporter="otlp", otlp_endpoint="{NOWHERE}")
        with contextlib.ExitStack() as stack:
            for number in range(20):
                with tracer.with_session(session_id=f"s{{number % 3}}"):
                    stack.enter_context(tracer.start_span(f"s{{number % 3}}"))
                stack.enter_context(tracer.start_span("own"))
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert died(code, tmp_path) == -9
    recover(tmp_path, collector, make_tracer)
    assert len(collector.spans) == 40
    for span in collector.spans:
        assert span.attributes["honeyhive.session_id"] == span.name
        assert span.attributes["honeyhive.session_auto_create"] is True


def test_a_span_that_is_too_large_for_the_spool_is_counted(
    collector: Collector, tmp_path: Path, make_tracer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    tracer = make_tracer(spool_dir=tmp_path, exporter="otlp", otlp_endpoint=collector.url)
    assert tracer.stats()["unspooled"] == 0
    for _ in range(2):
        with tracer.start_span("large", attributes={"text": "x" * 1_200_000}):
            pass
    assert tracer.flush()
    stats = tracer.stats()
    assert (stats["unspooled"], stats["sent"], stats["dropped"]) == (2, 2, {})
    assert len([record for record in caplog.records if "too large for the spool" in record.getMessage()]) == 1


def test_the_size_of_the_file_may_be_given(
    tmp_path: Path, make_tracer: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def made(directory: str, **arguments: Any) -> int:
        tracer = make_tracer(spool_dir=tmp_path / directory, exporter="otlp", otlp_endpoint=NOWHERE, **arguments)
        (file,) = (tmp_path / directory).glob("*.spool")
        found = file.stat().st_size
        tracer.shutdown()
        return found

    assert 63 << 20 < made("usual") <= 64 << 20
    assert 1 << 19 < made("small", spool_bytes=1 << 20) <= 1 << 20
    monkeypatch.setenv("TRACEBATON_SPOOL_BYTES", str(2 << 20))
    assert 1 << 20 < made("environment") <= 2 << 20
    assert made("both", spool_bytes=1 << 20) <= 1 << 20
    assert caplog.records == []
    monkeypatch.setenv("TRACEBATON_SPOOL_BYTES", "64MB")
    assert 63 << 20 < made("wrong") <= 64 << 20
    assert "TRACEBATON_SPOOL_BYTES" in caplog.text


@pytest.mark.parametrize("value", ["64", 1.5, True])
def test_a_size_of_a_wrong_type_is_an_error(value: Any, make_tracer: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="spool_bytes must be an int"):
        make_tracer(spool_dir=tmp_path, spool_bytes=value)


@pytest.mark.parametrize("value", [-1, 0, (1 << 20) - 1, 1 << 40, 1 << 80])
def test_a_size_that_is_none_is_an_error(value: int, make_tracer: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="spool_bytes must be a number of bytes from 1048576 to"):
        make_tracer(spool_dir=tmp_path, spool_bytes=value)
    assert files(tmp_path) == []


@pytest.mark.parametrize("value", [7, b"bytes", ["list"]])
def test_a_directory_of_a_wrong_type_is_an_error(value: Any, make_tracer: Any) -> None:
    with pytest.raises(TypeError, match="spool_dir must be"):
        make_tracer(spool_dir=value)


def test_workers_that_are_killed_are_delivered_while_the_service_runs(collector: Collector, tmp_path: Path) -> None:
    code = """
        import os, signal, sys
        from tracebaton import Tracer
        tracer = Tracer.init(spool_dir=sys.argv[1], exporter="otlp", otlp_endpoint=sys.argv[2], flush_interval=60)
        for number in range(3):
            pid = os.fork()
            if pid == 0:
                with tracer.start_span(f"worker {number}"):
                    pass
                os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(pid, 0)
        print("ready", flush=True)
        sys.stdin.read()
    """
    process = python(code, tmp_path, collector.url, stdin=subprocess.PIPE)
    collector.wait_for_spans(3)
    deadline = time.monotonic() + 20
    while len(files(tmp_path)) != 1:
        assert time.monotonic() < deadline, files(tmp_path)
        time.sleep(0.005)
    assert sorted(span.name for span in collector.spans) == ["worker 0", "worker 1", "worker 2"]
    process.communicate(timeout=60)
    assert (process.returncode, files(tmp_path)) == (0, [])


def test_a_child_that_lives_on_does_not_keep_what_its_parent_left(
    collector: Collector, tmp_path: Path, make_tracer: Any
) -> None:
    code = f"""
        import os, signal, sys
        from tracebaton import Tracer
        tracer = Tracer.init(spool_dir=sys.argv[1], exporter="otlp", otlp_endpoint="{NOWHERE}")
        with tracer.start_span("parent"):
            pass
        if os.fork() == 0:
            os.write(1, b"child\\n")
            sys.stdin.read()
            os._exit(0)
        os.read(0, 1)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    process = python(code, tmp_path, stdin=subprocess.PIPE)
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == b"child\n"
    process.kill()
    process.wait()
    recover(tmp_path, collector, make_tracer)
    assert [span.name for span in collector.spans] == ["parent"]
    process.stdin.close()
    process.stdout.close()
    assert process.stderr is not None
    process.stderr.close()


def test_what_is_left_survives_a_wrong_key(collector: Collector, tmp_path: Path, make_tracer: Any) -> None:
    code = f"""
        import os, signal, sys
        from tracebaton import Tracer
        tracer = Tracer.init(spool_dir=sys.argv[1], exporter="otlp", otlp_endpoint="{NOWHERE}")
        with tracer.start_span("left"):
            pass
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert died(code, tmp_path) == -9
    collector.always = Answer(status=401)
    tracer = make_tracer(spool_dir=tmp_path, exporter="otlp", otlp_endpoint=collector.url)
    collector.wait_for_requests(1)
    tracer.shutdown()
    stats = tracer.stats()
    assert (stats["spooled"], stats["recovered"], stats["dropped"]) == (1, 1, {})
    assert len(collector.requests) == 1, "it is not tried again and again"
    if BINARY.exists():
        command = [str(BINARY), "spool", "flush", str(tmp_path), "--endpoint", collector.url]
        flushed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (flushed.returncode, flushed.stdout) == (1, "otlp: 0 spans delivered, 0 refused, 1 kept\n")
        assert "(HTTP 401): 1 span kept in the spool" in flushed.stderr
    collector.always = Answer()
    recover(tmp_path, collector, make_tracer)
    assert [span.name for span in collector.spans] == ["left"]


@pytest.mark.skipif(not BINARY.exists() or os.getuid() != 0, reason="the command is not built, or this is not root")
def test_a_file_of_somebody_else_is_an_error(tmp_path: Path) -> None:
    code = f"""
        import os, signal, sys
        from tracebaton import Tracer
        tracer = Tracer.init(spool_dir=sys.argv[1], exporter="otlp", otlp_endpoint="{NOWHERE}")
        with tracer.start_span("left"):
            pass
        os.kill(os.getpid(), signal.SIGKILL)
    """
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        assert died(code, directory) == -9
        directory.chmod(0o755)
        binary = directory / "tracebaton"
        shutil.copy(BINARY, binary)

        def run(what: str) -> subprocess.CompletedProcess[str]:
            command = [str(binary), "spool", what, name]
            return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, user=65534)

        listed = run("ls")
        assert " unknown  otlp  unreadable: it cannot be read" in listed.stdout
        flushed = run("flush")
        assert flushed.returncode == 1
        assert "stays where it is: permission denied" in flushed.stderr
        assert len(files(directory)) == 1


@pytest.mark.skipif(not BINARY.exists(), reason="the command is not built")
def test_the_command_lists_and_delivers(tmp_path: Path, collector: Collector, make_tracer: Any) -> None:
    code = f"""
        import os, signal, sys
        from tracebaton import Tracer
        tracer = Tracer.init(spool_dir=sys.argv[1], exporter="otlp", otlp_endpoint="{NOWHERE}")
        with tracer.trace("open"):
            for _ in range(3):
                with tracer.trace("ended"):
                    pass
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert died(code, tmp_path) == -9

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(BINARY), "spool", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    listed = run("ls", str(tmp_path))
    assert (listed.returncode, listed.stdout.count("\n")) == (0, 1)
    assert " dead  otlp  ended 3  open 1  damaged 0 " in listed.stdout
    # Somebody takes it over, and gets no answer.
    silent = Collector()
    silent.always = Answer(hang=True)
    tracer = make_tracer(spool_dir=tmp_path, exporter="otlp", otlp_endpoint=silent.url)
    silent.wait_for_requests(1)
    lines = run("ls", str(tmp_path)).stdout.splitlines()
    assert sorted((" dead, recovering " in line, " alive " in line) for line in lines) == [(False, True), (True, False)]
    silent.close()
    tracer.shutdown(0)
    deadline = time.monotonic() + 20
    while run("ls", str(tmp_path)).stdout != listed.stdout:
        assert time.monotonic() < deadline
    refused = run("flush", str(tmp_path), "--endpoint", NOWHERE)
    assert (refused.returncode, len(files(tmp_path))) == (1, 1)
    assert "otlp: 0 spans delivered, 0 refused, 4 kept" in refused.stdout
    flushed = run("flush", str(tmp_path), "--endpoint", collector.url)
    assert (flushed.returncode, flushed.stdout) == (0, "otlp: 4 spans delivered, 0 refused, 0 kept\n")
    assert files(tmp_path) == []
    assert sorted(span.name for span in collector.spans) == ["ended"] * 3 + ["open"]
    assert run("ls", str(tmp_path / "nothing")).returncode == 1
    assert run("flush", str(tmp_path)).returncode == 0, "nothing to do"
