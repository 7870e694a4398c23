"""The example of a program written for `honeyhive`, in two processes under tracebaton-run."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from launched import SECONDS, Backend, serving_flask, settings, succeed

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "examples" / "honeyhive_unmodified"
VIEWER = ROOT / "target" / "release" / "tracebaton"


def ask_the_example(environment: Mapping[str, str]) -> str:
    """Runs the two programs of the example; the session that the client printed."""
    with serving_flask(["agent_server.py"], {**environment, "PORT": "0"}, EXAMPLE) as url:
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

    assert {request.path for request in backend.requests} == {"/opentelemetry/v1/traces", "/session/start"}
    for request in backend.requests:
        assert request.headers["authorization"] == "Bearer key-of-the-test"
        assert request.headers["content-type"] == "application/json"
    spans = backend.raw_spans
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
