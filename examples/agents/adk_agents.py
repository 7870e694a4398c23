"""The two Google ADK agents of the demo, and how to ask one of them a question.

Nothing here knows about tracing: `GoogleADKInstrumentor` sees to that from outside.
"""

from __future__ import annotations

import os

from google.adk.agents import LlmAgent
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService
from google.genai import types

APP_NAME = "agents_demo"
USER_ID = "demo-user"
# Override with the environment variable when another model is wanted.
MODEL = os.environ.get("DEMO_GEMINI_MODEL", "gemini-2.5-flash")

_FACTS = {
    "tides": "The Bay of Fundy has the highest tides on Earth: up to 16 metres between low and high water.",
    "volcanoes": "About 1,350 volcanoes on land are potentially active; some 40 of them erupt in an average month.",
}


def look_up_fact(topic: str) -> dict[str, str]:
    """Looks a topic up in a small reference work.

    Args:
        topic: One word: the topic to look up.
    """
    fact = _FACTS.get(topic.strip().lower())
    if fact is None:
        return {"status": "not found", "known_topics": ", ".join(sorted(_FACTS))}
    return {"status": "found", "fact": fact}


def research_agent() -> LlmAgent:
    """The remote agent. It has one tool."""
    return LlmAgent(
        name="research_agent",
        model=MODEL,
        description="Finds facts.",
        instruction="Look the topic of the question up with look_up_fact, then answer in one sentence.",
        tools=[look_up_fact],
    )


def analysis_agent() -> LlmAgent:
    """The local agent. It has no tools."""
    return LlmAgent(
        name="analysis_agent",
        model=MODEL,
        description="Judges findings.",
        instruction="Say in one sentence what the findings mean for the question.",
    )


async def ask(agent: LlmAgent, sessions: InMemorySessionService, session_id: str, text: str) -> str:
    """Runs one turn of `agent` in the ADK session `session_id` and returns its final answer.

    The session is created at the first turn; later turns see the earlier ones. Give a fresh agent for each call: its
    HTTP client belongs to the event loop of the call.
    """
    runner = Runner(app_name=APP_NAME, agent=agent, session_service=sessions)
    where = {"app_name": APP_NAME, "user_id": USER_ID, "session_id": session_id}
    if await sessions.get_session(**where) is None:
        await sessions.create_session(**where)
    answer = ""
    message = types.Content(role="user", parts=[types.Part(text=text)])
    try:
        async for event in runner.run_async(user_id=USER_ID, session_id=session_id, new_message=message):
            if event.is_final_response() and event.content and event.content.parts:
                answer = "".join(part.text or "" for part in event.content.parts)
    finally:
        await runner.close()
    return answer
