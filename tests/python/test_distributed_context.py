"""`with_distributed_trace_context`: the caller's trace and session inside, and everything as before afterwards."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.context.context import Context
from recorded import IS_REMOTE, by_name, only_span_of, spans_of
from tracebaton import (
    Policy,
    TracebatonPropagator,
    Tracer,
    enrich_span_context,
    get_tracer,
    inject_context_into_carrier,
    trace,
    with_distributed_trace_context,
)

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
CARRIER = {"traceparent": CALLER, "tracestate": "a=1", "baggage": "session_id=theirs,project=theirs,k=v"}
Make = Callable[..., Tracer]


def test_it_yields_the_context(tracer: Tracer) -> None:
    with with_distributed_trace_context(CARRIER, tracer) as context:
        assert isinstance(context, Context)
        assert otel_context.get_current() is context
        assert baggage.get_baggage("k", context) == "v"
        assert otel_trace.get_current_span().get_span_context().is_remote
    assert otel_context.get_current() == {}


def test_the_recipe_with_flasks_headers(tracer: Tracer) -> None:
    with with_distributed_trace_context({name.title(): value for name, value in CARRIER.items()}, tracer):
        with enrich_span_context("work", inputs={"q": 1}):
            pass
    span = only_span_of(tracer)
    assert (span.trace_id, span.parent_id, span.session, span.source) == (TRACE_ID, SPAN_ID, "theirs", "dev")
    assert span.flags & IS_REMOTE


def test_undone_on_an_exception(tracer: Tracer) -> None:
    raised = KeyError("mine")
    with pytest.raises(KeyError) as caught, with_distributed_trace_context(CARRIER, tracer):
        raise raised
    assert caught.value is raised
    assert otel_context.get_current() == {}


async def test_async_with(tracer: Tracer) -> None:
    async with with_distributed_trace_context(CARRIER, tracer) as context:
        assert otel_context.get_current() is context
        await asyncio.sleep(0)
        with tracer.start_span("work"):
            pass
    assert "theirs" not in str(otel_context.get_current())
    with pytest.raises(KeyError):
        async with with_distributed_trace_context(CARRIER, tracer):
            raise KeyError
    assert get_tracer() is tracer
    assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN
    assert only_span_of(tracer).trace_id == TRACE_ID


def test_nested(tracer: Tracer) -> None:
    inner = {"traceparent": CALLER.replace("0af7", "1bf7"), "baggage": "session_id=inner"}
    with with_distributed_trace_context(CARRIER, tracer) as outer:
        with with_distributed_trace_context(inner, tracer), tracer.start_span("inner"):
            assert baggage.get_baggage("session_id") == "inner"
        assert otel_context.get_current() is outer
        with tracer.start_span("outer"):
            pass
    spans = by_name(spans_of(tracer))
    assert (spans["inner"].session, spans["outer"].session) == ("inner", "theirs")
    assert spans["inner"].trace_id != spans["outer"].trace_id == TRACE_ID


def test_an_empty_carrier_keeps_what_is_current(tracer: Tracer) -> None:
    with with_distributed_trace_context(CARRIER, tracer), with_distributed_trace_context({}, tracer):
        with tracer.start_span("s"):
            pass
    assert (only_span_of(tracer).session, only_span_of(tracer).trace_id) == ("theirs", TRACE_ID)


def test_what_is_left_attached_inside_is_undone(tracer: Tracer) -> None:
    with with_distributed_trace_context(CARRIER, tracer):
        otel_context.attach(otel_context.set_value("leaked", 1))
        otel_context.attach(otel_context.set_value("leaked", 2))
        tracer.start_span("left open").__enter__()
    assert otel_context.get_current() == {}


def test_attach_and_detach_across_the_end(tracer: Tracer) -> None:
    block = with_distributed_trace_context(CARRIER, tracer)
    block.__enter__()
    token = otel_context.attach(otel_context.set_value("mine", 1))
    block.__exit__(None, None, None)
    assert otel_context.get_current() == {}
    otel_context.detach(token)  # restores what was current at attach, as OpenTelemetry says
    otel_context.attach(Context())


def test_blocks_that_end_in_another_order(tracer: Tracer) -> None:
    one = with_distributed_trace_context(CARRIER, tracer)
    two = with_distributed_trace_context({"baggage": "session_id=two"}, tracer)
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    assert otel_context.get_current() == {}
    two.__exit__(None, None, None)  # is not current any more: nothing to undo
    assert "two" not in str(otel_context.get_current())


async def test_a_block_in_a_generator_that_is_closed_in_another_task(
    tracer: Tracer, caplog: pytest.LogCaptureFixture
) -> None:
    async def stream() -> AsyncGenerator[int, None]:
        with with_distributed_trace_context(CARRIER, tracer):
            yield 1
            yield 2

    generator = stream()
    assert await asyncio.create_task(anext(generator)) == 1

    async def close() -> None:
        with tracer.start_span("current") as span:
            await generator.aclose()
            assert otel_trace.get_current_span() is span

    await asyncio.create_task(close())
    assert caplog.messages == []
    assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN


def test_a_block_in_a_generator_that_is_collected_in_another_thread(tracer: Tracer) -> None:
    def stream() -> Generator[int, None, None]:
        with with_distributed_trace_context(CARRIER, tracer):
            yield 1

    def start() -> Any:
        generator = stream()
        next(generator)
        return generator

    with ThreadPoolExecutor(1) as pool:
        held = [pool.submit(start).result()]
    with tracer.start_span("current") as span:
        held.clear()
        gc.collect()
        assert otel_trace.get_current_span() is span


def test_a_pooled_threads_next_request_is_clean(tracer: Tracer) -> None:
    def request(session: str | None) -> str:
        carrier = {"baggage": f"session_id={session}"} if session else {}
        with with_distributed_trace_context(carrier, tracer):
            return inject_context_into_carrier({})["baggage"].split(",")[0]

    with ThreadPoolExecutor(1) as pool:
        found = [pool.submit(request, session).result() for session in ("a", None, "b", None)]
    assert found == ["session_id=a", "session_id=own", "session_id=b", "session_id=own"]


def test_asyncio_run_inside_keeps_it(tracer: Tracer) -> None:
    @trace(event_name="inside")
    async def work() -> str:
        return inject_context_into_carrier({})["baggage"]

    with with_distributed_trace_context(CARRIER, tracer):
        assert asyncio.run(work()).startswith("session_id=theirs,")
    assert only_span_of(tracer).parent_id == SPAN_ID


def test_copy_context_carries_it_to_a_thread(tracer: Tracer) -> None:
    with with_distributed_trace_context(CARRIER, tracer):
        context = contextvars.copy_context()

        def work() -> None:
            with tracer.start_span("thread"):
                pass

        thread = threading.Thread(target=context.run, args=(work,))
        thread.start()
        thread.join()
    assert (only_span_of(tracer).session, only_span_of(tracer).parent_id) == ("theirs", SPAN_ID)


def test_a_local_span_that_is_in_the_trace_already_stays_the_parent(tracer: Tracer) -> None:
    """A framework's instrumentor extracted first."""
    otel = tracer.provider.get_tracer("flask")
    context = TracebatonPropagator().extract(CARRIER)
    with otel.start_as_current_span("server", context=context):
        with with_distributed_trace_context(CARRIER, tracer), tracer.start_span("work"):
            pass
    spans = by_name(spans_of(tracer))
    assert spans["server"].parent_id == SPAN_ID
    assert spans["work"].parent_id == spans["server"].span_id
    assert spans["work"].trace_id == TRACE_ID
    assert spans["work"].session == "theirs"


