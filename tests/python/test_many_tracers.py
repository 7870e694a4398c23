"""A thousand tracers, one for each request as in a service of many tenants, leave no thread and no memory behind."""

from __future__ import annotations

import ctypes

import pytest
from collector import Collector
from programs import run

pytestmark = [
    pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc tells what a process uses"),
    pytest.mark.timeout(120),
]

PROGRAM = '''
import ctypes, gc, os, time
import tracebaton

class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Mallinfo

def threads():
    return len(os.listdir("/proc/self/task"))

def in_use():
    """KiB, and Python's objects. What the allocator keeps for later depends on how many threads there were at once."""
    found = libc.mallinfo2()
    return (found.uordblks + found.hblkhd) // 1024, len(gc.get_objects())

def until_threads_are_gone():
    # A tracer that nobody shut down ends when it is collected.
    for _ in range(3):
        gc.collect()
    end = time.monotonic() + 30
    while threads() > 1:
        assert time.monotonic() < end, threads()
        time.sleep(0.01)

def request(number):
    one = tracebaton.Tracer.init(api_key=f"key-{number % 2 and number}", session_id=f"s{number}")
    with one.start_span("work", attributes={"n": number}):
        with tracebaton.enrich_span_context("inner", inputs={"a": [1, 2]}, tracer=one):
            pass
    one.provider.get_tracer("library").start_span("other").end()
    END

for number in range(1, 1001):
    request(number)
    if number in (200, 1000):
        tracebaton.flush(timeout_millis=20_000)
        until_threads_are_gone()
        gc.collect()
        print(*in_use())
print(threads(), len(tracebaton._registry.tracers()), len(tracebaton._registry._alive))
'''


@pytest.mark.parametrize("end", ["one.shutdown(20_000)", "del one"])
def test_a_thousand_tracers(collector: Collector, end: str) -> None:
    # Another one is kept as the first, which is the default tracer while the program runs.
    program = "import tracebaton\nkept = tracebaton.Tracer.init(exporter='none')\n" + PROGRAM.replace("END", end)
    done = run(program, {"HH_API_URL": collector.url})
    assert done.returncode == 0, done.stderr
    before, after, rest = done.stdout.splitlines()
    assert rest == "1 1 1", "threads, tracers and what is known of tracers"
    (kib, objects), (kib_after, objects_after) = (map(int, line.split()) for line in (before, after))
    assert kib_after - kib < 800, "a kilobyte for each tracer"
    assert objects_after - objects < 200
