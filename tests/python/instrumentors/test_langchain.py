"""OpenInference's instrumentor of LangChain: chains of runnables around a model that is none."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from instrumented import Instrument, sessions, tree
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from openinference.instrumentation.langchain import LangChainInstrumentor
from recorded import by_name, spans_of
from tracebaton import Tracer, enrich_span, trace

CHAIN = ["RunnableSequence", "  ChatPromptTemplate", "  GenericFakeChatModel", "  StrOutputParser"]


def under(name: str, lines: list[str]) -> list[str]:
    return [name, *(f"  {line}" for line in lines)]


@pytest.fixture
def chain() -> Runnable[Any, str]:
    model = GenericFakeChatModel(messages=itertools.repeat(AIMessage("two words")))
    return ChatPromptTemplate.from_messages([("user", "Say {what}")]) | model | StrOutputParser()


def test_a_chain(instrument: Instrument, tracer: Tracer, chain: Runnable[Any, str]) -> None:
    @trace(event_name="answer", event_type="chain")
    def answer() -> str:
        return chain.invoke({"what": "something"})

    with instrument(LangChainInstrumentor()):
        assert answer() == "two words"
    spans = spans_of(tracer)
    assert tree(spans) == under("answer", CHAIN)
    assert sessions(spans) == {"the session"}
    kinds = {span.name: span.attributes["honeyhive_event_type"] for span in spans}
    assert kinds["GenericFakeChatModel"] == "model"
    assert kinds["RunnableSequence"] == "chain"
    assert {span.status for span in spans if span.name != "answer"} == {1}


def test_a_stream(instrument: Instrument, tracer: Tracer, chain: Runnable[Any, str]) -> None:
    with instrument(LangChainInstrumentor()), tracer.start_span("answer"):
        assert "".join(chain.stream({"what": "something"})) == "two words"
    spans = spans_of(tracer)
    assert tree(spans) == under("answer", CHAIN)
    assert by_name(spans)["GenericFakeChatModel"].attributes["honeyhive_event_type"] == "model"


def test_async_and_batch(instrument: Instrument, tracer: Tracer, chain: Runnable[Any, str]) -> None:
    async def main() -> None:
        async with tracer.start_span("answer"):
            await chain.ainvoke({"what": "something"})
            async for _ in chain.astream({"what": "something"}):
                pass

    with instrument(LangChainInstrumentor()):
        asyncio.run(main())
        with tracer.start_span("batch"):
            # On threads of LangChain's own.
            chain.batch([{"what": "one"}, {"what": "two"}])
    spans = spans_of(tracer)
    lines = tree(spans)
    assert lines[:9] == under("answer", CHAIN * 2)
    assert lines[9] == "batch"
    assert sorted(lines[10:]) == sorted(f"  {line}" for line in CHAIN * 2)
    assert sessions(spans) == {"the session"}


def test_parallel_branches_and_functions_of_ones_own(instrument: Instrument, tracer: Tracer) -> None:
    """What user code records inside a step is under the step where LangChain runs it in its context."""

    @trace(event_name="mine")
    def mine(text: str) -> str:
        assert enrich_span(metadata={"seen": text})
        return text.upper()

    branches = RunnableParallel(left=RunnableLambda(mine, name="left"), right=RunnableLambda(len, name="right"))
    with instrument(LangChainInstrumentor()), tracer.start_span("answer"):
        assert branches.invoke("abc") == {"left": "ABC", "right": 3}
    spans = spans_of(tracer)
    named = by_name(spans)
    assert named["left"].parent_id == named["right"].parent_id == named["RunnableParallel<left,right>"].span_id
    assert named["RunnableParallel<left,right>"].parent_id == named["answer"].span_id
    assert named["mine"].trace_id == named["answer"].trace_id
    assert named["mine"].under("metadata") == {"seen": "abc"}
    assert sessions(spans) == {"the session"}


def test_a_tool_and_an_error(instrument: Instrument, tracer: Tracer) -> None:
    @tool
    def divide(a: int, b: int) -> float:
        """Divides."""
        return a / b

    with instrument(LangChainInstrumentor()), tracer.start_span("answer"):
        assert divide.invoke({"a": 1, "b": 2}) == 0.5
        with pytest.raises(ZeroDivisionError):
            divide.invoke({"a": 1, "b": 0})
    spans = spans_of(tracer)
    assert tree(spans) == ["answer", "  divide", "  divide"]
    good, bad = (span for span in spans if span.name == "divide")
    assert (good.status, good.exceptions) == (1, [])
    assert (bad.status, len(bad.exceptions)) == (2, 1)
    assert good.attributes["honeyhive_event_type"] == "tool"
