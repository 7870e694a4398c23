"""Middleware for WSGI and ASGI: every request goes on in its caller's trace and session, with a span of its own.

    app.wsgi_app = WsgiMiddleware(app.wsgi_app, tracer)     # Flask
    app.add_middleware(AsgiMiddleware, tracer=tracer)       # FastAPI, Starlette
    application = WsgiMiddleware(get_wsgi_application())    # Django

What a request leaves current, such as the session of `create_session()`, ends with the request: a thread of a pool
never hands it to the next one. What the application raises goes on unchanged, and nothing of ours fails a request.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from types import TracebackType
from typing import Any

from opentelemetry.context.context import Context
from opentelemetry.trace import SpanKind

from tracebaton import _native
from tracebaton._context import SCOPE_KEY, Block, current, derived, set_current
from tracebaton._http import authority, known_method, set_status
from tracebaton._native import Policy
from tracebaton._propagation import as_policy
from tracebaton._registry import EXIT_SECONDS, choose, flush
from tracebaton._span import SPAN_KEY
from tracebaton._tracer import Tracer, with_session

_Environ = dict[str, Any]
_WsgiApp = Callable[..., Iterable[bytes]]
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]


class Middleware:
    """What both kinds have in common."""

    def __init__(
        self,
        app: Any,
        tracer: Tracer | None = None,
        *,
        policy: Policy | Mapping[str, Any] | None = None,
        spans: bool = True,
        sessions: bool = False,
    ) -> None:
        if tracer is not None:
            choose(tracer)
        for name, flag in (("spans", spans), ("sessions", sessions)):
            if not isinstance(flag, bool):
                raise TypeError(f"{name} must be a bool, not {type(flag).__name__}")
        self.app = app
        self._tracer = tracer
        self._policy = as_policy(policy)
        self._spans = spans
        self._sessions = sessions

    def _request(
        self, carrier: object, name: str, attributes: Callable[[], dict[str, Any]], route: Callable[[], str | None]
    ) -> _Request | None:
        """A request's block, entered; none where there is no tracer, or where something of ours goes wrong."""
        try:
            tracer = choose(self._tracer)
            if tracer is None:
                return None
            request = _Request(tracer, name, route)
            base = _native.extract(current(), carrier, tracer._core, self._policy)
            scope: Any = base.get(SCOPE_KEY)
            if self._sessions and (scope is None or scope.session_for(tracer._core) is None):
                base = with_session(base, tracer, str(uuid.uuid4()))
            request.enter(base, _guarded(attributes) if self._spans else None)
            return request
        except Exception:
            _native.report("a request could not be traced")
            return None


