"""`Tracer.init`: its arguments, what it does with wrong ones, and its session."""

from __future__ import annotations

import inspect
import logging
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import tracebaton
from recorded import only_span_of, spans_of
from tracebaton import HoneyHiveTracer, Policy, Tracer

TEXTS = (
    "api_key",
    "project",
    "source",
    "session_id",
    "session_name",
    "server_url",
    "sampler",
    "service_name",
    "otlp_endpoint",
    "otlp_protocol",
)
FLAGS = ("set_global", "disable_batch", "disable_tracing", "test_mode", "verbose", "otlp_enabled", "random_flag")
NUMBERS = ("max_attributes", "max_events", "max_links", "batch_size")

DOCUMENTED = (
    # DESIGN §2
    *("session_id", "session_name", "server_url", "exporter", "policy", "sampler", "service_name", "redact", "capture"),
    *("limits", "spool_dir", "set_global"),
    # reference/honeyhive.md §1.2
    *("skip_backend_session_creation", "disable_batch", "disable_http_tracing", "verbose", "test_mode", "inputs"),
    *("is_evaluation", "run_id", "dataset_id", "datapoint_id", "link_carrier", "requests_session"),
    *("span_name_filters", "max_attributes", "max_events", "max_links", "max_span_size", "preserve_core_attributes"),
    *("cache_enabled", "cache_max_size", "cache_ttl", "cache_cleanup_interval", "disable_tracing", "otlp_enabled"),
    *("otlp_endpoint", "otlp_headers", "otlp_protocol", "batch_size", "flush_interval", "max_export_batch_size"),
    *("export_timeout", "config", "session_config", "evaluation_config"),
)


def test_is_also_called_honeyhive_tracer() -> None:
    assert HoneyHiveTracer is Tracer


@pytest.mark.parametrize("name", DOCUMENTED)
def test_takes_every_documented_keyword(name: str) -> None:
    Tracer.init(**{"exporter": "none", name: None})


def test_an_unknown_keyword_is_named() -> None:
    with pytest.raises(TypeError, match="proyect"):
        Tracer.init(exporter="none", proyect="x")


def test_key_project_and_source_by_position() -> None:
    tracer = Tracer.init("key", "shop", "prod", exporter="memory")
    assert (tracer.project, tracer.source) == ("shop", "prod")


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("value", [5, 1.5, True, b"x", ["x"], {"x": 1}, object()], ids=lambda it: type(it).__name__)
def test_a_text_of_another_type_is_a_type_error(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=rf"\b{name}\b.*{type(value).__name__}"):
        Tracer.init(**{"exporter": "none", name: value})


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("value", [1, 0, "true", [], 1.0], ids=repr)
def test_a_flag_of_another_type_is_a_type_error(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=rf"\b{name}\b.*{type(value).__name__}"):
        Tracer.init(**{"exporter": "none", name: value})


@pytest.mark.parametrize("value", [1, 0, "true", 1.0], ids=repr)
def test_capture_of_another_type_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match=rf"capture.*{type(value).__name__}"):
        Tracer.init(exporter="none", capture=value)


@pytest.mark.parametrize("value", [1, "no", 1.5], ids=repr)
def test_redact_of_another_type_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match=rf"redact.*{type(value).__name__}"):
        Tracer.init(exporter="none", redact=value)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["5", 1.5, True, [1]], ids=repr)
def test_a_number_of_another_type_is_a_type_error(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=rf"\b{name}\b.*{type(value).__name__}"):
        Tracer.init(**{"exporter": "none", name: value})


@pytest.mark.parametrize("name", NUMBERS)
def test_a_negative_number_is_an_error_that_names_it(name: str) -> None:
    with pytest.raises((TypeError, ValueError), match=name):
        Tracer.init(**{"exporter": "none", name: -1})


@pytest.mark.parametrize("name", NUMBERS)
def test_a_huge_number_is_no_crash(name: str) -> None:
    # More than any machine word: a number all the same, so not a matter of types.
    try:
        Tracer.init(**{"exporter": "none", name: 2**70})
    except (TypeError, ValueError, OverflowError) as error:
        assert name in str(error)


@pytest.mark.parametrize("value", ["5", True, [1], None.__class__], ids=repr)
def test_flush_interval_of_another_type(value: Any) -> None:
    with pytest.raises(TypeError, match="flush_interval"):
        Tracer.init(exporter="none", flush_interval=value)


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), 1e300])
def test_flush_interval_that_is_no_time(value: float) -> None:
    try:
        Tracer.init(exporter="none", flush_interval=value)
    except ValueError as error:
        assert "flush_interval" in str(error)
    else:
        assert value > 0


