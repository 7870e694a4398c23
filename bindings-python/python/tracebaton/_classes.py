"""`@trace_class`: `@trace` for the methods of a class."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, overload

from tracebaton._decorate import trace

_C = TypeVar("_C", bound=type)


@overload
def trace_class(event_type: _C, /) -> _C: ...
@overload
def trace_class(event_type: str | None = None, event_name: str | None = None, **options: Any) -> Callable[[_C], _C]: ...
def trace_class(event_type: Any = None, event_name: str | None = None, **options: Any) -> Any:
    """Records a span for every call of a method: `@trace_class`, or `@trace_class(event_type="tool")`.

    The methods are the functions, class methods and static methods that the class itself defines, without those whose
    names begin with `_` and those that have a `@trace` of their own. Properties, nested classes and other callable
    attributes stay as they are. Spans are named `module.Class.method`, or `event_name.method`. The options are those of
    `@trace`.
    """
    if isinstance(event_type, type):
        return _traced_class(event_type, None, {})
    if callable(event_type):
        raise TypeError(f"trace_class() takes a class, not {type(event_type).__name__}")
    trace(event_type, **options)  # a wrong argument is an error here, not at the class

    def decorate(cls: _C) -> _C:
        if not isinstance(cls, type):
            raise TypeError(f"trace_class() takes a class, not {type(cls).__name__}")
        return _traced_class(cls, event_name, {"event_type": event_type, **options})

    return decorate


def _traced_class(cls: _C, prefix: str | None, options: dict[str, Any]) -> _C:
    for name, member in list(vars(cls).items()):
        if name.startswith("_"):
            continue
        kind = type(member)
        function = member.__func__ if kind in (classmethod, staticmethod) else member
        if not inspect.isfunction(function) or function.__globals__ is trace.__globals__:
            continue
        named = options if prefix is None else {**options, "event_name": f"{prefix}.{name}"}
        traced = trace(**named)(function)
        setattr(cls, name, kind(traced) if function is not member else traced)
    return cls
