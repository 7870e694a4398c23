"""Runs the agents as real processes and checks that one session with one tree a turn comes out.

    python demo.py [--tracebaton PATH] [--python PATH]

Starts the viewer, a stand-in for Gemini (unless `GOOGLE_API_KEY` is set), the agent server and the client, prints the
tree, and fails if it is not the one in `expected_tree.py`. With `KEEP=1` in the environment the viewer stays.
Standard library only; `--python` is the interpreter that has tracebaton and `requirements.txt`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import expected_tree
from processes import Failed, Process, Stage

HERE = Path(__file__).resolve().parent
READY_SECONDS = 60
CLIENT_SECONDS = 180
_COMMAND_SECONDS = 30
# Settings of the caller's that would lead the agents somewhere else than this demo says.
_FOREIGN = ("HH_", "HONEYHIVE_", "OTEL_", "ADK_")
_FOREIGN_GOOGLE = ("GOOGLE_", "GEMINI_", "GCLOUD_", "CLOUDSDK_")


@dataclass
class Run:
    """What a conversation left behind."""

    viewer: Process
    viewer_url: str
    session: str
    client_output: list[str]


def play(stage: Stage, tracebaton: str, python: str) -> Run:
    """Runs viewer, model, server and client until the client is done and every span is delivered."""
    viewer_command = [tracebaton, "view", "--listen", "127.0.0.1:0", "--db", str(stage.folder / "spans.db")]
    viewer = stage.start("viewer", viewer_command, dict(os.environ))
    viewer_url = viewer.wait_for_address(READY_SECONDS)

    model_url = None
    if not hosted():
        standin = stage.start("standin", [python, str(HERE / "gemini_standin.py")], dict(os.environ))
        model_url = standin.wait_for_address(READY_SECONDS)

    environment = agent_environment(viewer_url, model_url)
    server = stage.start("server", [python, str(HERE / "agent_server.py")], environment)
    server_url = server.wait_for_address(READY_SECONDS)
    fetch(f"{server_url}/healthz", server)

    client = stage.start("client", [python, str(HERE / "client_app.py"), "--server", server_url], environment)
    output = client.wait_for_exit(CLIENT_SECONDS)
    session = next((line.removeprefix("session: ") for line in output if line.startswith("session: ")), None)
    if session is None:
        raise client.failed("printed no session")
    # The server delivers its last spans before it exits.
    if (code := server.stop()) != 0:
        raise server.failed(f"exited with code {code} when told to stop")
    return Run(viewer, viewer_url, session, output)


def hosted() -> bool:
    """Whether the real Gemini answers."""
    return bool(os.environ.get("GOOGLE_API_KEY", "").strip())


def agent_environment(viewer_url: str, model_url: str | None) -> dict[str, str]:
    """The environment of the agents: traces go to the viewer, questions to `model_url`, or to Gemini if it is None."""
    foreign = _FOREIGN if model_url is None else _FOREIGN + _FOREIGN_GOOGLE
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = viewer_url
    # A proxy is for the world outside, none of which is this machine.
    local = "127.0.0.1,localhost"
    for name in ("NO_PROXY", "no_proxy"):
        environment[name] = f"{environment[name]},{local}" if environment.get(name) else local
    if model_url is not None:
        environment["GOOGLE_API_KEY"] = "no-key-needed"
        environment["GOOGLE_GEMINI_BASE_URL"] = model_url
        # Gemini by key, not Google Cloud: nobody looks for a project, credentials or the metadata server.
        environment["GOOGLE_GENAI_USE_ENTERPRISE"] = "false"
        environment["NO_GCE_CHECK"] = "true"
    return environment


def fetch(url: str, process: Process) -> Any:
    """The JSON at a local URL of a process that is ready."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_COMMAND_SECONDS) as response:
            return json.load(response)
    except (OSError, ValueError) as error:
        raise process.failed(f"does not answer at {url}: {error}") from None


def tree(tracebaton: str, run: Run, *options: str) -> str:
    """What `tracebaton tree` prints of the run's session."""
    command = [tracebaton, "tree", run.session, "--url", run.viewer_url, *options]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=_COMMAND_SECONDS, check=False)
    if done.returncode != 0:
        raise run.viewer.failed(f"has no tree: {done.stderr.strip()}")
    return done.stdout


def verdict(tracebaton: str, run: Run) -> tuple[list[str], int]:
    """How the run's tree differs from the expected one, and how many spans it has."""
    found = json.loads(tree(tracebaton, run, "--json"))
    listed = fetch(f"{run.viewer_url}/api/sessions", run.viewer)["sessions"]
    sessions = [one["session_id"] for one in listed]
    return expected_tree.differences(found, run.session, sessions=sessions, hosted=hosted()), expected_tree.count(found)


def default_tracebaton() -> str:
    """The binary of this checkout."""
    return os.environ.get("TRACEBATON_BIN") or str(HERE.parent.parent / "target" / "release" / "tracebaton")


def main() -> int:
    """Runs the demo; 0 if the tree is as expected."""
    parser = argparse.ArgumentParser(description="Runs the agents and prints their unified tree.")
    parser.add_argument("--tracebaton", default=default_tracebaton(), help="the tracebaton binary [%(default)s]")
    parser.add_argument("--python", default=sys.executable, help="the Python for the agents [%(default)s]")
    arguments = parser.parse_args()
    # So that being told to stop, too, goes through the ends of the with blocks.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda got, _: sys.exit(128 + got))
    keep = os.environ.get("KEEP", "") not in ("", "0")
    folder = Path(tempfile.mkdtemp(prefix="tracebaton-demo-"))
    kept = False
    try:
        with Stage(folder) as stage:
            run = play(stage, arguments.tracebaton, arguments.python)
            print("\n".join(run.client_output), end="\n\n")
            print(tree(arguments.tracebaton, run))
            wrong, spans = verdict(arguments.tracebaton, run)
            if keep:
                stage.leave_running(run.viewer)
                kept = True
                print(f"the viewer is still there: {run.viewer_url}")
                print(f"stop it with: kill {run.viewer.pid} && rm -r {folder}\n")
    except (Failed, subprocess.TimeoutExpired) as failure:
        print(f"demo: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
    if wrong:
        print("demo: this is not the expected tree", *wrong, sep="\n  ", file=sys.stderr)
        return 1
    print(f"as expected: {expected_tree.TURNS} turns, {expected_tree.TURNS} traces, 1 session, {spans} spans")
    return 0


if __name__ == "__main__":
    sys.exit(main())
