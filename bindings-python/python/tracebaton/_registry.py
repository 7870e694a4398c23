"""Which tracer is meant where none is given, and what happens to tracers at the end of the process."""

from __future__ import annotations

import atexit
import math
import os
import sys
import weakref
from typing import TYPE_CHECKING, Any

from opentelemetry.context.context import Context

from tracebaton import _native
from tracebaton._context import BLOCK_KEY, current
from tracebaton._span import SPAN_KEY, Span

if TYPE_CHECKING:
    from tracebaton._context import Block
    from tracebaton._provider import TracerProvider
    from tracebaton._tracer import Tracer

EXIT_SECONDS = 5.0
"""How long the end of the process waits for delivery."""

# In the order in which they were made.
_alive: dict[weakref.ref[Any], None] = {}
# Kept alive: a program may call `init` and never look at the result.
_first: Tracer | None = None
_default: Tracer | None = None


def tracers() -> list[Tracer]:
    """Those that are alive and not shut down, in the order in which they were made."""
    # Copying a dict is one step: no lock is needed, which a child of a fork could find held for ever.
    return [tracer for made in list(_alive) if (tracer := made()) is not None]


class Registered:
    """What this module knows of a tracer."""

    _core: _native.Core
    _provider: TracerProvider

    def flush(self, timeout_millis: float = 30_000) -> bool:
        """Delivers what has ended so far: True only if all of it was delivered within the time.

        The end of a process does that by itself, unless the process ends by `os._exit` or by a signal.
        """
        return self._provider.force_flush(timeout_millis)


def register(tracer: Tracer) -> None:
    """Takes note of a new tracer; the first one is the default until another is set."""
    global _first
    _alive[weakref.ref(tracer, lambda made: _alive.pop(made, None) and None)] = None
    if _first is None:
        _first = tracer
    _multiprocessing.watch()


def forget(tracer: Tracer) -> None:
    """A tracer that was shut down is nobody's default: the one that was made after it is."""
    global _first, _default
    for made in list(_alive):
        if made() is tracer:
            _alive.pop(made, None)
    if _default is tracer:
        _default = None
    if _first is tracer:
        _first = next(iter(tracers()), None)


def clear_default() -> None:
    """Forgets which tracer is the default one: the next that is made becomes it."""
    global _first, _default
    _first = _default = None


def set_default_tracer(tracer: Tracer | None) -> None:
    """Sets the tracer that is meant where none is given and none is current. `None` unsets it."""
    if tracer is not None and not isinstance(tracer, Registered):
        raise TypeError(f"tracer must be a Tracer, not {type(tracer).__name__}")
    global _default
    _default = tracer


def get_default_tracer() -> Tracer | None:
    """The default tracer: the one that was set, else the first that was initialised."""
    return _default or _first


def get_tracer() -> Tracer | None:
    """The tracer that is meant here: that of the current span or block, else the default one."""
    return tracer_of(current()) or get_default_tracer()


def tracer_of(context: Context) -> Tracer | None:
    """The tracer of the span or block that is current in a context."""
    block: Block | None = context.get(BLOCK_KEY)  # type: ignore[assignment]
    span: Any = context.get(SPAN_KEY)
    if block is not None and block.tracer is not None and span is block.span:
        return block.tracer
    # A span that became current without a block of ours is newer than the block. An instrumentor's proxy of a span
    # passes itself off as the span.
    if isinstance(span, Span) and span._core.owner is not None:
        owner: Tracer | None = span._core.owner()
        if owner is not None:
            return owner
    return block.tracer if block is not None else None


def choose(tracer: Any, context: Context | None = None) -> Tracer | None:
    """The tracer of an argument `tracer`; where it is `None`, the one that is meant."""
    if tracer is not None:
        if not isinstance(tracer, Registered):
            raise TypeError(f"tracer must be a Tracer, not {type(tracer).__name__}")
        return tracer  # type: ignore[return-value]
    if context is None:
        context = current()
    return tracer_of(context) or _default or _first


def core_of(tracer: Any, context: Context) -> _native.Core | None:
    """The native side of the tracer that an argument `tracer` means."""
    chosen = choose(tracer, context)
    span: Any = context.get(SPAN_KEY)
    if tracer is None and isinstance(span, Span) and tracer_of(context) is None:
        # Nobody holds its tracer any more, but the span still knows where it belongs.
        return span._core
    return None if chosen is None else chosen._core


def millis(timeout_millis: Any) -> int:
    """A time in whole milliseconds, of a sensible size."""
    if isinstance(timeout_millis, bool) or not isinstance(timeout_millis, (int, float)):
        raise TypeError(f"timeout_millis must be a number, not {type(timeout_millis).__name__}")
    if isinstance(timeout_millis, float) and math.isnan(timeout_millis):
        raise ValueError("timeout_millis must be a number, not NaN")
    return int(min(max(timeout_millis, 0), 10**12))


def flush(tracer: Any = None, timeout_millis: float = 30_000) -> bool:
    """Delivers what has ended so far, of one tracer or of all: True only if all of it was delivered within the time.

    All includes what tracers have left that nobody holds any more.
    """
    if tracer is not None:
        chosen = choose(tracer)
        return chosen is not None and chosen.flush(timeout_millis)
    left, done = millis(timeout_millis), True
    for one in tracers():
        left, flushed = one._provider.flush_processors(left)
        done &= flushed
    return _native.deliver_all([one._core for one in tracers()], left, False) and done


def shutdown_all(timeout_millis: float = 30_000) -> bool:
    """Delivers what has ended so far, of all tracers at the same time, and takes no more."""
    ending = tracers()
    for tracer in ending:
        forget(tracer)
    left = millis(timeout_millis)
    for tracer in ending:
        left = tracer._provider.shutdown_processors(left)
    return _native.deliver_all([tracer._core for tracer in ending], left, True)


def _deliver_at_exit() -> None:
    shutdown_all(EXIT_SECONDS * 1000)


atexit.register(_deliver_at_exit)


class _Multiprocessing:
    """Children of `multiprocessing` end without `atexit`: they run finalizers of their own, of which those inherited
    from the parent are cleared first."""

    def __init__(self) -> None:
        self._pid = 0

    def watch(self) -> None:
        """Has the spans of this process delivered at its end, and those of its children at theirs."""
        util = sys.modules.get("multiprocessing.util")
        if util is not None and self._pid != os.getpid():
            self._pid = os.getpid()
            util.Finalize(None, _deliver_at_exit, exitpriority=-100)
            util.register_after_fork(self, type(self)._watch_again)

    def _watch_again(self) -> None:
        self._pid = 0
        self.watch()


_multiprocessing = _Multiprocessing()


def _deliver_at_worker_end(**_: Any) -> None:
    _deliver_at_exit()


def _watch_celery() -> None:
    """Processes of Celery's pool end without `atexit`, after a signal of Celery's own."""
    signals = sys.modules.get("celery.signals")
    if signals is not None:
        signals.worker_process_shutdown.connect(_deliver_at_worker_end, weak=False, dispatch_uid="tracebaton")


def _before_fork() -> None:
    _multiprocessing.watch()
    _watch_celery()
    _native.before_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_native.after_fork_in_parent,
        after_in_child=_native.after_fork_in_child,
    )