@pytest.mark.parametrize("value", [5, 1.5, True, {"otlp": 1}, ["otlp", 5], [None], b"otlp"], ids=repr)
def test_exporter_of_another_type(value: Any) -> None:
    with pytest.raises(TypeError, match="exporter"):
        Tracer.init(exporter=value)


@pytest.mark.parametrize("value", ["zipkin", ["otlp", "zipkin"]], ids=repr)
def test_an_exporter_that_there_is_not(value: Any) -> None:
    with pytest.raises(ValueError, match="exporter"):
        Tracer.init(exporter=value)


@pytest.mark.parametrize("value", ["a=b", 5, [1], ["ab"], {"a": 1}, {1: "a"}], ids=repr)
def test_otlp_headers_of_another_type(value: Any) -> None:
    with pytest.raises(TypeError, match="otlp_headers"):
        Tracer.init(exporter="otlp", otlp_headers=value)


@pytest.mark.parametrize("value", ["ignore", 5, ["ignore"], object()], ids=lambda it: type(it).__name__)
def test_policy_of_another_type(value: Any) -> None:
    with pytest.raises(TypeError, match=rf"policy.*{type(value).__name__}"):
        Tracer.init(exporter="none", policy=value)


@pytest.mark.parametrize(
    ("keyword", "value", "error"),
    [
        ("inbound", 5, TypeError),
        ("inbound", "perhaps", ValueError),
        ("accept_session", "no", TypeError),
        ("accept_session", 0, TypeError),
        ("accept_project", 1.5, TypeError),
        ("max_members", "1", TypeError),
        ("max_members", True, TypeError),
        ("max_members", -1, (TypeError, ValueError)),
        ("max_bytes", 1.5, TypeError),
        ("baggage_attributes", "user", TypeError),
        ("baggage_attributes", [1], TypeError),
        ("propagate_to", "*", TypeError),
        ("propagate_to", ["http://not a host/"], ValueError),
        ("inbund", "ignore", TypeError),
    ],
)
def test_a_wrong_part_of_a_policy_is_named(keyword: str, value: Any, error: Any) -> None:
    with pytest.raises(error, match=keyword):
        Tracer.init(exporter="none", policy={keyword: value})
    with pytest.raises(error, match=keyword):
        Policy(**{keyword: value})


@pytest.mark.parametrize("url", ["not a url", "ftp://x", "http://", "http://[::1", "http://a b/"])
@pytest.mark.parametrize("name", ["otlp_endpoint", "server_url"])
def test_an_url_that_is_none_is_a_value_error(name: str, url: str) -> None:
    with pytest.raises(ValueError, match=name):
        Tracer.init(**{"api_key": "k", "exporter": ["honeyhive", "otlp"], name: url})


@pytest.mark.parametrize("sampler", ["sometimes", "always", "1"])
def test_a_sampler_that_there_is_not(sampler: str) -> None:
    with pytest.raises(ValueError, match="sampler"):
        Tracer.init(exporter="none", sampler=sampler)


def test_errors_do_not_quote_secrets() -> None:
    with pytest.raises(TypeError) as caught:
        Tracer.init(api_key=["hunter2"])  # type: ignore[arg-type]
    assert "hunter2" not in str(caught.value)
    with pytest.raises(TypeError) as caught:
        Tracer.init(exporter="otlp", otlp_headers={"authorization": [b"hunter2"]})  # type: ignore[dict-item]
    assert "hunter2" not in str(caught.value)


def test_the_signature_says_what_init_takes() -> None:
    names = set(inspect.signature(Tracer.__init__).parameters)
    assert {"api_key", "project", "source", "session_id", "exporter", "policy", "set_global"} <= names


def test_the_session_is_a_new_uuid_unless_given(make_tracer: Callable[..., Tracer]) -> None:
    one, other = make_tracer(session_id=None), make_tracer(session_id=None)
    assert str(uuid.UUID(one.session_id)) == one.session_id
    assert uuid.UUID(one.session_id).version == 4
    assert one.session_id != other.session_id
    assert one.session_id == one.session_id


@pytest.mark.parametrize(
    "session",
    ["s", "order 17", "näh✓", "a,b;c=d%", "0F8FAD5B-D9CB-469F-A165-70867728950E", "x" * 256, " padded "],
)
def test_any_text_up_to_256_characters_is_a_session(make_tracer: Callable[..., Tracer], session: str) -> None:
    tracer = make_tracer(session_id=session)
    assert tracer.session_id == session
    with tracer.start_span("work"):
        headers = tracebaton.inject_context_into_carrier({})
    with tracer.start_span("again"), tracebaton.with_distributed_trace_context(headers):
        pass
    assert {span.session for span in spans_of(tracer)} == {session}
    assert {span.attributes["session.id"] for span in spans_of(tracer)} == {session}


