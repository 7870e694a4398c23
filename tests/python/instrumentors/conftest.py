"""What the tests with real instrumentors share: our provider given to them, or made the global one."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from instrumented import Instrument
from opentelemetry import trace as otel_trace
from tracebaton import Tracer

# What real packages warn of on import, of themselves and of each other, is not for us to mend.
_THEIRS = (
    "ignore::DeprecationWarning",
    "ignore::PendingDeprecationWarning",
    "ignore::ResourceWarning",
    "ignore::UserWarning:google.adk",
    "ignore::UserWarning:opentelemetry.instrumentation",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "instrumentors":
            for theirs in _THEIRS:
                item.add_marker(pytest.mark.filterwarnings(theirs), append=False)


@pytest.fixture(autouse=True)
def _no_complaints(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Instrumentors swallow exceptions and log them: none may come from us."""
    yield
    complaints = [
        record.getMessage()
        for when in ("setup", "call")
        for record in caplog.get_records(when)
        if record.exc_info or record.levelno >= logging.ERROR or "tracebaton" in record.name
    ]
    assert complaints == []


@pytest.fixture(params=["given", "global"])
def how(request: pytest.FixtureRequest) -> str:
    """How an instrumentor comes by our provider: as an argument while no provider is global, or as the global one."""
    kind: str = request.param
    return kind


@pytest.fixture
def tracer(how: str, make_tracer: Callable[..., Tracer]) -> Tracer:
    return make_tracer(set_global=how == "global", session_id="the session")


@pytest.fixture
def instrument(how: str, tracer: Tracer) -> Instrument:
    """`with instrument(Instrumentor()):` has our tracer's provider used, in one of the two ways."""

    @contextlib.contextmanager
    def instrumenting(instrumentor: Any, **arguments: Any) -> Iterator[None]:
        if how == "given":
            assert isinstance(otel_trace.get_tracer_provider(), otel_trace.ProxyTracerProvider)
            arguments["tracer_provider"] = tracer.provider
        instrumentor.instrument(**arguments)
        try:
            yield
        finally:
            instrumentor.uninstrument()

    return instrumenting
