"""Extraction: every carrier that frameworks hand out, and never an exception."""

from __future__ import annotations

import email.message
import itertools
import os
import time
from collections import UserDict
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import httpx
import multidict
import pytest
import requests.structures
import starlette.datastructures
import tracebaton
import werkzeug.datastructures
from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.context.context import Context
from recorded import only_span_of
from tracebaton import (
    TracebatonPropagator,
    Tracer,
    extract_context_from_carrier,
    inject_context_into_carrier,
    with_distributed_trace_context,
)

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C
SPAN_ID = 0xB7AD6B7169203331
HEADERS = {"traceparent": CALLER, "tracestate": "a=1,9b=2", "baggage": "session_id=theirs,k=v;p"}


def spelled(spelling: Callable[[str], str]) -> dict[str, str]:
    return {spelling(name): value for name, value in HEADERS.items()}


def with_message(pairs: Mapping[str, str]) -> email.message.Message:
    message = email.message.Message()
    for name, value in pairs.items():
        message[name] = value
    return message


class Proxy(Mapping[str, str]):
    """A mapping of a framework's own."""

    def __getitem__(self, key: str) -> str:
        return HEADERS[key.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(name.title() for name in HEADERS)

    def __len__(self) -> int:
        return 3


CARRIERS: dict[str, Any] = {
    "dict": dict(HEADERS),
    "title case": spelled(str.title),
    "upper case": spelled(str.upper),
    "odd case": spelled(lambda name: name[:1].upper() + name[1:-1] + name[-1:].upper()),
    "WSGI environ": {
        "REQUEST_METHOD": "GET",
        "wsgi.input": object(),
        "wsgi.version": (1, 0),
        **{f"HTTP_{name.upper()}": value for name, value in HEADERS.items()},
    },
    "ASGI list": [(b"host", b"x"), *((name.encode(), value.encode()) for name, value in HEADERS.items())],
    "ASGI list of lists": [[name.title().encode(), value.encode()] for name, value in HEADERS.items()],
    "pairs": list(HEADERS.items()),
    "tuple of pairs": tuple(HEADERS.items()),
    "generator of pairs": (pair for pair in list(HEADERS.items())),
    "gRPC metadata": (("user-agent", "grpc"), ("trace-bin", b"\x00"), *HEADERS.items()),
    "dict of bytes": {name.encode(): value.encode() for name, value in HEADERS.items()},
    "dict of lists": {name: [value] for name, value in HEADERS.items()},
    "dict of tuples": {name.title(): (value,) for name, value in HEADERS.items()},
    "mixed": {"Traceparent": CALLER.encode(), b"TRACESTATE": "a=1,9b=2", "baggage": HEADERS["baggage"]},
    "mapping": Proxy(),
    "mapping proxy": MappingProxyType(dict(HEADERS)),
    "UserDict": UserDict(HEADERS),
    "werkzeug Headers": werkzeug.datastructures.Headers(spelled(str.title)),
    "werkzeug EnvironHeaders": werkzeug.datastructures.EnvironHeaders(
        {f"HTTP_{name.upper()}": value for name, value in HEADERS.items()}
    ),
    "dict of werkzeug headers": dict(werkzeug.datastructures.Headers(spelled(str.title))),
    "httpx Headers": httpx.Headers(HEADERS),
    "starlette Headers": starlette.datastructures.Headers(HEADERS),
    "CIMultiDict": multidict.CIMultiDict(HEADERS),
    "CIMultiDictProxy": multidict.CIMultiDictProxy(multidict.CIMultiDict(spelled(str.title))),
    "CaseInsensitiveDict": requests.structures.CaseInsensitiveDict(spelled(str.title)),
    "Message": with_message(spelled(str.title)),
    "white space around": {name: f" \t{value}\t " for name, value in HEADERS.items()},
}


def check(context: Context) -> None:
    span = otel_trace.get_current_span(context).get_span_context()
    assert (span.trace_id, span.span_id, span.is_remote, span.trace_flags) == (TRACE_ID, SPAN_ID, True, 1)
    assert span.trace_state.to_header() == "a=1,9b=2"
    assert baggage.get_all(context) == {"session_id": "theirs", "k": "v"}


@pytest.mark.parametrize("kind", CARRIERS)
def test_carriers(tracer: Tracer, kind: str) -> None:
    carrier = CARRIERS[kind]
    if kind.startswith("generator"):
        carrier = iter(HEADERS.items())
    context = extract_context_from_carrier(carrier)
    check(context)
    assert isinstance(context, Context)
    token = otel_context.attach(context)
    with tracer.start_span("s"):
        headers = inject_context_into_carrier({})
    otel_context.detach(token)
    span = only_span_of(tracer)
    assert (span.trace_id, span.parent_id, span.session) == (f"{TRACE_ID:032x}", f"{SPAN_ID:016x}", "theirs")
    assert span.trace_state == headers["tracestate"] == "a=1,9b=2"
    assert headers["baggage"] == "session_id=theirs,project=shop,source=dev,k=v;p"


def test_os_environ(tracer: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in HEADERS.items():
        monkeypatch.setenv(name.upper(), value)
    check(extract_context_from_carrier(os.environ))


def test_the_current_context_stays_below(tracer: Tracer) -> None:
    token = otel_context.attach(otel_context.set_value("mine", 5))
    context = extract_context_from_carrier(HEADERS)
    assert context["mine"] == 5
    assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN  # extracting makes nothing current
    otel_context.detach(token)


REPEATED = [
    ("Baggage", "a=1"),
    ("traceparent", CALLER),
    ("baggage", "b=2"),
    ("tracestate", "x=1"),
    ("TraceState", "y=2"),
]


@pytest.mark.parametrize(
    "carrier",
    [
        REPEATED,
        [(name.encode(), value.encode()) for name, value in REPEATED],
        httpx.Headers(REPEATED),
        multidict.CIMultiDict(REPEATED),
        werkzeug.datastructures.Headers(REPEATED),
        starlette.datastructures.Headers(raw=[(name.lower().encode(), value.encode()) for name, value in REPEATED]),
        {"traceparent": CALLER, "baggage": ["a=1", "b=2"], "tracestate": ("x=1", "y=2")},
        {"traceparent": CALLER, "baggage": "a=1", "Baggage": "b=2", "tracestate": "x=1", "Tracestate": "y=2"},
    ],
    ids=["pairs", "pairs of bytes", "httpx", "CIMultiDict", "werkzeug", "starlette", "dict of lists", "two spellings"],
)
def test_all_values_of_a_repeated_header(tracer: Tracer, carrier: Any) -> None:
    context = extract_context_from_carrier(carrier)
    assert baggage.get_all(context) == {"a": "1", "b": "2"}
    span = otel_trace.get_current_span(context).get_span_context()
    assert span.trace_state.to_header() == "x=1,y=2"


@pytest.mark.parametrize(
    "carrier",
    [
        [("traceparent", CALLER), ("Traceparent", CALLER)],
        {"traceparent": [CALLER, CALLER]},
        {"traceparent": f"{CALLER},{CALLER}"},
        {"traceparent": CALLER, "Traceparent": CALLER},
    ],
    ids=["pairs", "list", "joined", "two spellings"],
)
def test_a_repeated_traceparent_is_none(tracer: Tracer, carrier: Any) -> None:
    context = extract_context_from_carrier(carrier)
    assert otel_trace.get_current_span(context) is otel_trace.INVALID_SPAN
    assert tracer.stats()["inbound_dropped"] == {"TP11": 1}


@pytest.mark.parametrize(
    ("traceparent", "rule"),
    [
        (CALLER + "-", "TP4"),
        (CALLER.upper(), "TP5"),
        ("ff" + CALLER[2:], "TP3"),
        ("00-" + "0" * 32 + CALLER[35:], "TP6"),
        ("\xa0" + CALLER, None),
        ("", None),
        ("x" * 100_000, None),
    ],
    ids=itertools.count(),
)
def test_a_bad_traceparent_starts_a_new_trace(tracer: Tracer, traceparent: str, rule: str | None) -> None:
    carrier = {**HEADERS, "traceparent": traceparent}
    with with_distributed_trace_context(carrier), tracer.start_span("s"):
        pass
    span = only_span_of(tracer)
    assert (span.parent_id, span.trace_state, span.session) == ("", "", "theirs")
    if rule:
        assert rule in tracer.stats()["inbound_dropped"]


def test_what_is_dropped_is_counted_and_never_logged(tracer: Tracer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    carrier = {"traceparent": "hunter2", "tracestate": "hunter2=", "baggage": "ok=1,hunter2 hunter2=hunter2"}
    for _ in range(3):
        extract_context_from_carrier(carrier)
    dropped = tracer.stats()["inbound_dropped"]
    assert dropped["B3"] == 3
    assert "hunter2" not in caplog.text
    assert "hunter2" not in str(tracer.stats())


JUNK: list[Any] = [
    None,
    5,
    1.5,
    True,
    "traceparent",
    b"baggage",
    object(),
    object,
    len,
    [],
    (),
    set(),
    {"traceparent"},
    [5, None, "ab", ("a",), ("a", "b", "c"), [[]], {}],
    [("traceparent", None), ("baggage", 5), (None, CALLER), (5, 6)],
    {"traceparent": None, "tracestate": 5, "baggage": object()},
    {"traceparent": [], "tracestate": [None, 5], "baggage": [[["a=1"]]]},
    {None: None, 5: 5, ("a",): "b", b"\xff\xfe": "x"},
    {"traceparent": b"\xff\xfe", "baggage": b"\xff=\xfe", "tracestate": b"\x00"},
    {"baggage": "\ud800=1", "traceparent": "\ud800"},
    {"\ud800": "x"},
    range(10),
    iter(()),
    bytearray(b"x"),
    memoryview(b"x"),
    Exception("x"),
]


@pytest.mark.parametrize("carrier", JUNK, ids=itertools.count())
def test_junk_is_nothing(tracer: Tracer, carrier: Any) -> None:
    context = extract_context_from_carrier(carrier)
    assert otel_trace.get_current_span(context) is otel_trace.INVALID_SPAN
    with with_distributed_trace_context(carrier), tracer.start_span("s"):
        pass
    assert (only_span_of(tracer).session, only_span_of(tracer).parent_id) == ("own", "")
    TracebatonPropagator().extract(carrier)


class Failing:
    """A carrier whose own code raises, or gives something else than it should."""

    def __init__(self, how: Any) -> None:
        self.how = how

    def items(self) -> Any:
        return self.how()


def raising(kind: type[BaseException]) -> Callable[[], Any]:
    def fail() -> Any:
        raise kind("mine")

    return fail


def half() -> Iterator[Any]:
    yield "traceparent", CALLER
    raise RuntimeError("mine")


def endless() -> Iterator[Any]:
    while True:
        yield "x", "y"


@pytest.mark.parametrize(
    "how",
    [
        *(raising(kind) for kind in (ValueError, TypeError, KeyError, RecursionError, StopIteration, MemoryError)),
        lambda: None,
        lambda: 5,
        lambda: [5, "ab", (1, 2, 3)],
        lambda: [(object(), object())],
        half,
        endless,
    ],
    ids=itertools.count(),
)
def test_items_that_raise_or_yield_junk(tracer: Tracer, how: Any) -> None:
    extract_context_from_carrier(Failing(how))
    with with_distributed_trace_context(Failing(how)):
        pass


class HostileAttributes:
    def __getattribute__(self, name: str) -> Any:
        raise ValueError(name)


class HostileClass:
    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise ValueError("class")


class HostileGet(dict[str, str]):
    def __getitem__(self, key: str) -> str:
        raise ValueError(key)

    def items(self) -> Any:
        raise ValueError("items")

    def __iter__(self) -> Any:
        raise ValueError("iter")


@pytest.mark.parametrize("kind", [HostileAttributes, HostileClass, lambda: HostileGet(HEADERS)], ids=itertools.count())
def test_hostile_objects(tracer: Tracer, kind: Any) -> None:
    extract_context_from_carrier(kind())
    inject_context_into_carrier(kind())


def test_ctrl_c_inside_a_carrier_is_obeyed(tracer: Tracer) -> None:
    with pytest.raises(KeyboardInterrupt):
        extract_context_from_carrier(Failing(raising(KeyboardInterrupt)))


HOSTILE_SIZES: dict[str, Callable[[], Any]] = {
    "1 MB in one member": lambda: {"traceparent": CALLER, "baggage": "a=" + "v" * 1_000_000},
    "1 MB of members": lambda: {"traceparent": CALLER, "baggage": "a=b," * 250_000},
    "1 MB of commas": lambda: {"traceparent": CALLER, "baggage": "," * 1_000_000, "tracestate": "," * 1_000_000},
    "1 MB of properties": lambda: {"traceparent": CALLER, "baggage": "a=b" + ";p" * 500_000},
    "1 MB of percents": lambda: {"traceparent": CALLER, "baggage": "a=" + "%41" * 330_000},
    "1 MB of tracestate": lambda: {"traceparent": CALLER, "tracestate": "a=b," * 250_000},
    "10^6 entries": lambda: {**{f"x-{number}": "y" for number in range(1_000_000)}, "traceparent": CALLER},
    "10^6 pairs": lambda: [("baggage", "a=1")] * 1_000_000,
    "10^6 values": lambda: {"baggage": ["a=1"] * 1_000_000},
}


@pytest.mark.parametrize("kind", HOSTILE_SIZES)
def test_hostile_sizes(tracer: Tracer, kind: str) -> None:
    carrier = HOSTILE_SIZES[kind]()
    began = time.monotonic()
    context = extract_context_from_carrier(carrier)
    # Generous: it takes milliseconds. Work for every member, or worse, takes much longer.
    assert time.monotonic() - began < 2
    assert len(baggage.get_all(context)) <= 180
    token = otel_context.attach(context)
    headers = inject_context_into_carrier({})
    otel_context.detach(token)
    assert len(headers["baggage"]) <= 8_192


def test_the_limits_of_the_policy(make_tracer: Any) -> None:
    tracer = make_tracer(policy={"max_members": 2, "max_bytes": 100})
    context = extract_context_from_carrier({"baggage": "a=1,b=2,c=3"}, tracer)
    assert baggage.get_all(context) == {"a": "1", "b": "2"}


def test_baggage_is_not_made_into_attributes_unless_allowed(make_tracer: Any) -> None:
    carrier = {"baggage": "user=u%201,tenant=t,other=o"}
    plain, allowing = make_tracer(), make_tracer(policy={"baggage_attributes": ["user", "tenant"]})
    for tracer in (plain, allowing):
        with with_distributed_trace_context(carrier, tracer), tracer.start_span("s"):
            pass
    assert not {"user", "baggage.user"} & set(only_span_of(plain).attributes)
    attributes = only_span_of(allowing).attributes
    assert "u 1" in attributes.values()
    assert "t" in attributes.values()
    assert "o" not in attributes.values()


def test_without_a_tracer() -> None:
    check(extract_context_from_carrier(HEADERS))
    assert tracebaton.get_tracer() is None


class _FalseLength(str):
    """A text that says of itself that it has none."""

    __slots__ = ()

    def __len__(self) -> int:
        return 0


def test_a_header_name_that_lies_about_its_length_is_found() -> None:
    check(extract_context_from_carrier({_FalseLength(name): value for name, value in HEADERS.items()}))
