"""`inject_context_into_carrier`: from every place, and into whatever frameworks have for headers."""

from __future__ import annotations

import email.message
import itertools
import threading
from collections import UserDict
from collections.abc import Callable, MutableMapping
from typing import Any

import aiohttp
import httpx
import multidict
import pytest
import requests.structures
import starlette.datastructures
import tracebaton
import werkzeug.datastructures
from opentelemetry import baggage
from opentelemetry import context as otel_context
from recorded import by_name, spans_of
from tracebaton import (
    Policy,
    Tracer,
    enrich_span_context,
    inject_context_into_carrier,
    trace,
    with_distributed_trace_context,
)

OURS = "session_id=own,project=shop,source=dev"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
Make = Callable[..., Tracer]


def places(tracer: Tracer) -> dict[str, dict[str, str]]:
    """What inject writes in every place there is."""
    found: dict[str, dict[str, str]] = {}

    @trace(event_name="traced")
    def traced() -> None:
        found["traced"] = inject_context_into_carrier({}, tracer)

    traced()
    with enrich_span_context("block"):
        found["block"] = inject_context_into_carrier({}, tracer)
    with tracer.start_span("started"):
        found["started"] = inject_context_into_carrier({}, tracer)
    with tracer.provider.get_tracer("i").start_as_current_span("instrumented"):
        found["instrumented"] = inject_context_into_carrier({}, tracer)
    return found


def test_the_session_is_written_everywhere(tracer: Tracer) -> None:
    found = places(tracer)
    assert {headers["baggage"] for headers in found.values()} == {OURS}
    for name, span in by_name(spans_of(tracer)).items():
        assert found[name]["traceparent"] == f"00-{span.trace_id}-{span.span_id}-03"
        assert set(found[name]) == {"traceparent", "baggage"}


def test_without_a_span(tracer: Tracer) -> None:
    assert inject_context_into_carrier({}) == {"baggage": OURS}


def test_in_another_thread(tracer: Tracer) -> None:
    found: list[dict[str, str]] = []
    with tracer.start_span("s"):
        thread = threading.Thread(target=lambda: found.append(inject_context_into_carrier({})))
        thread.start()
        thread.join()
    assert found == [{"baggage": OURS}]


def test_nothing_process_private_leaves(make_tracer: Make) -> None:
    tracer = make_tracer(api_key="hh-secret-key", session_name="the name", service_name="the service")
    for headers in [*places(tracer).values(), inject_context_into_carrier({})]:
        text = str(headers)
        for private in (
            "hh-secret-key",
            "tracer_id",
            str(id(tracer)),
            hex(id(tracer)),
            "0x",
            "the name",
            "the service",
        ):
            assert private not in text
        assert headers["baggage"].split(",") == OURS.split(",")


def test_values_are_percent_encoded(make_tracer: Make) -> None:
    make_tracer(session_id="a b,c;d=é%\r\n", project="my proj", source="x/y")
    baggage = inject_context_into_carrier({})["baggage"]
    assert baggage == "session_id=a%20b%2Cc%3Bd%3D%C3%A9%25%0D%0A,project=my%20proj,source=x/y"


def test_without_a_project(make_tracer: Make) -> None:
    make_tracer(project=None)
    assert inject_context_into_carrier({}) == {"baggage": "session_id=own,source=dev"}


def test_the_applications_baggage_comes_second(tracer: Tracer) -> None:
    token = otel_context.attach(baggage.set_baggage("user id", "x", baggage.set_baggage("user", "é")))
    with with_distributed_trace_context({"baggage": "in=1;p"}):
        headers = inject_context_into_carrier({"baggage": "mine=2"})
    otel_context.detach(token)
    assert headers["baggage"] == f"{OURS},user=%C3%A9,mine=2,in=1;p"


def test_every_alias_of_a_key_of_ours_is_removed(tracer: Tracer) -> None:
    stale = "honeyhive.session_id=x,honeyhive_session_id=x,session_id=x,honeyhive.project=x,honeyhive_source=x,a=1"
    assert inject_context_into_carrier({"baggage": stale})["baggage"] == f"{OURS},a=1"
    with with_distributed_trace_context({"baggage": stale}):
        headers = inject_context_into_carrier({})
    assert headers["baggage"] == "session_id=x,project=x,source=dev,a=1"


def test_what_came_in_goes_on_byte_for_byte(tracer: Tracer) -> None:
    foreign = "a=%41+%20b;p1;p2=%7e, b = c ;q, UPPER=lower, k=, a=again,%25=x"
    carrier = {"traceparent": CALLER, "tracestate": "x=1 ,y= 2", "baggage": foreign}
    with with_distributed_trace_context(carrier), tracer.start_span("s"):
        headers = inject_context_into_carrier({})
    assert headers["tracestate"] == "x=1 ,y= 2"
    members = [member.strip() for member in headers["baggage"].split(",")]
    assert members[:3] == OURS.split(",")
    assert members[3:] == [member.strip() for member in foreign.split(",")]


