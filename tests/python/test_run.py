"""Programs written for the `honeyhive` package, run unmodified by tracebaton-run: processes, HTTP and exit codes."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "honeyhive_unmodified"
VIEWER = ROOT / "target" / "release" / "tracebaton"
RUN = [str(Path(sysconfig.get_path("scripts")) / "tracebaton-run")]
SECONDS = 30

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the signals and folders of POSIX")


class Backend:
    """A loopback stand-in for HoneyHive: answers 200 and keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, Mapping[str, str], bytes]] = []
        backend = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                headers = {name.lower(): value for name, value in self.headers.items()}
                backend.requests.append((self.path, headers, body))
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def spans(self) -> list[dict[str, Any]]:
        """The spans of all requests, with their attributes as a dict under `values`."""
        found = []
        for _, _, body in self.requests:
            # A session's registration has none.
            for resource in json.loads(body).get("resourceSpans", []):
                for scope in resource["scopeSpans"]:
                    for span in scope["spans"]:
                        values = {item["key"]: next(iter(item["value"].values())) for item in span["attributes"]}
                        found.append({**span, "values": values})
        return found

    def span(self, name: str) -> dict[str, Any]:
        [span] = [span for span in self.spans if span["name"] == name]
        return span


@pytest.fixture
def backend() -> Iterator[Backend]:
    backend = Backend()
    yield backend
    backend.close()


@pytest.fixture
def environment(backend: Backend) -> dict[str, str]:
    """The environment of a program that reports to the backend."""
    return settings(backend.url)


def settings(url: str) -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith(("HH_", "OTEL_", "PYTHON"))}
    return {**others, "HH_API_KEY": "key-of-the-test", "HH_PROJECT": "shim-demo", "HH_API_URL": url}


def run(
    command: list[str], environment: Mapping[str, str], folder: Path, launcher: list[str] = RUN
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*launcher, *command], env=environment, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False
    )


