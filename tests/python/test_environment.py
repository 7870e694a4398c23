"""The environment: honoured where the documentation promises it, and never a reason to fail."""

from __future__ import annotations

import logging

import pytest
from collector import Collector
from recorded import spans_of
from tracebaton import Tracer, inject_context_into_carrier

BAD = {
    "HH_MAX_ATTRIBUTES": "abc",
    "HH_MAX_EVENTS": "-3",
    "HH_MAX_LINKS": "1e3",
    "HH_DISABLE_BATCH": "maybe",
    "HH_VERBOSE": "maybe",
    "HH_TEST_MODE": "perhaps",
    "HH_BATCH_SIZE": "-1",
    "HH_FLUSH_INTERVAL": "soon",
    "HH_OTLP_PROTOCOL": "smoke",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "smoke",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "::not a url::",
    "OTEL_EXPORTER_OTLP_HEADERS": "no pair",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "x",
    "OTEL_EXPORTER_OTLP_COMPRESSION": "rar",
    "OTEL_TRACES_SAMPLER": "sometimes",
    "OTEL_BSP_MAX_QUEUE_SIZE": "many",
    "OTEL_BSP_SCHEDULE_DELAY": "-1",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "999999999999999999999999",
    "OTEL_RESOURCE_ATTRIBUTES": "=,=,%zz",
    "OTEL_TRACES_EXPORTER": "pigeon",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_value_warns_once_and_the_default_holds(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(name, BAD[name])
    if name == "HH_OTLP_PROTOCOL":  # HoneyHive's
        monkeypatch.setenv("HH_API_KEY", "key")
    with caplog.at_level(logging.WARNING, logger="tracebaton"):
        Tracer.init(project="shop")
    assert len(caplog.messages) == 1, caplog.messages
    assert name in caplog.messages[0]
    assert BAD[name] not in caplog.messages[0]


def test_all_bad_values_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in BAD.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HH_TEST_MODE")
    tracer = Tracer.init(exporter="memory")
    with tracer.start_span("work"):
        pass
    assert len(spans_of(tracer)) == 1


def test_unprefixed_variables_mean_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SESSION_ID", "SOURCE", "PROJECT", "RUN_ID", "API_KEY", "SESSION_NAME", "VARIANT", "GROUP"):
        monkeypatch.setenv(name, "foreign")
    tracer = Tracer.init(exporter="memory")
    with tracer.start_span("work"):
        headers = inject_context_into_carrier({})
    assert "foreign" not in str(spans_of(tracer)[0].attributes)
    assert "foreign" not in str(headers)


def test_values_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HH_PROJECT", "shop")
    monkeypatch.setenv("HH_SOURCE", "prod")
    monkeypatch.setenv("HH_SESSION_NAME", "checkout")
    tracer = Tracer.init(exporter="memory")
    assert (tracer.project, tracer.source, tracer.session_name) == ("shop", "prod", "checkout")


def test_an_argument_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HH_PROJECT", "environment")
    assert Tracer.init(exporter="none", project="argument").project == "argument"
    assert Tracer.init(exporter="none", project=None).project == "environment"


def test_a_later_change_of_the_environment_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HH_PROJECT", "before")
    tracer = Tracer.init(exporter="none")
    monkeypatch.setenv("HH_PROJECT", "after")
    assert tracer.project == "before"


def test_the_sdk_switch_turns_everything_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    tracer = Tracer.init(exporter="memory")
    with tracer.start_span("work") as span:
        assert not span.is_recording()
    assert spans_of(tracer) == []


def test_a_key_means_honeyhive(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    monkeypatch.setenv("HH_API_KEY", "key")
    monkeypatch.setenv("HH_API_URL", collector.url)
    tracer = Tracer.init(project="shop", session_id="order 17")
    with tracer.start_span("work"):
        pass
    assert tracer.flush(10_000)
    request = next(request for request in collector.requests if request.spans)
    assert request.path == "/opentelemetry/v1/traces"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["authorization"] == "Bearer key"
    assert "content-encoding" not in request.headers
    # HoneyHive wants UUIDs; the wire carries the raw one.
    session = request.spans[0].session
    assert len(session) == 36
    assert session[14] == "5"
    assert "order%2017" in inject_context_into_carrier({})["baggage"]


def test_a_url_without_a_key_changes_nothing(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    monkeypatch.setenv("HH_API_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    tracer = Tracer.init()
    with tracer.start_span("work"):
        pass
    assert tracer.flush(10_000)
    assert [request.path for request in collector.requests] == ["/v1/traces"]


def test_otlp_endpoint_headers_and_resource(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{collector.url}/mine/v1/traces")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b,x-other=c")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop-api")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=loses,deployment.environment.name=test")
    tracer = Tracer.init()
    with tracer.start_span("work"):
        pass
    assert tracer.flush(10_000)
    request = collector.requests[0]
    assert request.path == "/mine/v1/traces"
    assert request.headers["content-type"] == "application/x-protobuf"
    assert (request.headers["x-tenant"], request.headers["x-other"]) == ("a b", "c")
    resource = request.spans[0].resource
    assert resource["service.name"] == "shop-api"
    assert resource["deployment.environment.name"] == "test"
    assert resource["telemetry.sdk.language"] == "python"
    assert tracer.provider.resource.attributes["service.name"] == "shop-api"


def test_test_mode_exports_nothing_and_keeps_the_session(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    tracer = Tracer.init(test_mode=True, session_id="mine")
    assert tracer.session_id == "mine"
    with tracer.start_span("work"):
        pass
    assert tracer.flush(2_000)
    assert collector.requests == []


@pytest.mark.parametrize(("name", "value"), [("HH_OTLP_ENABLED", "false"), ("HH_DISABLE_TRACING", "true")])
def test_switches_that_the_docs_promise(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, name: str, value: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv(name, value)
    tracer = Tracer.init()
    with tracer.start_span("work"):
        pass
    assert tracer.flush(2_000)
    assert collector.requests == []
