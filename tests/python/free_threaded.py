"""A program for Pythons without a global lock: threads that record at the same time, and a lock that stays away.

python3.14t tests/python/free_threaded.py
"""

from __future__ import annotations

import json
import sys
import threading

from tracebaton import Tracer, enrich_span_context, inject_context_into_carrier, trace, with_distributed_trace_context

THREADS, ROUNDS = 8, 500


@trace(event_type="tool", event_name="step")
def step(number: int) -> int:
    return number + 1


def main() -> None:
    tracer = Tracer.init(exporter="memory", session_id="own")
    failed: list[BaseException] = []

    def work(thread: int) -> None:
        sent = {"traceparent": f"00-{thread + 1:032x}-{1:016x}-01", "baggage": f"session_id=of%20{thread}"}
        try:
            for number in range(ROUNDS):
                with with_distributed_trace_context(sent, tracer), enrich_span_context("outer", inputs={"n": number}):
                    assert step(number) == number + 1
                    assert f"session_id=of%20{thread}," in inject_context_into_carrier({}, tracer)["baggage"] + ","
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not failed, failed
    spans = [json.loads(span) for span in tracer._core.memory()]
    assert len({span["spanId"] for span in spans}) == len(spans) == THREADS * ROUNDS * 2
    for span in spans:
        values = {item["key"]: next(iter(item["value"].values())) for item in span["attributes"]}
        assert values["honeyhive.session_id"] == f"of {int(span['traceId'], 16) - 1}"
    is_enabled = getattr(sys, "_is_gil_enabled", lambda: True)()
    assert not (sys.abiflags.startswith("t") and is_enabled), "importing the package brought the lock back"
    print(f"{len(spans)} spans of {THREADS} threads, {'with' if is_enabled else 'without'} a global lock")


if __name__ == "__main__":
    main()
