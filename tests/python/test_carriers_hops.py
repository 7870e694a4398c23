"""Carriers that are no HTTP headers, over real hops: gRPC metadata, mail, a subprocess's environment, a queue."""

from __future__ import annotations

import asyncio
import email
import email.message
import email.policy
import json
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio
import hops
import pytest
from hops import check, handled
from programs import output
from recorded import only_span_of
from tracebaton import Tracer, inject_context_into_carrier, set_default_tracer

client, server = hops.client, hops.server


# gRPC: bytes in, bytes out, and metadata as headers.


def grpc_handler(method: Any) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler("shop", {"Answer": grpc.unary_unary_rpc_method_handler(method)})


def grpc_metadata(client: Tracer, shape: str) -> Any:
    if shape == "list":
        return inject_context_into_carrier([("accept", "x")], client)
    if shape == "aio.Metadata":
        return inject_context_into_carrier(grpc.aio.Metadata(("accept", "x")), client)
    return list(inject_context_into_carrier({"accept": "x"}, client).items())


@pytest.mark.parametrize("shape", ["list", "dict"])
def test_grpc_metadata(client: Tracer, server: Tracer, shape: str) -> None:
    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        return handled(context.invocation_metadata(), server)

    serving_grpc = grpc.server(ThreadPoolExecutor(2), handlers=[grpc_handler(answer)])
    port = serving_grpc.add_insecure_port("127.0.0.1:0")
    serving_grpc.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, client.start_span("call"):
            call = channel.unary_unary("/shop/Answer")
            next_hop = json.loads(call(b"", metadata=grpc_metadata(client, shape), timeout=20))
    finally:
        serving_grpc.stop(None).wait()
    sent = only_span_of(client)
    check(only_span_of(server), trace_id=sent.trace_id, parent_id=sent.span_id, next_hop=next_hop)


@pytest.mark.parametrize("shape", ["list", "dict", "aio.Metadata"])
def test_grpc_aio_metadata(client: Tracer, server: Tracer, shape: str) -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        return handled(context.invocation_metadata(), server)

    async def program() -> Any:
        serving_grpc = grpc.aio.server(handlers=[grpc_handler(answer)])
        port = serving_grpc.add_insecure_port("127.0.0.1:0")
        await serving_grpc.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel, client.start_span("call"):
                call = channel.unary_unary("/shop/Answer")
                return json.loads(await call(b"", metadata=grpc_metadata(client, shape), timeout=20))
        finally:
            await serving_grpc.stop(None)

    next_hop = asyncio.run(program())
    sent = only_span_of(client)
    check(only_span_of(server), trace_id=sent.trace_id, parent_id=sent.span_id, next_hop=next_hop)


@pytest.mark.parametrize("policy", [email.policy.compat32, email.policy.default, email.policy.SMTP])
def test_a_mail(client: Tracer, server: Tracer, policy: Any) -> None:
    kind = email.message.Message if policy is email.policy.compat32 else email.message.EmailMessage
    mail = kind(policy)
    mail["Subject"] = "hello"
    with client.start_span("send"):
        inject_context_into_carrier(mail, client)
    received = email.message_from_bytes(mail.as_bytes(), policy=policy)
    next_hop = json.loads(handled(received, server))
    sent = only_span_of(client)
    check(only_span_of(server), trace_id=sent.trace_id, parent_id=sent.span_id, next_hop=next_hop)
    with client.start_span("send again"):
        inject_context_into_carrier(mail, client)
    assert len(mail.get_all("traceparent", [])) == len(mail.get_all("baggage", [])) == 1


def test_the_environment_of_a_subprocess(client: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
import json, os, tracebaton
tracer = tracebaton.Tracer.init(exporter="memory", source="child")
with tracebaton.with_distributed_trace_context(os.environ), tracer.start_span("child"):
    headers = tracebaton.inject_context_into_carrier({})
(span,) = tracer._core.memory()
print(json.dumps([json.loads(span), headers]))
"""
    with client.start_span("parent"):
        environment = inject_context_into_carrier({**os.environ, "TRACESTATE": "old=1"}, client)
        span, headers = json.loads(output(code, environment))
    sent = only_span_of(client)
    assert (span["traceId"], span["parentSpanId"]) == (sent.trace_id, sent.span_id)
    assert headers["baggage"].startswith("session_id=the%20session,project=the%20project,source=child")


async def test_bytes_and_pairs_of_a_queue(client: Tracer, server: Tracer) -> None:
    """What message brokers have for headers: lists of a `str` and `bytes`."""

    async def messages() -> AsyncIterator[list[tuple[str, bytes]]]:
        with client.start_span("send"):
            sent = inject_context_into_carrier({}, client)
        yield [(name, value.encode()) for name, value in sent.items()]

    async for headers in messages():
        next_hop = json.loads(handled(headers, server))
    sent = only_span_of(client)
    check(only_span_of(server), trace_id=sent.trace_id, parent_id=sent.span_id, next_hop=next_hop)


def test_bytes_are_written_where_bytes_are(client: Tracer) -> None:
    set_default_tracer(client)
    with client.start_span("send"):
        headers: list[tuple[bytes, bytes]] = inject_context_into_carrier([(b"accept", b"x")])
    assert {type(part) for pair in headers for part in pair} == {bytes}
    assert {name for name, _ in headers} == {b"accept", b"traceparent", b"baggage"}
