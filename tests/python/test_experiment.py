"""Arguments of `init` that HoneyHive's `evaluate()` and its users give: ids of an experiment, a carrier to go on from,
and the way to say more."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from collector import Collector
from opentelemetry import context as otel_context
from opentelemetry.context.context import Context
from recorded import only_span_of, spans_of
from tracebaton import Tracer, enrich_span_context, with_distributed_trace_context

Make = Callable[..., Tracer]
IDS = {"run_id": "r", "dataset_id": "d", "datapoint_id": "p"}
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
SENT = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01", "baggage": "session_id=theirs"}


@pytest.mark.parametrize(
    "arguments",
    [
        IDS,
        {"evaluation_config": {"is_evaluation": True, **IDS}},
        {"evaluation_config": SimpleNamespace(is_evaluation=True, **IDS)},
        {"config": IDS},
        {**IDS, "evaluation_config": {"run_id": "another"}},
    ],
    ids=["arguments", "mapping", "object", "config", "argument first"],
)
def test_the_ids_are_metadata_of_every_span(
    make_tracer: Make, arguments: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    tracer = make_tracer(is_evaluation=True, **arguments)
    with enrich_span_context("outer", tracer=tracer):
        tracer.provider.get_tracer("library").start_span("inner").end()
    for span in spans_of(tracer):
        found = {name: span.attributes[f"honeyhive_metadata.{name}"] for name in IDS}
        assert found == IDS
    assert caplog.messages == []


def test_a_span_may_say_otherwise(make_tracer: Make) -> None:
    tracer = make_tracer(run_id="r")
    with enrich_span_context("work", metadata={"run_id": "its own"}, tracer=tracer):
        pass
    assert only_span_of(tracer).attributes["honeyhive_metadata.run_id"] == "its own"


def test_the_ids_are_metadata_of_the_session(make_tracer: Make, collector: Collector) -> None:
    tracer = make_tracer(exporter="honeyhive", api_key="k", server_url=collector.url, **IDS)
    with with_distributed_trace_context(SENT, tracer), tracer.start_span("of a caller"):
        pass
    for _ in range(3):
        with tracer.start_span("own"):
            pass
    assert tracer.shutdown(10_000)
    [update] = collector.requests_to("/events")
    assert json.loads(update.body)["metadata"] == IDS


@pytest.mark.parametrize("name", IDS)
def test_an_id_of_another_type_is_named(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name}.*int"):
        Tracer.init(exporter="none", **{name: 5})
    with pytest.raises(TypeError, match=f"{name}.*int"):
        Tracer.init(exporter="none", evaluation_config={name: 5})


@pytest.fixture
def undone() -> Iterator[None]:
    token = otel_context.attach(Context())
    yield
    otel_context.detach(token)


@pytest.mark.usefixtures("undone")
def test_a_program_goes_on_from_a_carrier(make_tracer: Make) -> None:
    tracer = make_tracer(link_carrier=SENT)
    for _ in range(2):
        with tracer.start_span("work"):
            pass
    for span in spans_of(tracer):
        assert (span.trace_id, span.parent_id, span.session) == (TRACE_ID, SPAN_ID, "theirs")


def test_verbose_lets_the_logger_say_more(make_tracer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("tracebaton")
    before = logger.level
    try:
        make_tracer()
        assert logger.level == before
        monkeypatch.setenv("HH_VERBOSE", "true")
        make_tracer()
        assert logger.level == logging.DEBUG
    finally:
        logger.setLevel(before)


@pytest.mark.parametrize(("name", "value"), [("export_timeout", 5), ("requests_session", object())])
def test_what_has_no_effect_says_so(name: str, value: object, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        Tracer.init(exporter="none", **{name: value})
    assert caplog.messages == [f"{name}= has no effect"]
