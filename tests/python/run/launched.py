"""What runs programs under tracebaton-run, and a stand-in for HoneyHive that they report to."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sysconfig
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from collector import Collector
from programs import CLEARED

RUN = [str(Path(sysconfig.get_path("scripts")) / "tracebaton-run")]
SECONDS = 30
Write = Callable[[str, str], str]
"""Writes a file into the folder of the program."""


class Backend(Collector):
    """A collector that takes what HoneyHive takes, and gives the spans as they came."""

    @property
    def raw_spans(self) -> list[dict[str, Any]]:
        """The spans of all requests in OTLP's JSON, with their attributes as a dict under `values`."""
        return [
            {**span, "values": {item["key"]: next(iter(item["value"].values())) for item in span["attributes"]}}
            for request in self.requests_to("/opentelemetry/v1/traces")
            for resource in json.loads(request.body)["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]

    def raw_span(self, name: str) -> dict[str, Any]:
        [span] = [span for span in self.raw_spans if span["name"] == name]
        return span


def settings(url: str) -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith((*CLEARED, "PYTHON"))}
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


@contextmanager
def serving_flask(command: list[str], environment: Mapping[str, str], folder: Path) -> Iterator[str]:
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
