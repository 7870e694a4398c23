"""Sessions that a program makes itself: one per request, invocation or conversation."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from opentelemetry.context.context import Context

from tracebaton import _native
from tracebaton._context import SCOPE_KEY, Block, current, derived, set_current
from tracebaton._span import SPAN_KEY

if TYPE_CHECKING:
    from tracebaton._provider import OtelTracer
    from tracebaton._tracer import Tracer


class Sessions:
    """What a tracer does about sessions."""

    _core: _native.Core
    _otel_tracer: OtelTracer

    def create_session(
        self,
        session_name: str | None = None,
        session_id: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        user_properties: Mapping[str, Any] | None = None,
        source: str | None = None,
        skip_api_call: bool = False,
    ) -> str:
        """Begins a session: what comes next in this task or thread is in it. Returns its id.

        It holds until the block around it ends (a span's, a request's, that of `with_session`), else until the next
        one is created. `session_id` (1 to 256 characters) is a new UUID unless given. `session_name`, `inputs`,
        `metadata` and `user_properties` say what it is: HoneyHive is told in the background, anywhere else it is a span
        without a duration, of event type `session`. `source` is what HoneyHive is told; spans have this service's own.
        With `skip_api_call` HoneyHive is not told: somebody else registers the session.

        Nothing waits for the network, and nothing that fails there changes the id.
        """
        context, session_id = self._begin(
            session_name, session_id, inputs, metadata, user_properties, source, skip_api_call
        )
        set_current(context)
        return session_id

    async def acreate_session(
        self,
        session_name: str | None = None,
        session_id: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        user_properties: Mapping[str, Any] | None = None,
        source: str | None = None,
        skip_api_call: bool = False,
    ) -> str:
        """`create_session` for `await`, in the task that awaits it."""
        return self.create_session(session_name, session_id, inputs, metadata, user_properties, source, skip_api_call)

    def with_session(
        self,
        session_name: str | None = None,
        session_id: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        user_properties: Mapping[str, Any] | None = None,
        source: str | None = None,
        skip_api_call: bool = False,
    ) -> SessionBlock:
        """A block, for `with` or `async with`, in a session of its own. It yields the id; the arguments are those of
        `create_session`. The end of the block undoes it, whatever happens inside."""
        arguments = (session_name, session_id, inputs, metadata, user_properties, source, skip_api_call)
        _check(*arguments)
        return SessionBlock(self, arguments)  # type: ignore[arg-type]  # a tracer is what has this class

    def session_start(self) -> str:
        """Has HoneyHive told of this tracer's own session now, not at its first span. Returns its id."""
        _native.enrich_session(self._core, None, True, {})
        return self._core.session_id

    def _begin(
        self,
        session_name: str | None,
        session_id: str | None,
        inputs: Mapping[str, Any] | None,
        metadata: Mapping[str, Any] | None,
        user_properties: Mapping[str, Any] | None,
        source: str | None,
        skip_api_call: bool,
    ) -> tuple[Context, str]:
        """The current context in a new session."""
        _check(session_name, session_id, inputs, metadata, user_properties, source, skip_api_call)
        session_id = session_id or str(uuid.uuid4())
        base = current()
        before: Any = base.get(SCOPE_KEY)
        scope = _native.Scope.with_session(before, self._core, session_id, session_name or None, skip_api_call)
        context = derived(base, SCOPE_KEY, scope)
        given = {"inputs": inputs, "metadata": metadata, "user_properties": user_properties}
        fields = {name: value for name, value in given.items() if value is not None}
        if self._core.enabled:
            try:
                self._tell(context, scope, source, fields)
            except Exception:
                # What a value's own code raises is not the request's trouble.
                _native.report("what a session begins with could not be captured")
        return context, session_id

    def _tell(self, context: Context, scope: _native.Scope, source: str | None, fields: dict[str, Any]) -> None:
        _native.start_session(self._core, scope, source, fields)
        if fields and self._core.elsewhere:
            from tracebaton._enrich import enrich

            span = self._otel_tracer.start_span("create_session", context, _records_start=False)
            enrich(span, {**fields, "event_type": "session"})
            span._end_elsewhere()


def _check(
    session_name: object,
    session_id: object,
    inputs: object,
    metadata: object,
    user_properties: object,
    source: object,
    skip_api_call: object,
) -> None:
    """A value of another type is an error that names its argument, and so is a text that can be no session id."""
    for name, text in (("session_name", session_name), ("session_id", session_id), ("source", source)):
        if text is not None and not isinstance(text, str):
            raise TypeError(f"{name} must be a str, not {type(text).__name__}")
        if text is not None and not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
            raise ValueError(f"{name} must be text that UTF-8 can write, without lone surrogates")
    for name, value in (("inputs", inputs), ("metadata", metadata), ("user_properties", user_properties)):
        if value is not None and not isinstance(value, Mapping):
            raise TypeError(f"{name} must be a mapping, not {type(value).__name__}")
    if not isinstance(skip_api_call, bool):
        raise TypeError(f"skip_api_call must be a bool, not {type(skip_api_call).__name__}")
    if isinstance(session_id, str) and session_id:
        _native.check_session_id(session_id)


class SessionBlock(Block):
    """A block in a session of its own: see `Tracer.with_session`."""

    __slots__ = ("_arguments",)

    def __init__(self, tracer: Tracer, arguments: tuple[Any, ...]) -> None:
        self.tracer = tracer
        self._arguments = arguments

    def __enter__(self) -> str:
        assert self.tracer is not None
        context, session_id = self.tracer._begin(*self._arguments)
        self.span = context.get(SPAN_KEY)
        self._enter(context, current())
        return session_id

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self._leave()

    async def __aenter__(self) -> str:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self._leave()


def session_of(core: _native.Core, context: Context) -> str:
    """The session that holds in a context for a tracer."""
    scope: Any = context.get(SCOPE_KEY)
    if scope is None:
        span: Any = context.get(SPAN_KEY)
        scope = getattr(span, "_scope", None)
    found = scope.session_for(core) if isinstance(scope, _native.Scope) else None
    return core.session_id if found is None else found
