"""The demo: two services in real processes, one session, one tree a turn, and a check that can fail."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
AGENTS = ROOT / "examples" / "agents"
TRACEBATON = os.environ.get("TRACEBATON_BIN") or str(ROOT / "target" / "release" / "tracebaton")
SECONDS = 240

sys.path.insert(0, str(AGENTS))
import demo
import expected_tree
import processes

pytestmark = pytest.mark.timeout(SECONDS + 30)


@pytest.fixture(scope="module", autouse=True)
def _binary() -> None:
    assert os.access(TRACEBATON, os.X_OK), f"{TRACEBATON} is not there: make build"


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[demo.Run]:
    """One conversation, whose viewer is still there."""
    with pytest.MonkeyPatch.context() as monkeypatch, processes.Stage(tmp_path_factory.mktemp("demo")) as stage:
        monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
        yield demo.play(stage, TRACEBATON, sys.executable)


@pytest.fixture(scope="module")
def tree(played: demo.Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(demo.tree(TRACEBATON, played, "--json"))
    return found


def all_spans(tree: dict[str, Any]) -> list[dict[str, Any]]:
    def below(span: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield span
        for child in span["children"]:
            yield from below(child)

    return [span for one in tree["traces"] for root in one["roots"] for span in below(root)]


def test_the_tree_is_the_expected_one(played: demo.Run) -> None:
    wrong, spans = demo.verdict(TRACEBATON, played)
    assert wrong == []
    one_turn = json.dumps(expected_tree.expected_turn()).count("[source ")
    assert spans == one_turn * expected_tree.TURNS


def test_both_services_are_in_every_trace(tree: dict[str, Any]) -> None:
    for one in tree["traces"]:
        (root,) = one["roots"]
        spans = all_spans({"traces": [one]})
        assert root["name"] == "user_call"
        assert {span["service"] for span in spans} == {"client-app", "agent-server"}
        assert {span["source"] for span in spans} == {"client-app", "agent-server"}
        for span in spans:
            assert span["service"] == span["source"]  # a service's source is its own


def test_the_text_that_is_printed_shows_every_span(played: demo.Run, tree: dict[str, Any]) -> None:
    text = demo.tree(TRACEBATON, played)
    for span in all_spans(tree):
        assert span["name"] in text
    assert played.session in text


def lose_a_span(tree: dict[str, Any]) -> None:
    tree["traces"][0]["roots"][0]["children"][0]["children"].pop()


def rename_a_span(tree: dict[str, Any]) -> None:
    tree["traces"][1]["roots"][0]["name"] = "other"


def swap_children(tree: dict[str, Any]) -> None:
    tree["traces"][0]["roots"][0]["children"][0]["children"].reverse()


def lose_a_trace(tree: dict[str, Any]) -> None:
    tree["traces"].pop()


def orphan(tree: dict[str, Any]) -> None:
    tree["traces"][0]["roots"][0]["parent_span_id"] = "b7ad6b7169203331"


def foreign_session(tree: dict[str, Any]) -> None:
    all_spans(tree)[3]["session_id"] = "other"


def foreign_trace(tree: dict[str, Any]) -> None:
    all_spans(tree)[3]["trace_id"] = "0" * 31 + "1"


def wrong_parent(tree: dict[str, Any]) -> None:
    all_spans(tree)[3]["parent_span_id"] = "b7ad6b7169203331"


def foreign_source(tree: dict[str, Any]) -> None:
    all_spans(tree)[4]["source"] = "client-app" if all_spans(tree)[4]["source"] != "client-app" else "dev"


def other_type(tree: dict[str, Any]) -> None:
    all_spans(tree)[0]["event_type"] = "session"


def failed_span(tree: dict[str, Any]) -> None:
    all_spans(tree)[2]["status"] = {"code": "ERROR", "message": "x"}


def time_runs_backwards(tree: dict[str, Any]) -> None:
    all_spans(tree)[2]["end_ns"] = "1"


BREAKING = [
    lose_a_span,
    rename_a_span,
    swap_children,
    lose_a_trace,
    orphan,
    foreign_session,
    foreign_trace,
    wrong_parent,
    foreign_source,
    other_type,
    failed_span,
    time_runs_backwards,
]


@pytest.mark.parametrize("breaking", BREAKING, ids=lambda it: it.__name__)
def test_the_check_sees_every_kind_of_damage(
    played: demo.Run, tree: dict[str, Any], breaking: Callable[[dict[str, Any]], None]
) -> None:
    broken = copy.deepcopy(tree)
    breaking(broken)
    assert expected_tree.differences(broken, played.session, sessions=[played.session])


def test_the_check_sees_another_session(played: demo.Run, tree: dict[str, Any]) -> None:
    assert expected_tree.differences(tree, played.session, sessions=[played.session]) == []
    assert expected_tree.differences(tree, played.session, sessions=[played.session, "another"])
    assert expected_tree.differences(tree, "another", sessions=["another"])


def run_script(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`demo.py` of a folder, as `make demo` runs it."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("GOOGLE_API_KEY", "KEEP")}
    return subprocess.run(
        [sys.executable, str(folder / "demo.py"), "--tracebaton", TRACEBATON],
        env={**inherited, **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
        check=False,
    )


def copied(folder: Path, name: str, old: str, new: str) -> Path:
    """A copy of the demo with one change."""
    for source in AGENTS.glob("*.py"):
        text = source.read_text(encoding="utf-8")
        if source.name == name:
            assert old in text, f"{old!r} is not in {name} any more"
            text = text.replace(old, new)
        (folder / source.name).write_text(text, encoding="utf-8")
    return folder


def test_the_script() -> None:
    # What leads elsewhere in the caller's environment does not lead the demo astray.
    done = run_script(AGENTS, HH_API_KEY="caller", OTEL_TRACES_EXPORTER="none", OTEL_PROPAGATORS="none", HH_SOURCE="x")
    assert done.returncode == 0, done.stderr
    assert f"as expected: {expected_tree.TURNS} turns" in done.stdout
    assert "user_call" in done.stdout


# Where, what, what instead, and what the demo says of it.
BREAKS = {
    "the client sends no headers": (
        "client_app.py",
        "inject_context_into_carrier(",
        "(lambda headers, *_: headers)(",
        "is not the expected tree",
    ),
    "the server does not read them": (
        "agent_server.py",
        "with_distributed_trace_context(dict(request.headers), tracer)",
        "with_distributed_trace_context({}, tracer)",
        "there is another session",
    ),
    "another tree is expected": (
        "expected_tree.py",
        '"call_local_agent", "chain"',
        '"call_local_agent", "tool"',
        "- ",
    ),
    "the server does not start": ("agent_server.py", "import argparse", "raise SystemExit(3)", "exited with code 3"),
}


@pytest.mark.parametrize("break_", BREAKS)
def test_a_broken_demo_exits_with_an_error(tmp_path: Path, break_: str) -> None:
    name, old, new, said = BREAKS[break_]
    done = run_script(copied(tmp_path, name, old, new))
    assert done.returncode == 1, done.stdout
    assert done.stderr.startswith("demo: "), done.stderr
    assert said in done.stderr
    assert "as expected" not in done.stdout


def test_a_binary_that_is_not_there_is_an_error_that_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(AGENTS / "demo.py"), "--tracebaton", str(tmp_path / "nothing")],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "viewer could not be started" in done.stderr
