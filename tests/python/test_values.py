"""What attribute values become, whoever sets them."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import pathlib
import types
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
from collector import Collector
from recorded import only_span_of, spans_of
from tracebaton import Tracer


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Text(str):
    pass


class Number:
    """As numbers of numpy do."""

    def __index__(self) -> int:
        return 7


class Real:
    def __float__(self) -> float:
        return 1.5


class Pair(NamedTuple):
    a: int
    b: str


@dataclasses.dataclass
class Point:
    x: int
    tags: list[str]


class Shown:
    def __str__(self) -> str:
        return "shown"


class Plain:
    pass


class Model:
    def model_dump(self) -> dict[str, Any]:
        return {"m": 1}


class Arrays:
    def tolist(self) -> list[float]:
        return [0.5, 1.5]


SCALARS: list[tuple[Any, Any]] = [
    ("text", "text"),
    ("", ""),
    ("näh ✓ 😀", "näh ✓ 😀"),
    ("nul\0inside", "nul\0inside"),
    ("lone \ud800 one", "lone \ufffd one"),
    (True, True),
    (False, False),
    (0, 0),
    (-1, -1),
    (2**63 - 1, 2**63 - 1),
    (-(2**63), -(2**63)),
    (2**63, str(2**63)),
    (10**30, str(10**30)),
    (1.0, 1.0),
    (0.1, 0.1),
    (-0.0, -0.0),
    (float("inf"), float("inf")),
    (float("-inf"), float("-inf")),
    (b"\x00\xff", b"\x00\xff"),
    (b"", b""),
    (Text("sub"), "sub"),
    (Level.LOW, 1),
    (Number(), 7),
    (Real(), 1.5),
    (Shown(), "shown"),
]
IDS = [f"{index}-{type(given).__name__}" for index, (given, _) in enumerate(SCALARS)]


@pytest.mark.parametrize(("given", "expected"), SCALARS, ids=IDS)
def test_scalars_stay_typed_as_attributes(tracer: Tracer, given: Any, expected: Any) -> None:
    with tracer.start_span("s", attributes={"at start": given}) as span:
        span.set_attribute("set", given)
        span.set_attributes({"several": given})
        tracer.enrich_span(attributes={"enriched": given})
    attributes = only_span_of(tracer).attributes
    for key in ("at start", "set", "several", "enriched"):
        assert attributes[key] == expected
        assert type(attributes[key]) is type(expected)


@pytest.mark.parametrize(("given", "expected"), SCALARS, ids=IDS)
def test_scalars_stay_typed_in_buckets(tracer: Tracer, given: Any, expected: Any) -> None:
    with tracer.start_span("s"):
        tracer.enrich_span(inputs={"a": given, "deep": {"b": [given]}})
    inputs = only_span_of(tracer).under("inputs")
    assert set(inputs) == {"a", "deep.b.0"}
    for value in inputs.values():
        # HoneyHive's buckets hold what JSON holds: bytes and other numbers in some spelling of them.
        if not isinstance(given, bytes):
            assert value == expected
            assert type(value) is type(expected)


@pytest.mark.parametrize(("given", "expected"), SCALARS, ids=IDS)
def test_scalars_over_the_wire(collector: Collector, given: Any, expected: Any) -> None:
    tracer = Tracer.init(exporter="otlp", otlp_endpoint=collector.url)
    with tracer.start_span("s", attributes={"a": given}):
        pass
    assert tracer.flush(10_000)
    assert collector.spans[0].attributes["a"] == expected
    assert type(collector.spans[0].attributes["a"]) is type(expected)


def test_nan(tracer: Tracer) -> None:
    with tracer.start_span("s", attributes={"a": float("nan")}):
        pass
    value = only_span_of(tracer).attributes["a"]
    assert value != value


def test_none_is_no_value(tracer: Tracer) -> None:
    with tracer.start_span("s", attributes={"a": None}) as span:
        span.set_attribute("b", None)
        tracer.enrich_span(inputs={"c": None, "d": 1}, attributes={"e": None})
    span = only_span_of(tracer)
    assert not {"a", "b", "honeyhive_inputs.c", "e"} & set(span.attributes)
    assert span.dropped_attributes == 0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([1, 2], [1, 2]),
        ((1, "a", 2.5, True), [1, "a", 2.5, True]),
        ([], []),
        ([[1], [2, [3]]], [[1], [2, [3]]]),
        ([1, None, 2], [1, None, 2]),
        ({"a": {"b": [1]}}, {"a": {"b": [1]}}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (Pair(1, "x"), [1, "x"]),
    ],
    ids=repr,
)
def test_arrays_and_maps_stay_what_they_are_as_attributes(tracer: Tracer, given: Any, expected: Any) -> None:
    with tracer.start_span("s", attributes={"a": given}) as span:
        span.set_attribute("b", given)
    attributes = only_span_of(tracer).attributes
    assert attributes["a"] == attributes["b"] == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"a": {"b": {"c": 1}}}, {"a.b.c": 1}),
        ({"a": [1, [2, {"b": 3}]]}, {"a.0": 1, "a.1.0": 2, "a.1.1.b": 3}),
        ({"a": (1, 2)}, {"a.0": 1, "a.1": 2}),
        ({"a": {5}}, {"a.0": 5}),
        ({"a": frozenset()}, {}),
        ({"a": {}, "b": []}, {}),
        ({1: "one", None: "none", ("x", 1): "pair"}, {"1": "one", "None": "none", "('x', 1)": "pair"}),
        ({"a": Point(1, ["t"])}, {"a.x": 1, "a.tags.0": "t"}),
        ({"a": Model()}, {"a.m": 1}),
        ({"a": Arrays()}, {"a.0": 0.5, "a.1": 1.5}),
        ({"a": Colour.RED}, {"a": "red"}),
        ({"a": datetime.datetime(2026, 1, 2, 3, 4, 5)}, {"a": "2026-01-02T03:04:05"}),
        ({"a": datetime.date(2026, 1, 2)}, {"a": "2026-01-02"}),
        ({"a": uuid.UUID(int=5)}, {"a": "00000000-0000-0000-0000-000000000005"}),
        ({"a": pathlib.PurePosixPath("/x/y")}, {"a": "/x/y"}),
        ({"a": range(3)}, None),
    ],
    ids=lambda it: str(it)[:60],
)
def test_nested_values_flatten_in_buckets(tracer: Tracer, given: Any, expected: Any) -> None:
    with tracer.start_span("s"):
        tracer.enrich_span(metadata=given)
    found = only_span_of(tracer).under("metadata")
    assert found == expected if expected is not None else found


def test_a_decimal_is_a_number_or_its_text(tracer: Tracer) -> None:
    with tracer.start_span("s"):
        tracer.enrich_span(metrics={"price": decimal.Decimal("1.10")})
    assert only_span_of(tracer).under("metrics")["price"] in (1.1, "1.10")


def test_no_captured_text_names_a_place_in_memory(tracer: Tracer) -> None:
    with tracer.start_span("s"):
        tracer.enrich_span(
            inputs={"f": test_nan, "p": Plain(), "m": Plain().__init__, "g": (i for i in ()), "c": Plain}
        )
        tracer.enrich_span(outputs=Plain())
    texts = str(only_span_of(tracer).attributes)
    assert " at 0x" not in texts, texts


def test_later_changes_do_not_reach_the_span(tracer: Tracer) -> None:
    items, table = [1], {"a": [1]}
    with tracer.start_span("s", attributes={"items": items, "table": table}) as span:
        tracer.enrich_span(inputs={"items": items, "table": table})
        span.add_event("event", {"items": items})
        items.append(2)
        table["a"].append(2)
        table["b"] = [3]
    recorded = only_span_of(tracer)
    assert recorded.attributes["items"] == [1]
    assert recorded.attributes["table"] == {"a": [1]}
    assert recorded.under("inputs") == {"items.0": 1, "table.a.0": 1}
    assert recorded.events[0].attributes == {"items": [1]}


def test_a_mapping_given_at_the_start_is_copied(tracer: Tracer) -> None:
    given = {"a": 1}
    with tracer.start_span("s", attributes=given):
        given["b"] = 2
    assert "b" not in only_span_of(tracer).attributes
    assert given == {"a": 1, "b": 2}


@pytest.mark.parametrize("key", [5, None, b"bytes", ("a",)], ids=repr)
def test_a_key_that_is_no_text_is_counted(tracer: Tracer, key: Any) -> None:
    with tracer.start_span("s", attributes={key: 1, "good": 2}) as span:
        span.set_attribute(key, 1)
        span.set_attributes({key: 1})
    recorded = only_span_of(tracer)
    assert recorded.attributes["good"] == 2
    assert recorded.dropped_attributes == 3


def test_an_empty_key(tracer: Tracer) -> None:
    with tracer.start_span("s", attributes={"": 1, "a": 2}):
        pass
    # No key is not a key: attribute names are non-empty (OpenTelemetry common/README).
    assert "" not in only_span_of(tracer).attributes


def test_a_key_with_lone_surrogates(tracer: Tracer) -> None:
    with tracer.start_span("s", attributes={"k\ud800": 1}):
        pass
    assert only_span_of(tracer).attributes["k\ufffd"] == 1


def test_a_mapping_that_is_no_dict(tracer: Tracer) -> None:
    class Lazy(Mapping[str, int]):
        def __getitem__(self, key: str) -> int:
            return 5

        def __iter__(self) -> Any:
            return iter(["a"])

        def __len__(self) -> int:
            return 1

    with tracer.start_span("s", attributes=Lazy()) as span:
        span.set_attributes(Lazy())
        tracer.enrich_span(inputs=Lazy(), attributes=Lazy())
    recorded = only_span_of(tracer)
    assert recorded.attributes["a"] == 5
    assert recorded.under("inputs") == {"a": 5}


def test_setting_again_replaces(tracer: Tracer) -> None:
    with tracer.start_span("s", attributes={"a": 1}) as span:
        span.set_attribute("a", "two")
    assert only_span_of(tracer).attributes["a"] == "two"


def test_names_of_spans_are_text(tracer: Tracer) -> None:
    for name in ("", "näh", "a\ud800", "x" * 10_000, 5):
        with tracer.start_span(name):  # type: ignore[arg-type]
            pass
    assert [span.name for span in spans_of(tracer)] == ["", "näh", "a\ufffd", "x" * 10_000, "5"]
