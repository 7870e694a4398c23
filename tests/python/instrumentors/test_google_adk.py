"""OpenInference's instrumentor of Google's ADK: an agent with a tool, around a model that is none."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

pytest.importorskip("google.adk", reason="google-adk is not installed with these packages")

from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.runners import InMemoryRunner
from google.genai import types
from instrumented import Instrument, sessions, tree
from openinference.instrumentation.google_adk import GoogleADKInstrumentor
from recorded import spans_of
from tracebaton import Tracer, enrich_span, trace, with_distributed_trace_context

RUN = [
    "invocation [shop]",
    "  agent_run [assistant]",
    "    call_llm",
    "    execute_tool weather",
    "      look up",
    "    call_llm",
]


class Scripted(BaseLlm):
    """Asks for the tool, then answers with what it said."""

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        last = llm_request.contents[-1].parts[-1]
        if last.function_response is None:
            call = types.FunctionCall(name="weather", args={"city": "Paris"})
            part = types.Part(function_call=call)
        else:
            part = types.Part(text=f"It is {last.function_response.response['sky']}")
        usage = types.GenerateContentResponseUsageMetadata(prompt_token_count=3, candidates_token_count=2)
        yield LlmResponse(content=types.Content(role="model", parts=[part]), usage_metadata=usage)


def weather(city: str) -> dict[str, str]:
    """The weather in a city."""

    @trace(event_name="look up", event_type="tool")
    def look_up() -> str:
        assert enrich_span(metadata={"city": city})
        return "blue"

    return {"sky": look_up()}


async def ask() -> str:
    agent = LlmAgent(name="assistant", model=Scripted(model="scripted"), tools=[weather])
    runner = InMemoryRunner(agent, app_name="shop")
    session = await runner.session_service.create_session(app_name="shop", user_id="u")
    message = types.Content(role="user", parts=[types.Part(text="The weather in Paris?")])
    texts = []
    async for event in runner.run_async(user_id="u", session_id=session.id, new_message=message):
        texts += [part.text for part in (event.content.parts if event.content else []) if part.text]
    await runner.close()
    return texts[-1]


async def test_an_agent_with_a_tool(instrument: Instrument, tracer: Tracer) -> None:
    with instrument(GoogleADKInstrumentor()):
        async with tracer.start_span("question"):
            assert await ask() == "It is blue"
    spans = spans_of(tracer)
    assert tree(spans) == ["question", *("  " + line for line in RUN)]
    assert sessions(spans) == {"the session"}
    kinds = {span.name: span.attributes["honeyhive_event_type"] for span in spans}
    assert kinds["call_llm"] == "model"
    assert kinds["agent_run [assistant]"] == "chain"
    assert kinds["execute_tool weather"] == kinds["look up"] == "tool"
    assert {span.status for span in spans if span.name not in ("question", "look up")} == {1}
    (looked_up,) = (span for span in spans if span.name == "look up")
    assert looked_up.under("metadata") == {"city": "Paris"}
    # The conversation's session is ADK's own affair, which the instrumentor writes where no one else does.
    assert "session.id" in looked_up.attributes


async def test_an_agent_in_a_callers_context(instrument: Instrument, tracer: Tracer) -> None:
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with instrument(GoogleADKInstrumentor()):
        async with with_distributed_trace_context({"traceparent": caller, "baggage": "session_id=theirs"}, tracer):
            await ask()
    spans = spans_of(tracer)
    assert tree(spans) == ["? " + RUN[0], *RUN[1:]]
    assert sessions(spans) == {"theirs"}
    assert {span.trace_id for span in spans} == {caller[3:35]}
