"""The README's programs are those in `examples/`, and they do what it says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "examples" / "quickstart"
NODE_QUICKSTART = ROOT / "examples" / "node-quickstart"
# Where Node finds the package as it is installed, and what the programs need besides.
NODE_MODULES = ROOT / "js" / "test" / "integrations" / "node_modules"
sys.path.insert(0, str(ROOT / "examples" / "agents"))

from processes import Stage


def shown() -> dict[str, str]:
    """The programs that the README shows, by path."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return dict(re.findall(r"<!-- (\S+) -->\n```\w+\n(.*?)```", text, re.DOTALL))


def test_the_readme_shows_the_examples_as_they_are():
    programs = shown()
    names = ("quickstart/agent.py", "quickstart/gateway.py", "node-quickstart/agent.mjs", "node-quickstart/gateway.mjs")
    assert set(programs) == {f"examples/{name}" for name in names}
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


@pytest.fixture(scope="module")
def node_quickstart() -> Iterator[Path]:
    """The programs for Node, where they find what they import."""
    assert (NODE_MODULES / "tracebaton").is_dir(), "the npm package is not there: make test-e2e installs it"
    folder = NODE_MODULES / ".e2e"
    shutil.copytree(NODE_QUICKSTART, folder, dirs_exist_ok=True)
    yield folder
    shutil.rmtree(folder)


# The agent in Python makes one span of a request; the middleware of the one in Node makes another above it.
@pytest.mark.parametrize("agent_language", ["python", "node"])
@pytest.mark.parametrize("gateway_language", ["python", "node"])
@pytest.mark.timeout(120)
def test_two_services_are_one_tree(tmp_path, node_quickstart, gateway_language, agent_language):
    binary = os.environ["TRACEBATON_BIN"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HH_", "HONEYHIVE_", "OTEL_"))}
    agents = {
        "python": [sys.executable, "-m", "flask", "--app", str(QUICKSTART / "agent.py"), "run", "--port", "0"],
        "node": ["node", str(node_quickstart / "agent.mjs")],
    }
    gateways = {
        "python": [sys.executable, str(QUICKSTART / "gateway.py")],
        "node": ["node", str(node_quickstart / "gateway.mjs")],
    }
    with Stage(tmp_path) as stage:
        viewer = stage.start("viewer", [binary, "view", "--listen", "127.0.0.1:0", "--db", str(tmp_path / "db")], clean)
        viewer_url = viewer.wait_for_address(30)
        environment = {**clean, "OTEL_EXPORTER_OTLP_ENDPOINT": viewer_url, "PYTHONUNBUFFERED": "1"}
        agent = stage.start("agent", ["sh", "-c", 'exec "$@" 2>&1', "sh", *agents[agent_language]], environment)
        agent_url = agent.wait_for_line(r"(http://\S+)", 30)
        gateway = stage.start("gateway", [*gateways[gateway_language], agent_url], environment)
        answer, session_line = gateway.wait_for_exit(60)
        assert answer == "42"
        session = session_line.removeprefix("session ")
        tree = tree_of(binary, viewer_url, session, spans=3 if agent_language == "node" else 2)
    [trace] = tree["traces"]
    [root] = trace["roots"]
    assert (root["name"], root["source"], root["event_type"]) == ("ask", "gateway", "chain")
    [child] = root["children"]
    if agent_language == "node":
        assert (child["name"], child["source"]) == ("POST /answer", "agent")
        [child] = child["children"]
    assert (child["name"], child["source"], child["event_type"]) == ("think", "agent", "model")
    assert child["session_id"] == root["session_id"] == session
    assert child["attributes"]["honeyhive_outputs.reply"] == "42"
    assert child["attributes"]["app.confidence"] == 0.9