def _guarded(attributes: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return attributes()
    except Exception:
        _native.report("what a request says of itself could not be recorded")
        return {}


class _Request(Block):
    """The block of a request: in the caller's trace and session, with a span if one is wanted."""

    __slots__ = ("_has_span", "_name", "_resumed", "_route")

    def __init__(self, tracer: Tracer, name: str, route: Callable[[], str | None]) -> None:
        self.tracer = tracer
        self._name = name
        self._route = route
        self._has_span = False
        """Whether there is a span of its own that has not ended."""

    def enter(self, base: Any, attributes: dict[str, Any] | None) -> None:
        span = base.get(SPAN_KEY)
        if attributes is not None and self.tracer is not None:
            span = self.tracer._otel_tracer.start_span(self._name, base, SpanKind.SERVER, attributes)
            self._has_span = True
        self.span = span
        self._enter(derived(base, SPAN_KEY, span) if self._has_span else Context(base), current())

    def status(self, status: object) -> None:
        """The response begins: takes note of its status, and of the route, which frameworks forget afterwards."""
        if not self._has_span:
            return
        try:
            route = self._route()
            if route:
                self.span.set_attribute("http.route", route)
                self.span.update_name(f"{self._name} {route}")
            set_status(self.span, int(str(status)[:3]), 500)
        except Exception:
            _native.report("the beginning of a response could not be recorded")

    def pause(self) -> None:
        """Leaves the block: what runs next is the server's."""
        self._resumed = current()
        self._leave()

    def resume(self) -> None:
        """Enters it again, perhaps in another thread, with what the application left current."""
        self._previous = current()
        self._context = self._resumed
        set_current(self._context)

    def end(self, error: BaseException | None = None) -> None:
        """Ends the span, with what left the application, if anything did."""
        if not self._has_span:
            return
        self._has_span = False
        try:
            if error is not None:
                self.span.fail(error)
            self.span.end()
        except Exception:
            _native.report("the end of a request could not be recorded")


class WsgiMiddleware(Middleware):
    """A WSGI application around another one.

    `tracer`: the one that is meant where the request comes in, unless one is given. `policy` overrides the tracer's.
    Each request has a SERVER span, of event type `chain`, until its response is read; not with `spans=False`. With
    `sessions=True` a request whose caller sent no session has one of its own.
    """

    app: _WsgiApp

    def __call__(self, environ: _Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Handles a request."""
        request = self._request(
            environ, _wsgi_method(environ), lambda: _wsgi_attributes(environ), lambda: _wsgi_route(environ)
        )
        if request is None:
            return self.app(environ, start_response)

        def start(status: str, headers: Any, *exc_info: Any) -> Any:
            request.status(status)
            return start_response(status, headers, *exc_info)

        try:
            body = self.app(environ, start)
        except BaseException as error:
            request._leave()
            request.end(error)
            raise
        request.pause()
        wrapper = environ.get("wsgi.file_wrapper")
        if isinstance(body, (list, tuple)) or (isinstance(wrapper, type) and isinstance(body, wrapper)):
            # It is all there, and servers do more for these: they know the length, or have the system send the file.
            request.end()
            return body
        return _Body(body, request)


class _Body:
    """The parts of a response, made in the request's block."""

    def __init__(self, parts: Iterable[bytes], request: _Request) -> None:
        self._parts = parts
        self._iterator: Iterator[bytes] | None = None
        self._request = request

    def __iter__(self) -> _Body:
        return self

    def __next__(self) -> bytes:
        request = self._request
        request.resume()
        try:
            if self._iterator is None:
                self._iterator = iter(self._parts)
            part = next(self._iterator)
        except BaseException as error:
            request._leave()
            request.end(None if isinstance(error, StopIteration) else error)
            raise
        request.pause()
        return part

    def close(self) -> None:
        """Called by the server when it is done with the response, which may be early."""
        request = self._request
        request.resume()
        error = None
        try:
            close = getattr(self._parts, "close", None)
            if close is not None:
                close()
        except BaseException as raised:
            error = raised
            raise
        finally:
            request._leave()
            request.end(error)


def _wsgi_method(environ: _Environ) -> str:
    return known_method(environ.get("REQUEST_METHOD"))


def _wsgi_attributes(environ: _Environ) -> dict[str, Any]:
    found = {
        "honeyhive_event_type": "chain",
        "http.request.method": _wsgi_method(environ),
        "url.scheme": environ.get("wsgi.url_scheme"),
        "url.path": f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}",
        "client.address": environ.get("REMOTE_ADDR"),
        "user_agent.original": environ.get("HTTP_USER_AGENT"),
        "network.protocol.version": str(environ.get("SERVER_PROTOCOL", "")).removeprefix("HTTP/") or None,
        **authority(environ.get("HTTP_HOST") or environ.get("SERVER_NAME"), environ.get("SERVER_PORT")),
    }
    return {key: value for key, value in found.items() if value is not None}


def _wsgi_route(environ: _Environ) -> str | None:
    """The pattern that werkzeug's router, Flask's, matched."""
    rule = getattr(getattr(environ.get("werkzeug.request"), "url_rule", None), "rule", None)
    return rule if isinstance(rule, str) else None


class AsgiMiddleware(Middleware):
    """An ASGI application around another one, for HTTP and WebSocket; other scopes pass through. When the application
    has shut down (lifespan), what was recorded is delivered, for up to five seconds: uvicorn then ends its process by
    the signal that it got itself, and nothing else of the program runs.

    `tracer`: the one that is meant where the request comes in, unless one is given. `policy` overrides the tracer's.
    Each request and each WebSocket has a SERVER span, of event type `chain`, until the application returns; not with
    `spans=False`. With `sessions=True` a request whose caller sent no session has one of its own.
    """

    app: _AsgiApp

    async def __call__(self, scope: Any, receive: _Receive, send: _Send) -> None:
        """Handles a request, a WebSocket, or what else a server has."""
        kind = scope.get("type")
        if kind == "lifespan":
            return await self.app(scope, receive, _delivering(send))
        if kind not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        method = known_method(scope.get("method", "GET"))
        request = self._request(
            scope.get("headers"), method, lambda: _asgi_attributes(scope, method), lambda: _asgi_route(scope)
        )
        if request is None:
            return await self.app(scope, receive, send)

        async def watched(message: _Message) -> None:
            status = _asgi_status(message)
            if status is not None:
                request.status(status)
            await send(message)

        async with _Ending(request):
            await self.app(scope, receive, watched)


def _delivering(send: _Send) -> _Send:
    """`send` for a lifespan: before the server hears that the application has shut down, its spans are delivered."""

    async def delivering(message: _Message) -> None:
        if isinstance(message, dict) and str(message.get("type")).startswith("lifespan.shutdown."):
            # In the way of the event loop, which has nothing else to do by now.
            flush(timeout_millis=EXIT_SECONDS * 1000)
        await send(message)

    return delivering


class _Ending:
    """Leaves a request's block at the end of a block of code."""

    __slots__ = ("_request",)

    def __init__(self, request: _Request) -> None:
        self._request = request

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self._request._leave()
        self._request.end(exc_val)


def _asgi_status(message: Any) -> object:
    """The status that a response begins with, if that is what the message is about."""
    kind = message.get("type") if isinstance(message, dict) else None
    if kind == "websocket.accept":
        return 101
    return message.get("status") if kind in ("http.response.start", "websocket.http.response.start") else None


def _asgi_attributes(scope: Any, method: str) -> dict[str, Any]:
    headers = {bytes(name).lower(): bytes(value).decode("latin-1") for name, value in scope.get("headers", ())}
    server = scope.get("server") or (None, None)
    client = scope.get("client") or (None, None)
    found = {
        "honeyhive_event_type": "chain",
        "http.request.method": method,
        "url.scheme": scope.get("scheme"),
        "url.path": f"{scope.get('path', '')}",
        "client.address": client[0],
        "user_agent.original": headers.get(b"user-agent"),
        "network.protocol.version": scope.get("http_version"),
        **authority(headers.get(b"host") or server[0], server[1]),
    }
    return {key: value for key, value in found.items() if value is not None}


def _asgi_route(scope: Any) -> str | None:
    """The pattern that the framework's router matched."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else None