def test_injecting_twice_is_injecting_once(tracer: Tracer) -> None:
    with with_distributed_trace_context({"traceparent": CALLER, "baggage": "a=1;p"}), tracer.start_span("s"):
        once = inject_context_into_carrier({"baggage": "b=2"})
        twice = inject_context_into_carrier(dict(once))
    assert once == twice


def test_the_budget(tracer: Tracer) -> None:
    many = ",".join(f"k{number}=v" for number in range(400))
    members = inject_context_into_carrier({"baggage": many})["baggage"].split(",")
    assert members[:3] == OURS.split(",")
    assert len(members) == 180
    long = inject_context_into_carrier({"baggage": f"a=1,b={'v' * 8_200},c=3"})["baggage"]
    assert long == f"{OURS},a=1"


def test_a_rejected_session_is_not_passed_on(tracer: Tracer) -> None:
    with with_distributed_trace_context({"baggage": "session_id=theirs,a=1"}, policy={"accept_session": False}):
        headers = inject_context_into_carrier({})
    assert headers["baggage"] == f"{OURS},a=1"


WRITABLE: dict[str, Callable[[], Any]] = {
    "dict": dict,
    "UserDict": UserDict,
    "werkzeug Headers": werkzeug.datastructures.Headers,
    "httpx Headers": httpx.Headers,
    "Message": email.message.Message,
    "CaseInsensitiveDict": requests.structures.CaseInsensitiveDict,
    "CIMultiDict": multidict.CIMultiDict,
    "starlette MutableHeaders": starlette.datastructures.MutableHeaders,
}
WRITABLE_KINDS = pytest.mark.parametrize("kind", WRITABLE)


def values_of(carrier: Any, name: str) -> list[str]:
    """All values under a name in any letter case."""
    if isinstance(carrier, list):
        pairs = carrier
    elif hasattr(carrier, "multi_items"):
        pairs = carrier.multi_items()
    else:
        pairs = list(carrier.items())
    text = [tuple(one.decode() if isinstance(one, bytes) else one for one in pair) for pair in pairs]
    return [value for key, value in text if key.lower() == name]


@WRITABLE_KINDS
def test_into_an_empty_carrier(tracer: Tracer, kind: str) -> None:
    carrier = WRITABLE[kind]()
    with tracer.start_span("s") as span:
        assert inject_context_into_carrier(carrier) is carrier
    assert values_of(carrier, "baggage") == [OURS]
    (traceparent,) = values_of(carrier, "traceparent")
    assert f"{span.get_span_context().span_id:016x}" in traceparent
    assert values_of(carrier, "tracestate") == []


@WRITABLE_KINDS
@pytest.mark.parametrize("spelling", [str.lower, str.title, str.upper], ids=["lower", "title", "upper"])
def test_into_a_carrier_that_has_them(tracer: Tracer, kind: str, spelling: Callable[[str], str]) -> None:
    carrier = WRITABLE[kind]()
    carrier["Content-Type"] = "text/plain"
    for name, value in (("traceparent", CALLER), ("tracestate", "old=1"), ("baggage", "mine=1,session_id=stale")):
        carrier[spelling(name)] = value
    with tracer.start_span("s"):
        inject_context_into_carrier(carrier)
    assert values_of(carrier, "baggage") == [f"{OURS},mine=1"]
    (traceparent,) = values_of(carrier, "traceparent")
    assert traceparent != CALLER
    assert values_of(carrier, "tracestate") == []  # that of the other trace
    assert values_of(carrier, "content-type") == ["text/plain"]


def test_without_a_span_the_carriers_own_traceparent_stays(tracer: Tracer) -> None:
    """There is nothing to put in its place; a session added to somebody's headers breaks no trace."""
    carrier = {"Traceparent": CALLER, "tracestate": "a=1"}
    inject_context_into_carrier(carrier)
    assert carrier["Traceparent"] == CALLER
    assert carrier["baggage"] == OURS