def test_a_local_span_of_another_trace_gives_way_to_the_remote_one(tracer: Tracer) -> None:
    with tracer.start_span("local"), with_distributed_trace_context(CARRIER, tracer), tracer.start_span("work"):
        pass
    work = by_name(spans_of(tracer))["work"]
    assert (work.trace_id, work.parent_id) == (TRACE_ID, SPAN_ID)


def test_a_local_span_stays_the_parent_if_no_trace_comes(tracer: Tracer) -> None:
    with tracer.start_span("local"), with_distributed_trace_context({"baggage": "session_id=theirs"}, tracer):
        with tracer.start_span("work"):
            pass
    spans = by_name(spans_of(tracer))
    assert spans["work"].parent_id == spans["local"].span_id
    assert (spans["work"].session, spans["local"].session) == ("theirs", "own")


def test_an_older_remote_span_of_the_same_trace_gives_way(tracer: Tracer) -> None:
    newer = {"traceparent": CALLER.replace("b7ad", "c8be")}
    with with_distributed_trace_context(CARRIER, tracer), with_distributed_trace_context(newer, tracer):
        with tracer.start_span("work"):
            pass
    assert only_span_of(tracer).parent_id == "c8be6b7169203331"


@pytest.mark.parametrize("wrong", [5, b"s", ["s"], True], ids=repr)
def test_a_session_of_another_type_is_a_type_error(tracer: Tracer, wrong: Any) -> None:
    with pytest.raises(TypeError, match="session_id"):
        with_distributed_trace_context({}, tracer, session_id=wrong)


