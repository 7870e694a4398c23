"""A session for every request of a web application, as HoneyHive's documentation has it: one tracer for all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from tracebaton import HoneyHiveTracer, trace

tracer = HoneyHiveTracer.init(project="sessions-example", source="web")
app = FastAPI()


@app.middleware("http")
async def session_per_request(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Begins a session, and says at the end what came of it."""
    async with tracer.with_session(f"{request.method} {request.url.path}", inputs={"path": request.url.path}):
        response = await call_next(request)
        tracer.enrich_session(outputs={"status_code": response.status_code})
        return response


@trace(event_type="model", event_name="answer")
async def answer(question: str) -> str:
    """The work that is traced."""
    return f"{len(question)} characters"


@app.get("/answer")
async def route(question: str) -> dict[str, str]:
    """Answers a question."""
    return {"answer": await answer(question)}


@app.get("/created")
async def created(question: str) -> dict[str, str]:
    """The same in a session of its own, that holds until the request ends."""
    session_id = await tracer.acreate_session(session_name="created")
    return {"answer": await answer(question), "session_id": session_id}
