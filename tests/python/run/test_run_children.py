"""Child processes of a program under tracebaton-run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from launched import Backend, Write, succeed

CHILDREN = {
    "subprocess": """\
        import subprocess, sys
        from honeyhive import HoneyHiveTracer, trace

        @trace(event_name="in_child")
        def work():
            pass

        if sys.argv[1:] == ["child"]:
            HoneyHiveTracer.init(source="child")
            work()
        else:
            subprocess.run([sys.executable, __file__, "child"], check=True)
        """,
    "spawn": """\
        import multiprocessing
        from honeyhive import HoneyHiveTracer, trace

        @trace(event_name="in_child")
        def work():
            pass

        def child():
            tracer = HoneyHiveTracer.init(source="child")
            work()
            tracer.flush()

        if __name__ == "__main__":
            process = multiprocessing.get_context("spawn").Process(target=child)
            process.start()
            process.join()
            raise SystemExit(process.exitcode)
        """,
    "forkserver": """\
        import multiprocessing
        from honeyhive import HoneyHiveTracer, trace

        @trace(event_name="in_child")
        def work():
            pass

        def child():
            HoneyHiveTracer.init(source="child")
            work()

        if __name__ == "__main__":
            process = multiprocessing.get_context("forkserver").Process(target=child)
            process.start()
            process.join()
            raise SystemExit(process.exitcode)
        """,
    "fork, with the parent's tracer": """\
        import multiprocessing
        from honeyhive import HoneyHiveTracer, trace

        HoneyHiveTracer.init(source="child")

        @trace(event_name="in_child")
        def work():
            pass

        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
        process.join()
        raise SystemExit(process.exitcode)
        """,
    "a pool of processes": """\
        import concurrent.futures, multiprocessing
        from honeyhive import HoneyHiveTracer, trace

        @trace(event_name="in_child")
        def work():
            return "done"

        def begin():
            HoneyHiveTracer.init(source="child")

        if __name__ == "__main__":
            spawn = multiprocessing.get_context("spawn")
            with concurrent.futures.ProcessPoolExecutor(1, spawn, begin) as pool:
                assert pool.submit(work).result() == "done"
        """,
    "command": """\
        import subprocess, sys
        subprocess.run(["python", "-c", sys.argv[0] and '''
        from honeyhive import HoneyHiveTracer
        with HoneyHiveTracer.init(source="child").start_span("in_child"):
            pass
        '''.replace("\\n        ", "\\n")], check=True)
        """,
}


@pytest.mark.parametrize("how", CHILDREN)
def test_child_processes_are_included(
    how: str, backend: Backend, environment: dict[str, str], tmp_path: Path, write: Write
) -> None:
    path = os.pathsep.join([os.path.dirname(sys.executable), environment["PATH"]])
    succeed([write("children.py", CHILDREN[how])], {**environment, "PATH": path}, tmp_path)
    assert backend.raw_span("in_child")["values"]["honeyhive.source"] == "child"