@pytest.mark.parametrize("wrong", [5, "ignore", ["ignore"]], ids=repr)
def test_a_policy_of_another_type_is_a_type_error(tracer: Tracer, wrong: Any) -> None:
    with pytest.raises(TypeError, match="policy"):
        with_distributed_trace_context({}, tracer, policy=wrong)


def test_a_session_that_is_too_long_is_a_value_error_and_changes_nothing(tracer: Tracer) -> None:
    ran = []
    with pytest.raises(ValueError, match="session_id"), with_distributed_trace_context({}, session_id="x" * 257):
        ran.append(1)
    assert ran == []
    assert otel_context.get_current() == {}


def test_an_empty_session_is_none_given(tracer: Tracer) -> None:
    with with_distributed_trace_context(CARRIER, tracer, session_id=""), tracer.start_span("s"):
        pass
    assert only_span_of(tracer).session == "theirs"


RESTART: list[Any] = [Policy(inbound="restart"), {"inbound": "restart"}]
IGNORE: list[Any] = [Policy(inbound="ignore"), {"inbound": "ignore"}]


@pytest.mark.parametrize("policy", RESTART, ids=["object", "dict"])
@pytest.mark.parametrize("where", ["call", "tracer"])
def test_restart(make_tracer: Make, policy: Any, where: str) -> None:
    tracer = make_tracer(policy=policy if where == "tracer" else None)
    with with_distributed_trace_context(CARRIER, tracer, policy=policy if where == "call" else None):
        with tracer.start_span("outer"), tracer.start_span("inner"):
            headers = inject_context_into_carrier({})
    spans = by_name(spans_of(tracer))
    outer, inner = spans["outer"], spans["inner"]
    assert outer.trace_id == inner.trace_id != TRACE_ID
    assert (outer.parent_id, outer.trace_state) == ("", "")
    assert [(link.trace_id, link.span_id, link.trace_state) for link in outer.links] == [(TRACE_ID, SPAN_ID, "a=1")]
    assert inner.links == []
    assert (outer.session, outer.project) == ("theirs", "theirs")
    assert "tracestate" not in headers
    assert headers["baggage"] == "session_id=theirs,project=theirs,source=dev,k=v"


