"""HTTP clients that carry trace and session along: `requests`, `httpx` and `aiohttp`.

    session = instrument_requests(requests.Session())
    client = instrument_httpx(httpx.AsyncClient())
    session = aiohttp.ClientSession(trace_configs=[aiohttp_trace_config()])

The outbound policy of the tracer decides for every request, redirects included, what its host is sent: by default every
host gets the trace context, and only local, private and listed hosts (`propagate_to`) get session and baggage. Each
request has a CLIENT span, unless `spans=False`. What a request raises goes on unchanged, and nothing of ours fails one.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin

from opentelemetry.context.context import Context
from opentelemetry.trace import SpanKind

from tracebaton import _native
from tracebaton._context import current, derived
from tracebaton._http import client_attributes, known_method, set_status
from tracebaton._registry import choose, core_of
from tracebaton._span import SPAN_KEY, Span
from tracebaton._tracer import Tracer

if TYPE_CHECKING:
    import aiohttp

_C = TypeVar("_C")
_DONE = "_tracebaton"


class _Call:
    """A request on its way out."""

    __slots__ = ("_context", "_core", "span")

    span: Any
    """Its CLIENT span, if it has one."""

    def __init__(self, tracer: Tracer | None, method: object, url: str, spans: bool) -> None:
        self._context: Context = current()
        self._core = core_of(tracer, self._context)
        self.span = None
        chosen = choose(tracer)
        if chosen is not None and spans:
            name = known_method(method)
            attributes = client_attributes(name, url)
            self.span = chosen._otel_tracer.start_span(name, self._context, SpanKind.CLIENT, attributes)
            self._context = derived(self._context, SPAN_KEY, self.span)

    def inject(self, headers: MutableMapping[str, str], url: str) -> None:
        """Writes the headers for a URL, in place of those that were written for another one before a redirect."""
        _native.inject(self._context, headers, self._core, url, None)

    def done(self, status: int) -> None:
        """The response has begun."""
        if isinstance(self.span, Span):
            set_status(self.span, status, 400)
            self.span.end()

    def failed(self, error: BaseException) -> None:
        """There is none."""
        if isinstance(self.span, Span):
            self.span.set_attribute("error.type", type(error).__qualname__)
            self.span.fail(error)
            self.span.end()


def _check(tracer: Tracer | None, spans: object) -> None:
    if tracer is not None:
        choose(tracer)
    if not isinstance(spans, bool):
        raise TypeError(f"spans must be a bool, not {type(spans).__name__}")


def instrument_requests(session: _C, tracer: Tracer | None = None, *, spans: bool = True) -> _C:
    """Has a `requests.Session` write our headers into every request that it sends, and returns it.

    `tracer`: the one that is meant where a request is made, unless one is given. A redirect is a request of its own. A
    session that is instrumented already stays as it is.
    """
    _check(tracer, spans)
    find: Any = getattr(session, "get_adapter", None)
    if find is None or not hasattr(session, "send"):
        raise TypeError(f"session must be a requests.Session, not {type(session).__name__}")
    if not hasattr(session, _DONE):

        def get_adapter(*args: Any, **kwargs: Any) -> _Adapter:
            return _Adapter(find(*args, **kwargs), tracer, spans)

        session.get_adapter = get_adapter  # type: ignore[attr-defined]
        setattr(session, _DONE, True)
    return session


class _Adapter:
    """An adapter of `requests` around another one."""

    def __init__(self, adapter: Any, tracer: Tracer | None, spans: bool) -> None:
        self._adapter = adapter
        self._tracer = tracer
        self._spans = spans

    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            # A redirect copies the headers of the request that it answers: ours, for another host, do not get there.
            outgoing = request.copy()
            call = _Call(self._tracer, request.method, request.url, self._spans)
            call.inject(outgoing.headers, request.url)
        except Exception:
            _native.report("a request of requests could not be traced")
            return self._adapter.send(request, *args, **kwargs)
        try:
            response = self._adapter.send(outgoing, *args, **kwargs)
        except BaseException as error:
            call.failed(error)
            raise
        call.done(getattr(response, "status_code", 0))
        return response

    def close(self) -> None:
        self._adapter.close()


def instrument_httpx(client: _C, tracer: Tracer | None = None, *, spans: bool = True) -> _C:
    """Has an `httpx.Client` or `httpx.AsyncClient` write our headers into every request that it sends, and returns it.

    `tracer`: the one that is meant where a request is made, unless one is given. The redirects that the client follows
    belong to the span of the request. A client that is instrumented already stays as it is.
    """
    _check(tracer, spans)
    send: Any = getattr(client, "send", None)
    hooks: Any = getattr(client, "event_hooks", None)
    if send is None or hooks is None:
        raise TypeError(f"client must be an httpx.Client or httpx.AsyncClient, not {type(client).__name__}")
    if hasattr(client, _DONE):
        return client

    def call_for(request: Any) -> _Call | None:
        try:
            call = _Call(tracer, request.method, str(request.url), spans)
            request.extensions[_DONE] = call
            return call
        except Exception:
            _native.report("a request of httpx could not be traced")
            return None

    def inject(request: Any) -> None:
        try:
            call = request.extensions.get(_DONE)
            if call is not None:
                call.inject(request.headers, str(request.url))
        except Exception:
            _native.report("a request of httpx could not be given its headers")

    async def inject_async(request: Any) -> None:
        inject(request)

    def send_traced(request: Any, *args: Any, **kwargs: Any) -> Any:
        call = call_for(request)
        try:
            response = send(request, *args, **kwargs)
        except BaseException as error:
            if call is not None:
                call.failed(error)
            raise
        if call is not None:
            call.done(response.status_code)
        return response

    async def send_traced_async(request: Any, *args: Any, **kwargs: Any) -> Any:
        call = call_for(request)
        try:
            response = await send(request, *args, **kwargs)
        except BaseException as error:
            if call is not None:
                call.failed(error)
            raise
        if call is not None:
            call.done(response.status_code)
        return response

    is_async = hasattr(client, "aclose")
    client.event_hooks = {  # type: ignore[attr-defined]
        **hooks,
        "request": [*hooks.get("request", ()), inject_async if is_async else inject],
    }
    client.send = send_traced_async if is_async else send_traced  # type: ignore[attr-defined]
    setattr(client, _DONE, True)
    return client


def aiohttp_trace_config(tracer: Tracer | None = None, *, spans: bool = True) -> aiohttp.TraceConfig:
    """What an `aiohttp.ClientSession(trace_configs=[…])` takes so that it writes our headers into its requests.

    `tracer`: the one that is meant where a request is made, unless one is given. The redirects that the session follows
    belong to the span of the request.
    """
    import aiohttp

    _check(tracer, spans)

    async def start(_: Any, about: Any, params: Any) -> None:
        about.tracebaton = None
        try:
            about.tracebaton = call = _Call(tracer, params.method, str(params.url), spans)
            call.inject(params.headers, str(params.url))
        except Exception:
            _native.report("a request of aiohttp could not be traced")

    async def redirect(_: Any, about: Any, params: Any) -> None:
        try:
            target = params.response.headers.get("Location") or params.response.headers.get("URI")
            if about.tracebaton is not None and target:
                about.tracebaton.inject(params.headers, urljoin(str(params.url), target))
        except Exception:
            _native.report("a redirect of aiohttp could not be given its headers")

    async def end(_: Any, about: Any, params: Any) -> None:
        if about.tracebaton is not None:
            about.tracebaton.done(params.response.status)

    async def failed(_: Any, about: Any, params: Any) -> None:
        if about.tracebaton is not None:
            about.tracebaton.failed(params.exception)

    config = aiohttp.TraceConfig()
    config.on_request_start.append(start)
    config.on_request_redirect.append(redirect)
    config.on_request_end.append(end)
    config.on_request_exception.append(failed)
    return config
