"""What the tests share: a clean process for each of them, tracers that remember, and a collector."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# OpenTelemetry's API looks for entry points in a way that Python 3.11 warns of, and warnings are errors here.
_OPENTELEMETRY = "SelectableGroups dict interface"
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", _OPENTELEMETRY)
    from opentelemetry import context as otel_context
    from opentelemetry import propagate, trace
    from opentelemetry.context.context import Context
    from opentelemetry.util._once import Once

from collector import Collector
from programs import CLEARED
from tracebaton import Tracer, _native, _registry

# What reads the vectors.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "vectors"))

PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", f"ignore:{_OPENTELEMETRY}:DeprecationWarning")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(CLEARED) or name.lower() in PROXIES:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _own_process(_environment: None) -> Iterator[None]:
    """No tracer, global or context of another test. What a test leaves current by mistake is its failure."""
    propagator = propagate.get_global_textmap()
    token = otel_context.attach(Context())
    yield
    left = otel_context.get_current()
    otel_context.detach(token)
    _registry.shutdown_all(0)
    _registry.clear_default()
    _native.forget_reports()
    propagate.set_global_textmap(propagator)
    trace._TRACER_PROVIDER = None
    trace._TRACER_PROVIDER_SET_ONCE = Once()
    assert dict(left) == {}, "the test leaves a context behind"


@pytest.fixture
def make_tracer() -> Callable[..., Tracer]:
    """Makes tracers with `exporter="memory"`, project `shop` and session `own` unless told otherwise."""

    def make(**arguments: Any) -> Tracer:
        return Tracer.init(**{"exporter": "memory", "project": "shop", "session_id": "own", **arguments})

    return make


@pytest.fixture
def tracer(make_tracer: Callable[..., Tracer]) -> Tracer:
    return make_tracer()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture
def collected() -> Callable[[], None]:
    """Collects garbage, cycles included."""

    def collect() -> None:
        for _ in range(3):
            gc.collect()

    return collect
