"""Context in threads: Python starts them without any."""

from __future__ import annotations

import contextvars
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import update_wrapper, wraps
from typing import Any, ParamSpec, TypeVar

from opentelemetry.context.context import Context

from tracebaton._context import BLOCK_KEY, Block, current

_P = ParamSpec("_P")
_R = TypeVar("_R")


def wrap(function: Callable[_P, _R], /) -> Callable[_P, _R]:
    """`function`, that will run in the context in which `wrap` was called: trace, session and baggage, and whatever
    else is in Python's context variables.

    For threads, pools and callbacks: `Thread(target=wrap(work))`, `executor.submit(wrap(work), 1)`. What it returns may
    be called any number of times, by several threads at once; what the function changes in its context is gone after
    each. Of a coroutine function, the coroutine runs in that trace, session and baggage, with the task's own context
    variables otherwise. The body of a generator function runs where it is iterated: wrap what iterates it.
    """
    if not callable(function):
        raise TypeError(f"wrap() takes a function, not {type(function).__name__}")
    if inspect.iscoroutinefunction(function):
        return _wrap_coroutine_function(function)
    context = contextvars.copy_context()

    @wraps(function)
    def carried(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        # A copy, which costs no more than a reference: a context can be entered once at a time.
        return context.copy().run(function, *args, **kwargs)

    return carried


def _wrap_coroutine_function(function: Callable[_P, Any]) -> Callable[_P, Any]:
    context = current()

    @wraps(function)
    async def carried(*args: _P.args, **kwargs: _P.kwargs) -> Any:
        with _Carried(context):
            return await function(*args, **kwargs)

    return carried


class _Carried(Block):
    """A block in a context from elsewhere."""

    __slots__ = ("_elsewhere",)

    def __init__(self, elsewhere: Context) -> None:
        self._elsewhere = elsewhere
        # It stands for the block that was around there.
        block: Any = elsewhere.get(BLOCK_KEY)
        self.tracer = None if block is None else block.tracer
        self.span = None if block is None else block.span

    def __enter__(self) -> None:
        self._enter(Context(self._elsewhere), current())

    def __exit__(self, *_: object) -> None:
        self._leave()


class ContextThreadPoolExecutor(ThreadPoolExecutor):
    """A `ThreadPoolExecutor` whose calls run in the context in which they were submitted, each in a copy of its own.

    Also for `loop.run_in_executor` and `loop.set_default_executor`.
    """

    def submit(self, fn: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_R]:
        """Has `fn` called in the context that is current now."""
        run: Any = contextvars.copy_context().run
        future: Future[_R] = super().submit(run, fn, *args, **kwargs)
        return future


class _Patch:
    """What `patch_threads` has done. Where another library has patched on top of it, it stays below that, and does
    nothing once it is undone."""

    def __init__(self) -> None:
        self._is_active = True
        self._thread_start: Any = threading.Thread.start
        self._executor_submit: Any = ThreadPoolExecutor.submit

        # Plain functions, which Python binds to the thread or executor.
        def start(thread: threading.Thread) -> None:
            self._start_thread(thread)

        def submit(executor: ThreadPoolExecutor, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            return self._submit_to(executor, fn, *args, **kwargs)

        self._start: Any = update_wrapper(start, threading.Thread.start)
        self._submit: Any = update_wrapper(submit, ThreadPoolExecutor.submit)
        threading.Thread.start = self._start  # type: ignore[assignment, method-assign]
        ThreadPoolExecutor.submit = self._submit  # type: ignore[assignment, method-assign]

    def undo(self) -> None:
        self._is_active = False
        if threading.Thread.start is self._start:
            threading.Thread.start = self._thread_start  # type: ignore[method-assign]
        if ThreadPoolExecutor.submit is self._submit:
            ThreadPoolExecutor.submit = self._executor_submit  # type: ignore[method-assign]

    def _start_thread(self, thread: threading.Thread) -> None:
        context = contextvars.copy_context()
        # Subclasses have a `run` of their own.
        run = thread.run

        def carried() -> None:
            # Gone before it runs, since it refers to its thread.
            vars(thread).pop("run", None)
            context.run(run)

        if self._is_active and len(context) > 0 and "run" not in vars(thread):
            thread.run = carried  # type: ignore[method-assign]
        try:
            self._thread_start(thread)
        except BaseException:
            if vars(thread).get("run") is carried:
                del vars(thread)["run"]
            raise

    def _submit_to(self, executor: ThreadPoolExecutor, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        if not self._is_active:
            return self._executor_submit(executor, fn, *args, **kwargs)
        carried = contextvars.copy_context().run
        # A thread that this starts serves other calls later: it gets no context.
        return contextvars.Context().run(self._executor_submit, executor, carried, fn, *args, **kwargs)


_patch: _Patch | None = None


def patch_threads() -> None:
    """Has every `threading.Thread` run in the context in which it was started, and every call of a `ThreadPoolExecutor`
    in the one in which it was submitted. Until `unpatch_threads`; a second call changes nothing.

    A thread that is started inside a request and serves others later, such as the one of a connection pool, keeps that
    request's context for good: start it before, or use `wrap` where you need it instead of this patch.
    """
    global _patch
    if _patch is None:
        _patch = _Patch()


def unpatch_threads() -> None:
    """Undoes `patch_threads`. What another library has patched since then stays."""
    global _patch
    if _patch is not None:
        _patch.undo()
        _patch = None
