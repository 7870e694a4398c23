"""The current OpenTelemetry context, and blocks of code that change it.

contextlib's managers cost a microsecond and a token can only be reset in the task that got it; blocks are classes that
set the context variable and restore the previous context where the current one is theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from opentelemetry import context as _otel_context
from opentelemetry.context.context import Context
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext

if TYPE_CHECKING:
    from tracebaton._tracer import Tracer

SCOPE_KEY = "tracebaton-scope"
"""Session and raw baggage, a `_native.Scope`."""

BLOCK_KEY = "tracebaton-block"
"""The innermost `Block`."""

_runtime = _otel_context._RUNTIME_CONTEXT

current: Callable[[], Context]
"""The current context."""

set_current: Callable[[Context], Any]
"""Makes a context the current one."""

if type(_runtime) is ContextVarsRuntimeContext:
    current = _runtime._current_context.get
    set_current = _runtime._current_context.set
else:  # OTEL_PYTHON_CONTEXT names another implementation
    current = _runtime.get_current
    set_current = _runtime.attach


set_item = dict.__setitem__
"""Puts something into a context that nobody else has yet: one that is somebody's is never changed."""


def derived(base: Context, key: str, value: object) -> Context:
    """`base` with another value for `key`."""
    context = Context(base)
    set_item(context, key, value)
    return context


class Block:
    """A block of code with a context of its own."""

    __slots__ = ("_context", "_previous", "outer", "span", "tracer")

    tracer: Tracer | None
    """The tracer that the block is about."""
    outer: Block | None
    """The block around this one."""
    span: Any
    """The span that is current in the block, if there is one."""

    def _enter(self, context: Context, previous: Context) -> None:
        """Makes `context`, which is nobody else's, the current one; `previous` is current until now."""
        self.outer = previous.get(BLOCK_KEY)  # type: ignore[assignment]
        self._previous = previous
        self._context = context
        set_item(context, BLOCK_KEY, self)
        set_current(context)

    def _leave(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        """What `__exit__` is where nothing else is to be done: restores the context from before, and undoes what was
        left attached inside.

        In another task than the one that entered (a generator is closed where it is collected) the current context has
        nothing to do with this block, and stays.
        """
        now = current()
        if now is not self._context:
            block: Any = now.get(BLOCK_KEY)
            while block is not self:
                if block is None:
                    return
                block = block.outer
        set_current(self._previous)
        # The context knows this block: both would be garbage that only the collector of cycles frees.
        self._context = self._previous


async def entered(block: Any) -> Any:
    """`__aenter__` of a native block."""
    return block.__enter__()


async def left(block: Any, *exc: object) -> None:
    """`__aexit__` of a native block."""
    block.__exit__(*exc)
