"""OpenInference's instrumentor of the `openai` client, which asks a server on the loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from instrumented import Instrument, sessions, tree
from openai_standin import openai_standin
from openinference.instrumentation import TraceConfig
from openinference.instrumentation.openai import OpenAIInstrumentor
from recorded import Recorded, by_name, only_span_of, spans_of
from tracebaton import Tracer, trace

ASK: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with openai_standin() as url:
        yield url


def check_llm(span: Recorded) -> None:
    assert span.name == "ChatCompletion"
    assert span.attributes["honeyhive_event_type"] == "model"
    assert span.attributes["llm.model_name"] == "gpt-4o-mini"
    assert span.attributes["llm.output_messages.0.message.content"] == "Hello there"
    assert span.attributes["honeyhive.session_id"] == "the session"
    assert (span.status, span.exceptions) == (1, [])


def test_a_completion(instrument: Instrument, tracer: Tracer, url: str) -> None:
    @trace(event_name="answer", event_type="chain")
    def answer() -> str:
        client = openai.OpenAI(base_url=url, api_key="none")
        return str(client.chat.completions.create(**ASK).choices[0].message.content)

    with instrument(OpenAIInstrumentor()):
        assert answer() == "Hello there"
    spans = spans_of(tracer)
    assert tree(spans) == ["answer", "  ChatCompletion"]
    assert sessions(spans) == {"the session"}
    check_llm(by_name(spans)["ChatCompletion"])
    assert by_name(spans)["ChatCompletion"].attributes["llm.token_count.total"] == 5


def test_a_stream(instrument: Instrument, tracer: Tracer, url: str) -> None:
    with instrument(OpenAIInstrumentor()), tracer.start_span("answer"):
        stream = openai.OpenAI(base_url=url, api_key="none").chat.completions.create(stream=True, **ASK)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == "Hello there"
    spans = spans_of(tracer)
    assert tree(spans) == ["answer", "  ChatCompletion"]
    check_llm(by_name(spans)["ChatCompletion"])


def test_a_stream_that_is_read_after_the_block(instrument: Instrument, tracer: Tracer, url: str) -> None:
    with instrument(OpenAIInstrumentor()):
        with tracer.start_span("answer"):
            stream = openai.OpenAI(base_url=url, api_key="none").chat.completions.create(stream=True, **ASK)
        assert [span.name for span in spans_of(tracer)] == ["answer"]
        list(stream)
    spans = spans_of(tracer)
    assert tree(spans) == ["answer", "  ChatCompletion"]
    check_llm(by_name(spans)["ChatCompletion"])


def test_async_calls_at_the_same_time(instrument: Instrument, tracer: Tracer, url: str) -> None:
    async def ask(client: openai.AsyncOpenAI, name: str) -> None:
        async with tracer.start_span(name):
            stream = await client.chat.completions.create(stream=True, **ASK)
            async for _ in stream:
                pass
            await client.chat.completions.create(**ASK)

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=url, api_key="none") as client, tracer.start_span("both"):
            await asyncio.gather(ask(client, "first"), ask(client, "second"))

    with instrument(OpenAIInstrumentor()):
        asyncio.run(main())
    spans = spans_of(tracer)
    asked = ["    ChatCompletion"] * 2
    assert tree(spans) == ["both", "  first", *asked, "  second", *asked]
    for span in spans:
        if span.name == "ChatCompletion":
            check_llm(span)


def test_an_error(instrument: Instrument, tracer: Tracer, url: str) -> None:
    wrong = {**ASK, "messages": [{"role": "user", "content": "fail"}]}
    with instrument(OpenAIInstrumentor()), pytest.raises(openai.BadRequestError):
        openai.OpenAI(base_url=url, api_key="none", max_retries=0).chat.completions.create(**wrong)
    span = only_span_of(tracer)
    assert (span.name, span.status, len(span.exceptions)) == ("ChatCompletion", 2, 1)
    assert span.exceptions[0].attributes["exception.type"] == "openai.BadRequestError"
    assert span.session == "the session"


def test_attributes_of_both_conventions(instrument: Instrument, tracer: Tracer, url: str) -> None:
    """OpenInference reads `span._attributes` for this, at the end of the span."""
    with instrument(OpenAIInstrumentor(), config=TraceConfig(enable_genai_semconv=True)):
        openai.OpenAI(base_url=url, api_key="none").chat.completions.create(**ASK)
    span = only_span_of(tracer)
    check_llm(span)
    assert span.attributes["gen_ai.request.model"] == "gpt-4o-mini"
    assert span.attributes["gen_ai.usage.input_tokens"] == 3