@pytest.mark.parametrize("policy", IGNORE, ids=["object", "dict"])
@pytest.mark.parametrize("where", ["call", "tracer"])
def test_ignore(make_tracer: Make, policy: Any, where: str) -> None:
    tracer = make_tracer(policy=policy if where == "tracer" else None)
    with with_distributed_trace_context(CARRIER, tracer, policy=policy if where == "call" else None):
        assert baggage.get_all() == {}
        with tracer.start_span("s"):
            headers = inject_context_into_carrier({})
    span = only_span_of(tracer)
    assert (span.parent_id, span.session, span.project, span.links) == ("", "own", "shop", [])
    assert TRACE_ID not in str(headers)
    assert headers["baggage"] == "session_id=own,project=shop,source=dev"


def test_restart_after_somebody_has_read_the_headers(tracer: Tracer) -> None:
    """A middleware that attached the caller's span does not undo the policy."""
    token = otel_context.attach(TracebatonPropagator().extract(CARRIER))
    with with_distributed_trace_context(CARRIER, tracer, policy={"inbound": "restart"}), tracer.start_span("s"):
        pass
    otel_context.detach(token)
    span = only_span_of(tracer)
    assert span.trace_id != TRACE_ID
    assert span.parent_id == ""
    assert [link.trace_id for link in span.links] == [TRACE_ID]
    assert span.session == "theirs"


def test_the_calls_policy_wins_over_the_tracers(make_tracer: Make) -> None:
    tracer = make_tracer(policy={"inbound": "ignore"})
    with with_distributed_trace_context(CARRIER, tracer, policy={"inbound": "continue"}), tracer.start_span("s"):
        pass
    assert (only_span_of(tracer).trace_id, only_span_of(tracer).session) == (TRACE_ID, "theirs")


@pytest.mark.parametrize("as_dict", [True, False])
def test_sessions_and_projects_that_are_not_accepted(tracer: Tracer, as_dict: bool) -> None:
    keywords: dict[str, Any] = {"accept_session": False, "accept_project": False}
    with with_distributed_trace_context(CARRIER, tracer, policy=keywords if as_dict else Policy(**keywords)):
        with tracer.start_span("s"):
            headers = inject_context_into_carrier({})
    span = only_span_of(tracer)
    assert (span.trace_id, span.session, span.project) == (TRACE_ID, "own", "shop")
    assert headers["baggage"] == "session_id=own,project=shop,source=dev,k=v"


def test_an_explicit_session_wins_over_a_policy(tracer: Tracer) -> None:
    with with_distributed_trace_context(CARRIER, tracer, session_id="mine", policy={"inbound": "ignore"}):
        with tracer.start_span("s"):
            pass
    assert (only_span_of(tracer).session, only_span_of(tracer).parent_id) == ("mine", "")


def test_policies_compare_and_show_themselves() -> None:
    policy = Policy(inbound="restart", propagate_to=["*.example.com"])
    assert policy == Policy(inbound="restart", propagate_to=["*.example.com"])
    assert policy != Policy()
    assert (policy.inbound, policy.accept_session, policy.propagate_to) == ("restart", True, ("*.example.com",))
    assert (Policy().max_members, Policy().max_bytes, Policy().baggage_attributes) == (180, 8_192, ())
    assert "restart" in repr(policy)
    with pytest.raises(AttributeError):
        policy.inbound = "ignore"  # type: ignore[misc]


def test_one_block_object_used_twice(tracer: Tracer) -> None:
    block = with_distributed_trace_context(CARRIER, tracer)
    for _ in range(2):
        with block, tracer.start_span("s"):
            pass
        assert otel_context.get_current() == {}
    assert {span.session for span in spans_of(tracer)} == {"theirs"}


@pytest.mark.parametrize(
    "block",
    [
        lambda tracer: with_distributed_trace_context(CARRIER, tracer),
        lambda tracer: enrich_span_context("never left", tracer=tracer),
    ],
    ids=["of a caller", "with a span"],
)
def test_a_block_that_is_never_left_is_garbage(tracer: Tracer, block: Callable[[Tracer], Any]) -> None:
    def enter() -> weakref.ref[Context]:
        block(tracer).__enter__()
        return weakref.ref(otel_context.get_current())

    left = contextvars.copy_context().run(enter)
    gc.collect()
    assert left() is None