def succeed(command: list[str], environment: Mapping[str, str], folder: Path, launcher: list[str] = RUN) -> str:
    result = run(command, environment, folder, launcher)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], str]:
    """Writes a file into the folder of the program."""

    def write(name: str, text: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return name

    return write


@contextmanager
def serving(command: list[str], environment: Mapping[str, str], folder: Path) -> Iterator[str]:
    """A Flask server under tracebaton-run, until Ctrl-C; its URL. It must end well."""
    unbuffered = {**environment, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*RUN, *command], env=unbuffered, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stderr is not None
        watchdog = threading.Timer(SECONDS, server.kill)
        watchdog.start()
        said = ""
        try:
            for line in server.stderr:
                said += line
                if found := re.search(r"Running on (http://127\.0\.0\.1:\d+)", line):
                    break
            else:
                pytest.fail(said)
            yield found[1]
            server.send_signal(signal.SIGINT)
            rest = server.stderr.read()
            assert server.wait() == 0, said + rest
        finally:
            watchdog.cancel()
            server.kill()


def ask_the_example(environment: Mapping[str, str]) -> str:
    """Runs the two programs of the example; the session that the client printed."""
    with serving(["agent_server.py"], {**environment, "PORT": "0"}, EXAMPLE) as url:
        said = succeed(["client_app.py"], {**environment, "AGENT_SERVER_URL": url}, EXAMPLE)
    session, first, second = said.splitlines()
    assert (first, second) == ("FOUND: WHAT ARE TIDES?", "FOUND: AND VOLCANOES?")
    return session.removeprefix("session: ")


def test_the_example_imports_nothing_of_tracebaton() -> None:
    for program in ("agent_server.py", "client_app.py"):
        text = (EXAMPLE / program).read_text()
        assert re.search(r"^from honeyhive import ", text, re.MULTILINE)
        assert not re.search(r"import.*tracebaton|from tracebaton", text)


def test_two_processes_are_one_trace_in_one_session_at_honeyhive(backend: Backend, environment: dict[str, str]) -> None:
    session = ask_the_example(environment)

    assert {path for path, _, _ in backend.requests} == {"/opentelemetry/v1/traces", "/session/start"}
    for _, headers, _ in backend.requests:
        assert headers["authorization"] == "Bearer key-of-the-test"
        assert headers["content-type"] == "application/json"
    spans = backend.spans
    assert len(spans) == 8
    assert {span["kind"] for span in spans} == {"SPAN_KIND_INTERNAL"}
    assert {span["status"]["code"] for span in spans} == {"STATUS_CODE_UNSET"}
    assert {span["values"]["honeyhive.session_id"] for span in spans} == {session}
    assert {span["values"]["honeyhive.project"] for span in spans} == {"shim-demo"}

    by_id = {span["spanId"]: span for span in spans}
    turns = {span["traceId"] for span in spans}
    assert len(turns) == 2
    sources = {"user_call": "client-app", "call_agent": "client-app", "agent_run": "agent-server"}
    parents = {"user_call": None, "call_agent": "user_call", "agent_run": "call_agent", "__main__.look_up": "agent_run"}
    for turn in turns:
        tree = {span["name"]: span for span in spans if span["traceId"] == turn}
        assert set(tree) == set(parents)
        for name, parent in parents.items():
            above = by_id.get(tree[name].get("parentSpanId") or "")
            assert (above and above["name"]) == parent
            assert tree[name]["values"]["honeyhive.source"] == sources.get(name, "agent-server")
        assert tree["user_call"]["values"]["honeyhive_event_type"] == "chain"
        assert tree["__main__.look_up"]["values"]["honeyhive_event_type"] == "tool"
        assert tree["call_agent"]["values"]["honeyhive_outputs.response"].startswith("FOUND: ")
        assert int(tree["call_agent"]["values"]["honeyhive_metadata.status_code"]) == 200
        assert tree["agent_run"]["values"]["honeyhive_metadata.agent"] == "research"


@pytest.mark.skipif(not VIEWER.exists(), reason="the viewer is not built")
def test_the_viewer_takes_the_same(tmp_path: Path) -> None:
    database = tmp_path / "spans.db"
    command = [str(VIEWER), "view", "--listen", "127.0.0.1:0", "--db", str(database)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as viewer:
        try:
            assert viewer.stdout is not None
            found = re.search(r"listening on (\S+)", viewer.stdout.readline())
            assert found is not None
            session = ask_the_example(settings(found[1]))
        finally:
            viewer.terminate()
            viewer.wait(SECONDS)
    tree = succeed(["tree", session, "--db", str(database)], os.environ, tmp_path, [str(VIEWER)])
    depths = {
        name: {line.index(name) for line in tree.splitlines() if name in line}
        for name in ("user_call", "call_agent", "agent_run", "look_up")
    }
    assert all(len(depth) == 1 for depth in depths.values()), tree
    assert sorted(depths, key=lambda name: min(depths[name])) == list(depths)


def test_an_error_has_the_name_of_its_status(
    backend: Backend, environment: dict[str, str], tmp_path: Path, write: Callable[[str, str], str]
) -> None:
    program = """\
        import sys
        from honeyhive import HoneyHiveTracer, trace
        tracer = HoneyHiveTracer.init(source="failing")

        @trace
        def fails():
            raise LookupError("not here")

        fails()
        """
    result = run([write("failing.py", program)], environment, tmp_path)
    plain = "def fails():\n    raise LookupError('not here')\n\nfails()\n"
    expected = run([write("plain.py", plain)], environment, tmp_path, [sys.executable])
    assert result.returncode == expected.returncode == 1
    assert result.stderr.splitlines()[-1] == expected.stderr.splitlines()[-1] == "LookupError: not here"
    assert "tracebaton-run" not in result.stderr
    assert "sitecustomize" not in result.stderr
    span = backend.span("__main__.fails")
    assert span["status"] == {"code": "STATUS_CODE_ERROR", "message": "LookupError: not here"}


PROBE = """\
    import json, os, sys
    print(json.dumps({
        "argv": sys.argv,
        "path": sys.path,
        "name": __name__,
        "file": os.path.basename(__file__),
        "modules": sorted(name for name in sys.modules if name.partition(".")[0] in ("tracebaton", "opentelemetry")),
        "flags": [sys.flags.dev_mode, sys.flags.optimize],
    }))
    """


@pytest.mark.parametrize("how", [["probe.py"], ["./probe.py"], ["-m", "probe"], ["-m", "package"], ["package"]])
def test_a_program_sees_what_it_sees_without(
    how: list[str], environment: dict[str, str], tmp_path: Path, write: Callable[[str, str], str]
) -> None:
    write("probe.py", PROBE)
    write("package/__main__.py", PROBE)
    arguments = [*how, "one", "-m", "--two", ""]
    expected = json.loads(succeed(arguments, environment, tmp_path, [sys.executable]))
    assert json.loads(succeed(arguments, environment, tmp_path)) == expected
    assert json.loads(succeed(arguments, environment, tmp_path, [sys.executable, "-m", "tracebaton.run"])) == expected
    assert expected["modules"] == []


def test_interpreter_options_are_the_programs(
    environment: dict[str, str], tmp_path: Path, write: Callable[[str, str], str]
) -> None:
    launcher = [sys.executable, "-W", "ignore", "-X", "dev", "-O", "-m", "tracebaton.run"]
    assert json.loads(succeed([write("probe.py", PROBE)], environment, tmp_path, launcher))["flags"] == [True, 1]


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("sys.exit(7)", 7),
        ("sys.exit('a reason')", 1),
        ("os._exit(9)", 9),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT),
    ],
)
def test_the_end_of_the_program_is_the_end_of_the_command(
    end: str, code: int, environment: dict[str, str], tmp_path: Path, write: Callable[[str, str], str]
) -> None:
    program = write("ends.py", f"import honeyhive, os, signal, sys\n{end}\n")
    assert run([program], environment, tmp_path).returncode == code