@pytest.mark.parametrize(
    "kind", ["CIMultiDict", "werkzeug Headers", "Message", "httpx Headers", "starlette MutableHeaders"]
)
def test_into_a_carrier_with_repeated_headers(tracer: Tracer, kind: str) -> None:
    pairs = [("baggage", "a=1"), ("Baggage", "b=2;p"), ("traceparent", CALLER), ("TRACEPARENT", CALLER), ("x", "y")]
    carrier: Any
    if kind == "httpx Headers":
        carrier = httpx.Headers(pairs)
    elif kind == "starlette MutableHeaders":
        carrier = starlette.datastructures.MutableHeaders(
            raw=[(name.lower().encode(), value.encode()) for name, value in pairs]
        )
    else:
        carrier = WRITABLE[kind]()
        for name, value in pairs:
            if kind == "Message":
                carrier[name] = value
            else:
                carrier.add(name, value)
    with tracer.start_span("s"):
        inject_context_into_carrier(carrier)
    assert values_of(carrier, "baggage") == [f"{OURS},a=1,b=2;p"]
    assert len(values_of(carrier, "traceparent")) == 1
    assert values_of(carrier, "x") == ["y"]


def test_into_pairs_of_text(tracer: Tracer) -> None:
    carrier: list[Any] = [("Host", "x"), ["Baggage", "a=1"], ("TraceParent", CALLER), ("Accept", "y")]
    with tracer.start_span("s"):
        assert inject_context_into_carrier(carrier) is carrier
    assert values_of(carrier, "baggage") == [f"{OURS},a=1"]
    assert len(values_of(carrier, "traceparent")) == 1
    assert ("Host", "x") in carrier
    assert ("Accept", "y") in carrier
    assert all(type(part) is str for pair in carrier for part in pair)


def test_into_pairs_of_bytes(tracer: Tracer) -> None:
    carrier: list[Any] = [(b"host", b"x"), (b"Baggage", b"a=1")]
    with tracer.start_span("s"):
        inject_context_into_carrier(carrier)
    assert (b"baggage", f"{OURS},a=1".encode()) in carrier
    assert len(carrier) == 3
    assert all(type(part) is bytes for pair in carrier for part in pair)


def test_into_an_empty_list(tracer: Tracer) -> None:
    with tracer.start_span("s"):
        carrier = inject_context_into_carrier([])
    assert {name for name, _ in carrier} == {"traceparent", "baggage"}


def test_into_a_dict_of_bytes(tracer: Tracer) -> None:
    carrier: dict[Any, Any] = {b"host": b"x", b"Baggage": b"a=1"}
    inject_context_into_carrier(carrier)
    assert carrier == {b"host": b"x", b"baggage": f"{OURS},a=1".encode()}


def test_into_an_environment(tracer: Tracer) -> None:
    carrier = {"PATH": "/bin", "HOME": "/root", "TRACEPARENT": CALLER}
    with tracer.start_span("s") as span:
        inject_context_into_carrier(carrier)
    assert carrier["BAGGAGE"] == OURS
    assert f"{span.get_span_context().span_id:016x}" in carrier["TRACEPARENT"]
    assert set(carrier) == {"PATH", "HOME", "TRACEPARENT", "BAGGAGE"}


