"""Instrumentors on a provider that records nothing: requests are served, and the context goes on."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import fastapi
import flask
import httpx
import openai
import pytest
import requests
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from openai_standin import openai_standin
from openinference.instrumentation.langchain import LangChainInstrumentor
from openinference.instrumentation.openai import OpenAIInstrumentor
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from recorded import spans_of
from serving import serving_asgi, serving_wsgi
from tracebaton import Tracer, inject_context_into_carrier, trace, with_distributed_trace_context

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
NOT_SAMPLED = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-00", "baggage": "session_id=theirs,k=v"}


@pytest.fixture(params=["always_off", "disabled", "shut down"])
def tracer(request: pytest.FixtureRequest, make_tracer: Callable[..., Tracer]) -> Tracer:
    kind: str = request.param
    if kind == "always_off":
        return make_tracer(sampler="always_off")
    if kind == "disabled":
        return make_tracer(disable_tracing=True)
    tracer = make_tracer(sampler="always_off")
    tracer.shutdown(0)
    return tracer


def test_servers_and_clients(tracer: Tracer) -> None:
    @trace(event_name="step", tracer=tracer)
    def step() -> dict[str, str]:
        return inject_context_into_carrier({}, tracer)

    last = fastapi.FastAPI()

    @last.get("/agent")
    async def agent(request: fastapi.Request) -> dict[str, str]:
        async with with_distributed_trace_context(request.headers, tracer):
            return step()

    first = flask.Flask("shop")

    @first.get("/agent")
    def ask() -> Any:
        with with_distributed_trace_context(flask.request.headers, tracer):
            headers = inject_context_into_carrier({}, tracer)
            return requests.get(f"{last_url}/agent", headers=headers, timeout=20).json()

    FlaskInstrumentor().instrument_app(first, tracer_provider=tracer.provider)
    FastAPIInstrumentor.instrument_app(last, tracer_provider=tracer.provider)
    RequestsInstrumentor().instrument(tracer_provider=tracer.provider)
    try:
        with serving_asgi(last) as last_url, serving_wsgi(first) as url:
            answer = httpx.get(f"{url}/agent", headers=NOT_SAMPLED, timeout=20, trust_env=False)
    finally:
        RequestsInstrumentor().uninstrument()
    assert answer.status_code == 200
    sent = answer.json()
    assert sent["traceparent"].startswith(f"00-{TRACE_ID}-")
    assert sent["traceparent"].endswith("-00")
    # One that is disabled adds nothing of its own.
    ours = "project=shop,source=dev," if tracer._core.enabled else ""
    assert sent["baggage"] == f"session_id=theirs,{ours}k=v"
    assert spans_of(tracer) == []


def test_models(tracer: Tracer) -> None:
    OpenAIInstrumentor().instrument(tracer_provider=tracer.provider)
    LangChainInstrumentor().instrument(tracer_provider=tracer.provider)
    try:
        with openai_standin() as url, tracer.start_span("answer"):
            chat = openai.OpenAI(base_url=url, api_key="none").chat.completions
            asked: Any = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}
            assert chat.create(**asked).choices[0].message.content == "Hello there"
            assert len(list(chat.create(stream=True, **asked))) == 2
            model = GenericFakeChatModel(messages=itertools.repeat(AIMessage("words")))
            assert model.invoke("Hi").content == "words"
    finally:
        OpenAIInstrumentor().uninstrument()
        LangChainInstrumentor().uninstrument()
    assert spans_of(tracer) == []