def test_a_command_of_another_kind_gets_the_signals_that_python_ignores(
    environment: dict[str, str], tmp_path: Path
) -> None:
    assert run(["sh", "-c", "kill -PIPE $$"], environment, tmp_path).returncode == -signal.SIGPIPE


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
    how: str, backend: Backend, environment: dict[str, str], tmp_path: Path, write: Callable[[str, str], str]
) -> None:
    path = os.pathsep.join([os.path.dirname(sys.executable), environment["PATH"]])
    succeed([write("children.py", CHILDREN[how])], {**environment, "PATH": path}, tmp_path)
    assert backend.span("in_child")["values"]["honeyhive.source"] == "child"


def test_an_installed_command(
    backend: Backend, environment: dict[str, str], tmp_path: Path, write: Callable[[str, str], str]
) -> None:
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
    with serving(["flask", "--app", "served", "run", "--port", "0"], environment, tmp_path) as url:
        succeed([write("client.py", client), url], environment, tmp_path)
    asked, handled = backend.span("asked"), backend.span("handled")
    assert handled["traceId"] == asked["traceId"]
    assert handled["parentSpanId"] == asked["spanId"]
    assert handled["values"]["honeyhive.session_id"] == "9e107d9d-372b-4b81-8db2-8f3b0c7c1a11"


def test_the_real_honeyhive_is_not_found(
    environment: dict[str, str], tmp_path: Path, write: Callable[[str, str], str]
) -> None:
    write("honeyhive/__init__.py", "print('the real one')\n")
    program = write("which.py", "import honeyhive\nprint(honeyhive.__version__)\n")
    assert succeed([program], environment, tmp_path) == "1.5.1\n"
    assert succeed(["-c", "import honeyhive"], environment, tmp_path, [sys.executable]) == "the real one\n"


def test_another_process_has_no_honeyhive(environment: dict[str, str], tmp_path: Path) -> None:
    program = "import tracebaton, tracebaton._honeyhive.absent, honeyhive"
    result = run(["-c", program], environment, tmp_path, [sys.executable])
    assert result.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'honeyhive'"


