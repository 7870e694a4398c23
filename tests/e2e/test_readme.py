"""The README's programs are those in `examples/`, and they do what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "examples" / "quickstart"
sys.path.insert(0, str(ROOT / "examples" / "agents"))

from processes import Stage


def shown() -> dict[str, str]:
    """The programs that the README shows, by path."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return dict(re.findall(r"<!-- (\S+) -->\n```\w+\n(.*?)```", text, re.DOTALL))


def test_the_readme_shows_the_examples_as_they_are():
    programs = shown()
    assert set(programs) == {"examples/quickstart/agent.py", "examples/quickstart/gateway.py"}
    for path, text in programs.items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, path


def tree_of(binary: str, viewer_url: str, session: str, spans: int) -> dict[str, Any]:
    """The tree of a session once it has so many spans: the agent goes on running, and sends its own within a second."""
    command = [binary, "tree", session, "--url", viewer_url, "--json"]
    deadline = time.monotonic() + 30
    while True:
        done = subprocess.run(command, capture_output=True, timeout=30, check=False)
        tree = json.loads(done.stdout) if done.returncode == 0 else {"span_count": 0}
        if tree["span_count"] >= spans:
            return tree
        assert time.monotonic() < deadline, f"{tree['span_count']} of {spans} spans arrived"


@pytest.mark.timeout(120)
def test_two_services_are_one_tree(tmp_path):
    binary = os.environ["TRACEBATON_BIN"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HH_", "HONEYHIVE_", "OTEL_"))}
    with Stage(tmp_path) as stage:
        viewer = stage.start("viewer", [binary, "view", "--listen", "127.0.0.1:0", "--db", str(tmp_path / "db")], clean)
        viewer_url = viewer.wait_for_address(30)
        environment = {**clean, "OTEL_EXPORTER_OTLP_ENDPOINT": viewer_url, "PYTHONUNBUFFERED": "1"}
        flask = [sys.executable, "-m", "flask", "--app", str(QUICKSTART / "agent.py"), "run", "--port", "0"]
        agent = stage.start("agent", ["sh", "-c", 'exec "$@" 2>&1', "sh", *flask], environment)
        agent_url = agent.wait_for_line(r"Running on (http://\S+)", 30)
        gateway = stage.start("gateway", [sys.executable, str(QUICKSTART / "gateway.py"), agent_url], environment)
        answer, session_line = gateway.wait_for_exit(60)
        assert answer == "42"
        session = session_line.removeprefix("session ")
        tree = tree_of(binary, viewer_url, session, spans=2)
    [trace] = tree["traces"]
    [root] = trace["roots"]
    assert (root["name"], root["source"], root["event_type"]) == ("ask", "gateway", "chain")
    [child] = root["children"]
    assert (child["name"], child["source"], child["event_type"]) == ("think", "agent", "model")
    assert child["session_id"] == root["session_id"] == session
    assert child["attributes"]["honeyhive_outputs.reply"] == "42"
    assert child["attributes"]["app.confidence"] == 0.9
