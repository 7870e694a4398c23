"""Forks: both sides deliver, nothing comes twice, ids never repeat."""

from __future__ import annotations

import sys

import pytest
from collector import Collector
from programs import output

pytestmark = [
    pytest.mark.skipif(not hasattr(sys.modules["os"], "fork"), reason="there is no fork"),
    pytest.mark.timeout(90),
]

PREAMBLE = """
import os, random, sys, multiprocessing, concurrent.futures
import tracebaton
random.seed(42)
tracer = tracebaton.Tracer.init(session_id="own")

def span(name):
    with tracer.start_span(name) as it:
        return it.get_span_context()
"""
CHILD = """
def wait(pid):
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
"""


def names(collector: Collector) -> list[str]:
    found = collector.spans
    assert len({span.span_id for span in found}) == len(found), "a span came twice, or an id did"
    return sorted(span.name for span in found)


def test_parent_and_child_deliver(collector: Collector) -> None:
    code = """
span("before")
pid = os.fork()
if pid == 0:
    random.seed(42)
    span("child")
    assert tracer.flush(10_000)
    os._exit(0)
wait(pid)
span("parent")
assert tracer.flush(10_000)
"""
    output(PREAMBLE + CHILD + code, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    assert names(collector) == ["before", "child", "parent"]
    assert len({span.trace_id for span in collector.spans}) == 3
    assert {span.session for span in collector.spans} == {"own"}


def test_after_the_worker_has_run(collector: Collector) -> None:
    code = """
span("before")
assert tracer.flush(10_000)
for number in range(3):
    pid = os.fork()
    if pid == 0:
        span(f"child {number}")
        sys.exit()  # the child's own atexit delivers
    span(f"parent {number}")
    wait(pid)
"""
    output(PREAMBLE + CHILD + code, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    assert names(collector) == ["before", *(f"child {n}" for n in range(3)), *(f"parent {n}" for n in range(3))]


def test_no_thread_is_there_at_fork_time(collector: Collector) -> None:
    code = """
import os
from pathlib import Path
counts = []
# What is registered first is called last.
os.register_at_fork(before=lambda: counts.append(len(list(Path("/proc/self/task").iterdir()))))
import tracebaton
tracer = tracebaton.Tracer.init()
with tracer.start_span("before"):
    pass
assert tracer.flush(10_000)
busy = len(list(Path("/proc/self/task").iterdir()))
pid = os.fork()
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
print(busy > 1, counts)
"""
    assert output(code, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}) == "True [1]"


def test_a_span_open_across_a_fork_ends_in_the_process_it_began_in(collector: Collector) -> None:
    code = """
with tracer.start_span("open") as open_span:
    pid = os.fork()
    if pid == 0:
        open_span.set_attribute("by", "child")
        span("child")
        open_span.end()
        assert tracer.flush(10_000)
        os._exit(0)
    wait(pid)
    open_span.set_attribute("by", "parent")
"""
    output(PREAMBLE + CHILD + code, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    assert names(collector) == ["child", "open"]
    spans = {span.name: span for span in collector.spans}
    assert spans["open"].attributes["by"] == "parent"
    assert spans["child"].parent_id == spans["open"].span_id


def test_an_exception_that_leaves_an_open_span_in_the_child(collector: Collector) -> None:
    code = """
try:
    with tracer.start_span("open"):
        pid = os.fork()
        if pid == 0:
            raise SystemExit(0)
        wait(pid)
finally:
    pass
"""
    output(PREAMBLE + CHILD + code, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    assert names(collector) == ["open"]


def test_ids_of_many_children_are_unique() -> None:
    code = """
readers = []
tracer.provider.get_tracer("x").start_span("uses up some random bytes")
for number in range(8):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        random.seed(42)
        contexts = [span("s") for _ in range(50)]
        ids = [f"{c.trace_id:x} {c.span_id:x} {tracebaton.Tracer.init(exporter='none').session_id}" for c in contexts]
        os.write(writer, "\\n".join(ids).encode() + b"\\n")
        os._exit(0)
    os.close(writer)
    readers.append((pid, reader))
lines = []
for pid, reader in readers:
    with os.fdopen(reader) as file:
        lines += file.read().split("\\n")[:-1]
    wait(pid)
lines += [f"{c.trace_id:x} {c.span_id:x} {tracebaton.Tracer.init(exporter='none').session_id}" for c in [span("s")]]
columns = list(zip(*(line.split() for line in lines)))
print([len(set(column)) for column in columns])
"""
    assert output(PREAMBLE + CHILD + code, {"OTEL_TRACES_EXPORTER": "none"}) == "[401, 401, 401]"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(collector: Collector, method: str, tmp_path: object) -> None:
    from pathlib import Path

    from programs import WARNINGS, clean_environment

    program = Path(str(tmp_path)) / "program.py"
    program.write_text(
        """
import multiprocessing, sys
import tracebaton
tracer = tracebaton.Tracer.init(session_id="own")

def work(number):
    with tracer.start_span(f"child {number}"):
        return number

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with tracer.start_span("before"):
        pass
    children = [context.Process(target=work, args=(number,)) for number in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    pool = context.Pool(2)
    assert pool.map(work, range(3, 7)) == [3, 4, 5, 6]
    pool.close()
    pool.join()
    with tracer.start_span("after"):
        pass
"""
    )
    import subprocess

    done = subprocess.run(
        [sys.executable, *WARNINGS, str(program), method],
        env=clean_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # The children flush at their ends: all is there when the parent is gone.
    assert names(collector) == ["after", "before", *(f"child {number}" for number in range(7))], done.stderr


def test_a_process_pool_executor(collector: Collector) -> None:
    code = """
def work(number):
    span(f"child {number}")
    return number
if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        assert list(pool.map(work, range(4))) == [0, 1, 2, 3]
"""
    output(PREAMBLE + code, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    assert names(collector) == [f"child {number}" for number in range(4)]


def test_a_fork_while_other_threads_end_spans(collector: Collector) -> None:
    code = """
import faulthandler, threading
stop = threading.Event()
def busy():
    while not stop.is_set():
        span("busy")
threads = [threading.Thread(target=busy) for _ in range(3)]
for thread in threads: thread.start()
for number in range(8):
    pid = os.fork()
    if pid == 0:
        faulthandler.dump_traceback_later(15, exit=True)  # a lock that another thread held at the fork
        span(f"child {number}")
        os._exit(0 if tracer.flush(10_000) else 5)
    wait(pid)
stop.set()
for thread in threads: thread.join()
"""
    # Python itself warns of other threads at a fork from 3.12 on: here there are some, of the program's own.
    import subprocess

    from programs import clean_environment

    done = subprocess.run(
        [sys.executable, "-c", PREAMBLE + CHILD + code],
        # The queue is short, so that the collector can keep up.
        env=clean_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_MAX_QUEUE_SIZE": "2048"}),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [span for span in collector.spans if span.name != "busy"]
    assert sorted(span.name for span in found) == [f"child {number}" for number in range(8)]
    assert len({span.span_id for span in collector.spans}) == len(collector.spans)


def test_two_hundred_forks_under_load(collector: Collector) -> None:
    code = """
import faulthandler, threading
sys.setswitchinterval(1e-4)
stop = threading.Event()
counts = [0, 0, 0]
def busy(at):
    while not stop.is_set():
        span("busy")
        counts[at] += 1
        stop.wait(0.0005)
threads = [threading.Thread(target=busy, args=(at,)) for at in range(3)]
for thread in threads: thread.start()
children = []
for number in range(200):
    pid = os.fork()
    if pid == 0:
        faulthandler.dump_traceback_later(60, exit=True)  # a lock that another thread held at the fork
        span(f"child {number}")
        os._exit(0 if tracer.flush(30_000) else 5)
    children.append(pid)
    if len(children) == 4:
        for pid in children: wait(pid)
        children = []
stop.set()
for thread in threads: thread.join()
assert tracer.shutdown(30_000), tracer.stats()
print(sum(counts))
"""
    import subprocess

    from programs import clean_environment

    done = subprocess.run(
        # Python itself warns of other threads at a fork from 3.12 on: here there are some, of the program's own.
        [sys.executable, "-c", PREAMBLE + CHILD + code],
        env=clean_environment({"HH_API_KEY": "key", "HH_API_URL": collector.url}),
        capture_output=True,
        encoding="utf-8",
        timeout=80,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = names(collector)
    assert found.count("busy") == int(done.stdout)
    assert [name for name in found if name != "busy"] == sorted(f"child {number}" for number in range(200))


def test_an_idle_tracer_gives_no_reason_for_a_warning(collector: Collector) -> None:
    """From Python 3.12 on, a fork with threads warns. Neither of the two threads that HoneyHive has is there then."""
    code = """
import warnings
warnings.simplefilter("error", DeprecationWarning)
for number in range(20):
    span(f"parent {number}")
    # One time the threads are idle, one time they have something to do.
    if number % 2:
        assert tracer.flush(10_000)
    pid = os.fork()
    if pid == 0:
        span(f"child {number}")
        os._exit(0 if tracer.flush(10_000) else 5)
    wait(pid)
"""
    output(PREAMBLE + CHILD + code, {"HH_API_KEY": "key", "HH_API_URL": collector.url})
    assert names(collector) == sorted(f"{who} {number}" for who in ("child", "parent") for number in range(20))


def test_a_fork_while_other_threads_make_tracers() -> None:
    code = """
import faulthandler, threading
sys.setswitchinterval(1e-6)
stop = threading.Event()
def busy():
    while not stop.is_set():
        tracebaton.Tracer.init(exporter="none").shutdown()
threads = [threading.Thread(target=busy) for _ in range(3)]
for thread in threads: thread.start()
for number in range(20):
    pid = os.fork()
    if pid == 0:
        faulthandler.dump_traceback_later(15, exit=True)  # a lock that another thread held at the fork
        tracebaton.Tracer.init(exporter="none").shutdown()
        os._exit(0 if tracebaton.flush(timeout_millis=1000) else 5)
    wait(pid)
stop.set()
for thread in threads: thread.join()
"""
    import subprocess

    from programs import clean_environment

    done = subprocess.run(
        [sys.executable, "-c", PREAMBLE + CHILD + code],
        env=clean_environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_subprocess_is_none_of_our_business(collector: Collector) -> None:
    code = """
import subprocess
span("before")
assert subprocess.run([sys.executable, "-c", "pass"]).returncode == 0
span("after")
"""
    output(PREAMBLE + code, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    assert names(collector) == ["after", "before"]