def test_the_environments_own_sitecustomize_runs(
    environment: dict[str, str], tmp_path: Path, write: Callable[[str, str], str]
) -> None:
    write("site/sitecustomize.py", "import sys\nsys.customized = __file__\n")
    program = write("main.py", "import honeyhive, sys, sitecustomize\nprint(sys.customized, sitecustomize.__file__)\n")
    folder = str(tmp_path / "site")
    own = str(tmp_path / "site" / "sitecustomize.py")
    assert succeed([program], {**environment, "PYTHONPATH": folder}, tmp_path) == f"{own} {own}\n"

    write("site/sitecustomize.py", "raise ValueError('broken')\n")
    result = run([write("two.py", "import honeyhive\nprint('ran')\n")], {**environment, "PYTHONPATH": folder}, tmp_path)
    assert result.stdout == "ran\n"
    assert "ValueError: broken" in result.stderr


def test_the_first_tracer_is_opentelemetrys_global_one(
    environment: dict[str, str], tmp_path: Path, write: Callable[[str, str], str]
) -> None:
    program = """\
        from opentelemetry import trace as api
        from honeyhive import HoneyHiveTracer
        from honeyhive.tracer import get_global_provider

        if {set_first}:
            class Other(api.NoOpTracerProvider):
                pass
            api.set_tracer_provider(Other())
        first, second = HoneyHiveTracer.init({arguments}), HoneyHiveTracer.init()
        assert get_global_provider() is api.get_tracer_provider()
        print([api.get_tracer_provider() is tracer.provider for tracer in (first, second)])
        """
    for set_first, arguments, expected in (
        (False, "", "[True, False]\n"),
        (True, "", "[False, False]\n"),
        (False, "set_global=False", "[False, True]\n"),
    ):
        name = write("globals.py", program.format(set_first=set_first, arguments=arguments))
        result = run([name], environment, tmp_path)
        assert (result.stdout, result.stderr) == (expected, "")
    plain = "import tracebaton\nfrom opentelemetry import trace\nt = tracebaton.Tracer.init()\n"
    plain += "print(trace.get_tracer_provider() is t.provider)\n"
    assert succeed(["-c", plain], environment, tmp_path, [sys.executable]) == "False\n"


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("from honeyhive import HoneyHive", "REST client"),
        ("from honeyhive import evaluate", "evaluation"),
        ("from honeyhive.experiments import evaluate", "evaluation"),
        ("import honeyhive.api.client", "REST client"),
        ("from honeyhive.models import CreateEventRequest", "REST client"),
        ("from honeyhive.tracer import nothing_of_theirs", "not among the names of honeyhive 1.5.1"),
    ],
)
def test_a_name_that_is_absent_says_why(
    statement: str, reason: str, environment: dict[str, str], tmp_path: Path, write: Callable[[str, str], str]
) -> None:
    program = f"""\
        import honeyhive
        try:
            {statement}
        except ImportError as error:
            print(error)
        assert not hasattr(honeyhive, "HoneyHive")
        """
    said = succeed([write("absent.py", program)], environment, tmp_path)
    assert said.startswith("cannot import ")
    assert reason in said
    assert "the honeyhive package itself" in said


def test_an_interpreter_without_tracebaton_says_so(
    environment: dict[str, str], tmp_path: Path, write: Callable[[str, str], str]
) -> None:
    # -S leaves site-packages out; the hook is loaded by hand, as `site` would.
    program = """\
        import subprocess, sys
        code = "import sitecustomize, sys; print(len(sys.path)); import honeyhive"
        raise SystemExit(subprocess.call([sys.executable, "-S", "-c", code]))
        """
    result = run([write("bare.py", program)], environment, tmp_path)
    assert result.returncode == 1
    assert "has no tracebaton; install it there" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ([], 2, "usage: tracebaton-run"),
        (["-m"], 2, "-m needs the name of a module"),
        (["--verbose", "x.py"], 2, "unknown option --verbose"),
        (["no-such-command"], 127, "there is no script and no command 'no-such-command'"),
        (["missing.py"], 2, "can't open file"),
    ],
)
def test_a_wrong_command_line(
    arguments: list[str], code: int, sentence: str, environment: dict[str, str], tmp_path: Path
) -> None:
    result = run(arguments, environment, tmp_path)
    assert result.returncode == code
    assert sentence in result.stderr