def test_into_os_environ(tracer: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in ("TRACEPARENT", "BAGGAGE"):
        monkeypatch.setenv(name, "x")  # so that it is put back
    with tracer.start_span("s"):
        inject_context_into_carrier(os.environ)
    assert os.environ["BAGGAGE"] == OURS
    assert os.environ["TRACEPARENT"].startswith("00-")
    assert "baggage" not in os.environ


def test_into_headers_that_happen_to_be_in_upper_case(tracer: Tracer) -> None:
    carrier = {"ACCEPT": "x", "HOST": "y"}
    inject_context_into_carrier(carrier)
    assert carrier["baggage"] == OURS


def test_into_the_headers_of_an_aiohttp_request(tracer: Tracer) -> None:
    assert aiohttp.__version__
    carrier = multidict.CIMultiDict({"Baggage": "a=1"})
    inject_context_into_carrier(carrier)
    assert carrier.getall("baggage") == [f"{OURS},a=1"]


class Raising(MutableMapping[str, str]):
    """A carrier that fails at one thing."""

    def __init__(self, failing: str) -> None:
        self.failing = failing

    def _fail(self, part: str) -> None:
        if part == self.failing:
            raise RuntimeError(part)

    def __setitem__(self, key: str, value: str) -> None:
        self._fail("set")

    def __getitem__(self, key: str) -> str:
        self._fail("get")
        return "x"

    def __delitem__(self, key: str) -> None:
        self._fail("delete")

    def __iter__(self) -> Any:
        self._fail("iter")
        return iter(["Baggage"])

    def __len__(self) -> int:
        self._fail("len")
        return 1


@pytest.mark.parametrize("part", ["set", "get", "delete", "iter", "len"])
def test_a_carrier_that_raises_raises_nothing_here(tracer: Tracer, part: str) -> None:
    carrier = Raising(part)
    with tracer.start_span("s"):
        assert inject_context_into_carrier(carrier) is carrier


UNWRITABLE: list[Any] = [
    None,
    5,
    1.5,
    "text",
    b"bytes",
    (),
    (("host", "x"),),
    frozenset(),
    object(),
    Tracer,
    len,
    multidict.CIMultiDictProxy(multidict.CIMultiDict()),
    starlette.datastructures.Headers({"a": "b"}),
    iter([("a", "b")]),
]


@pytest.mark.parametrize("carrier", UNWRITABLE, ids=itertools.count())
def test_what_cannot_be_written_stays(tracer: Tracer, carrier: Any) -> None:
    before = repr(carrier)
    with tracer.start_span("s"):
        assert inject_context_into_carrier(carrier) is carrier
    assert repr(carrier) == before


@pytest.mark.parametrize(
    "carrier",
    [{1: 2, None: 3}, {"baggage": None}, {"baggage": 5}, {"baggage": ["a=1", "b=2"]}, {"traceparent": [CALLER]}],
    ids=repr,
)
def test_a_dict_with_odd_entries(tracer: Tracer, carrier: dict[Any, Any]) -> None:
    with tracer.start_span("s"):
        inject_context_into_carrier(carrier)
    assert carrier["baggage"].startswith(OURS)
    assert type(carrier["traceparent"]) is str


@pytest.mark.parametrize("entry", [5, None, "ab", (), ("one",), ("a", "b", "c"), (None, None)], ids=repr)
def test_a_list_with_odd_entries(tracer: Tracer, entry: Any) -> None:
    carrier: list[Any] = [entry]
    inject_context_into_carrier(carrier)
    assert entry in carrier
    assert ("baggage", OURS) in carrier


@pytest.mark.parametrize("url", [5, b"http://x", ["http://x"]], ids=repr)
def test_a_url_of_another_type_is_a_type_error(tracer: Tracer, url: Any) -> None:
    with pytest.raises(TypeError, match="url"):
        inject_context_into_carrier({}, url=url)


@pytest.mark.parametrize(
    ("url", "with_baggage"),
    [
        ("http://127.0.0.1:80/x", True),
        ("http://10.1.2.3/", True),
        ("http://agent:8000/", True),
        ("http://agent.internal/", True),
        ("https://api.example.com/v1", False),
        ("https://8.8.8.8/", False),
        ("https://partner.example.org/", True),
        ("https://sub.partners.example/", True),
    ],
)
def test_with_a_url_the_policy_decides(make_tracer: Make, url: str, with_baggage: bool) -> None:
    tracer = make_tracer(policy=Policy(propagate_to=["partner.example.org", "*.partners.example"]))
    with tracer.start_span("s"):
        headers = inject_context_into_carrier({"x": "y"}, url=url)
    assert headers["traceparent"]
    assert values_of(headers, "baggage") == ([OURS] if with_baggage else [])


def test_where_no_baggage_may_go_the_applications_own_stays(tracer: Tracer) -> None:
    headers = inject_context_into_carrier({"Baggage": "mine=1;p"})
    assert headers["baggage"] == f"{OURS},mine=1;p"
    inject_context_into_carrier(headers, url="https://api.example.com/")
    assert values_of(headers, "baggage") == ["mine=1;p"]
    ours_only = inject_context_into_carrier({})
    assert inject_context_into_carrier(ours_only, url="https://api.example.com/") == {}


def test_headers_that_are_shared_between_hosts(tracer: Tracer) -> None:
    """What a caller and the API said was written for a local host, and does not stand there for a public one."""
    shared = {"Accept": "*/*", "baggage": "mine=1"}
    public = "https://api.example.com/v1"
    caller = {"baggage": "user=alice , k=1;p"}
    with with_distributed_trace_context(caller, tracer), tracer.start_span("s"):
        token = otel_context.attach(baggage.set_baggage("plan", "gold"))
        inject_context_into_carrier(shared, url="http://agent:8000/")
        local = f"{OURS},plan=gold,mine=1,user=alice , k=1;p"
        assert shared["baggage"] == local
        inject_context_into_carrier(shared, url=public)
        assert shared["baggage"] == "mine=1"
        inject_context_into_carrier(shared, url="http://agent:8000/")
        assert shared["baggage"] == local
        # What the application has changed since: the text that was written before goes, too.
        otel_context.attach(baggage.remove_baggage("k", baggage.set_baggage("user", "bob")))
        inject_context_into_carrier(shared, url=public)
        assert shared["baggage"] == "mine=1"
        otel_context.detach(token)
    assert sorted(shared) == ["Accept", "baggage", "traceparent"]


def test_without_a_url_all_is_written(make_tracer: Make) -> None:
    make_tracer(policy={"propagate_to": []})
    assert inject_context_into_carrier({})["baggage"] == OURS


def test_inside_nothing_and_with_no_tracer() -> None:
    assert inject_context_into_carrier({"a": "b"}) == {"a": "b"}
    assert tracebaton.get_tracer() is None
