"""Programs in processes of their own, for what a test cannot do to its own process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from importlib.metadata import version

SECONDS = 45.0
# All are errors, but what OpenTelemetry's API does at import on Python 3.11.
WARNINGS = ("-W", "error", "-W", "ignore:SelectableGroups dict interface:DeprecationWarning")
# OpenTelemetry's API, as (major, minor): what old ones do at import is not ours to answer for.
OPENTELEMETRY = tuple(int(part) for part in version("opentelemetry-api").split(".")[:2])
CLEARED = ("HH_", "HONEYHIVE_", "OTEL_")


def clean_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what leads spans somewhere, and with `more`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(CLEARED)}
    environment.update(more or {})
    return environment


def run(
    code: str, environment: Mapping[str, str] | None = None, *, seconds: float = SECONDS
) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end, with all warnings errors; the test fails if it takes too long."""
    return subprocess.run(
        [sys.executable, *WARNINGS, "-c", textwrap.dedent(code)],
        env=clean_environment(environment),
        capture_output=True,
        encoding="utf-8",
        timeout=seconds,
        check=False,
    )


def output(code: str, environment: Mapping[str, str] | None = None) -> str:
    """What a program prints, that must end well and say nothing on stderr."""
    done = run(code, environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", done.stderr
    return done.stdout.strip()