def test_the_names_work(environment: dict[str, str], tmp_path: Path, write: Callable[[str, str], str]) -> None:
    program = """\
        import asyncio, logging, pickle
        from honeyhive import (
            DotDict, HoneyHiveTracer, atrace, enrich_span, flush, get_logger, set_default_tracer, trace, trace_class,
        )
        from honeyhive.models import EventType
        from honeyhive.tracer import clear_registry, get_default_tracer, graceful_shutdown_all, shutdown_tracer
        from honeyhive.tracer.processing.context import enrich_span_context, get_current_baggage

        first = HoneyHiveTracer.init(source="first", project="proj")
        second = HoneyHiveTracer.init(source="second")
        assert get_default_tracer() is first
        set_default_tracer(second)
        assert get_default_tracer() is second
        set_default_tracer(None)

        with enrich_span_context("block", event_type=EventType.model) as span:
            assert enrich_span({"one": 1}, metrics={"m": 2.5})
            with enrich_span(two=2) as same:
                assert same is span
            assert not enrich_span(metadata={"x": 1}, tracer=second)
            assert span.attributes["honeyhive_event_type"] == "model"
            assert span.attributes["honeyhive_metadata.one"] == 1
            assert span.attributes["honeyhive_metadata.two"] == 2
            baggage = get_current_baggage()
            assert (baggage["session_id"], baggage["source"]) == (first.session_id, "first"), baggage
            assert baggage["project"] == "proj"
        assert not enrich_span(metadata={"nowhere": 1})

        @atrace(event_type="tool")
        def plain(x):
            return x

        @atrace(event_type="tool")
        async def coroutine(x):
            return x

        assert plain(1) == asyncio.run(coroutine(1)) == 1

        names = []

        class Processor:
            def on_start(self, span, parent_context=None):
                names.append(span.name)
            def on_end(self, span):
                pass
            def shutdown(self):
                pass

        first.provider.add_span_processor(Processor())

        def decorated(cls):
            @cls
            class Shop:
                size = 3
                class Inner:
                    def quiet(self):
                        return "inner"
                def __init__(self):
                    self.stock = 1
                def sell(self, n):
                    self.stock -= n
                    return self.stock
                @classmethod
                def make(cls):
                    return cls()
                @staticmethod
                def add(a, b):
                    return a + b
                @property
                def left(self):
                    return self.stock
                @trace(event_name="own")
                def has_its_own(self):
                    return 1
                async def later(self):
                    return 2
                def _private(self):
                    return 3
            return Shop

        shop = decorated(trace_class(event_type="tool", event_name="shop")).make()
        assert (shop.sell(1), shop.add(1, 2), shop.left, shop.has_its_own(), shop._private()) == (0, 3, 0, 1, 3)
        assert shop.Inner().quiet() == "inner" and shop.make().left == 1 and asyncio.run(shop.later()) == 2
        assert names == ["shop.make", "shop.sell", "shop.add", "own", "shop.make", "shop.later"], names
        names.clear()
        assert decorated(trace_class).add(1, 1) == 2
        assert names == ["__main__.decorated.<locals>.Shop.add"], names
        for wrong in (lambda: trace_class(plain), lambda: trace_class("tool")(plain), lambda: trace_class(nonsense=1)):
            try:
                wrong()
            except TypeError:
                continue
            raise AssertionError("not refused")

        d = DotDict({"a": {"b": 1}}, c=2)
        assert d.a.b == d["a.b"] == d["a"]["b"] == 1 and d.c == 2 and "a.b" in d and "a.x" not in d
        d.a.b = 5
        d["n.m"] = 6
        assert d.to_dict() == {"a": {"b": 5}, "c": 2, "n": {"m": 6}} and type(d.to_dict()["a"]) is dict
        copy = d.copy()
        del copy["a.b"]
        assert d.a.b == 5 and d.get("a.z", 0) == 0 and not hasattr(d, "z")
        assert pickle.loads(pickle.dumps(d)) == d
        assert get_logger("some", verbose=True) is logging.getLogger("some")

        assert flush(first, 10_000) is True and flush() is True
        clear_registry()
        assert get_default_tracer() is None
        third = HoneyHiveTracer.init()
        assert get_default_tracer() is third
        assert shutdown_tracer(third) is True and graceful_shutdown_all() is True
        print("done")
        """
    assert succeed([write("names.py", program)], environment, tmp_path) == "done\n"