@pytest.mark.parametrize("session", ["", "x" * 257])
def test_no_session_and_a_longer_one_are_value_errors(session: str) -> None:
    with pytest.raises(ValueError, match="session_id"):
        Tracer.init(exporter="none", session_id=session)


def test_length_of_a_session_is_in_characters(make_tracer: Callable[..., Tracer]) -> None:
    assert make_tracer(session_id="✓" * 256).session_id == "✓" * 256
    with pytest.raises(ValueError, match="session_id"):
        make_tracer(session_id="✓" * 257)


def test_every_span_has_the_routing_attributes(make_tracer: Callable[..., Tracer]) -> None:
    tracer = make_tracer(session_name="checkout", source="prod")
    with tracer.start_span("work"):
        pass
    attributes = only_span_of(tracer).attributes
    assert attributes["honeyhive.session_id"] == "own"
    assert attributes["session.id"] == "own"
    assert attributes["honeyhive.session_name"] == "checkout"
    assert attributes["honeyhive.session_auto_create"] is True
    assert attributes["honeyhive.project"] == "shop"
    assert attributes["honeyhive.source"] == "prod"


def test_the_source_is_dev_unless_given(make_tracer: Callable[..., Tracer]) -> None:
    assert make_tracer().source == "dev"
    assert make_tracer(source=None).source == "dev"  # not the text 'None'


def test_configuration_objects_and_what_comes_first() -> None:
    class Config:
        project = "from config"
        source = "from config"

    tracer = Tracer.init(config=Config(), session_config={"source": "from session"}, exporter="none", session_id="s")
    assert (tracer.project, tracer.source) == ("from config", "from session")
    tracer = Tracer.init(config=Config(), project="argument", exporter="none")
    assert (tracer.project, tracer.source) == ("argument", "from config")


def test_a_redirect_to_nowhere_records_nothing() -> None:
    tracer = Tracer.init(exporter="none")
    with tracer.start_span("work") as span:
        assert span.get_span_context().is_valid
    assert tracer.flush(100)
    assert tracer.stats()["queued"] == 0


def test_disable_tracing_switches_off_but_code_runs() -> None:
    tracer = Tracer.init(exporter="memory", disable_tracing=True)

    @tracebaton.trace
    def work() -> int:
        return 7

    assert work() == 7
    assert spans_of(tracer) == []


def test_a_keyword_without_effect_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="tracebaton"):
        Tracer.init(exporter="none", session_id="s", cache_enabled=True, max_span_size=5)
    assert caplog.messages == []  # nothing is lost by these


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("config", 5),
        ("session_config", b"x"),
        ("inputs", 5),
        ("cache_enabled", "yes"),
        ("span_name_filters", ["x"]),
        ("link_carrier", 1),
        ("limits", 5),
        ("otlp_headers", 5),
    ],
)
def test_more_wrong_types_are_named(name: str, wrong: Any) -> None:
    with pytest.raises(TypeError, match=name):
        Tracer.init(exporter="none", **{name: wrong})


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("max_attributes", -1), ("max_attributes", 10**30), ("session_id", "\ud800"), ("limits", {"attribute": 5})],
)
def test_values_that_cannot_be_are_value_errors_that_name_them(name: str, wrong: Any) -> None:
    with pytest.raises(ValueError, match=name):
        Tracer.init(exporter="none", **{name: wrong})


def test_an_unknown_part_of_a_policy_is_named() -> None:
    with pytest.raises(TypeError, match="policy.*'a'"):
        Tracer.init(exporter="none", policy={"a": 1})


def test_limits_as_one_argument() -> None:
    tracer = Tracer.init(exporter="memory", limits={"attributes": 2, "value_length": 3})
    with tracer.start_span("s", attributes={"a": "long text", "b": 1, "c": 2}):
        pass
    span = only_span_of(tracer)
    assert (span.attributes["a"], span.dropped_attributes) == ("lon", 1)


def test_the_same_trouble_is_told_once_whatever_the_number_of_tracers(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="tracebaton"):
        for _ in range(10):
            tracer = Tracer.init(exporter="otlp", otlp_endpoint="http://127.0.0.1:9")
            with tracer.start_span("s"):
                pass
            assert tracer.shutdown() is False
    assert len(caplog.records) == 1
