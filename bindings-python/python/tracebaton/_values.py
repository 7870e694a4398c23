"""What objects consist of, for values that are captured."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Set as AbstractSet
from typing import Any


def open_object(value: Any) -> Any:
    """A basic value, list or dict that says what `value` holds; `None` if its text says it best.

    Called by the native side for values that are of none of the basic types. May raise what the object raises.
    """
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, AbstractSet):
        return list(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    kind = type(value)
    if hasattr(kind, "__dataclass_fields__"):
        # Loaded already, by whoever made the class: importing this package does not.
        import dataclasses

        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(kind, "model_dump"):
        return value.model_dump()
    if hasattr(kind, "__attrs_attrs__"):
        return {field.name: getattr(value, field.name) for field in kind.__attrs_attrs__}
    if hasattr(kind, "tolist"):  # arrays and numbers of numpy and the like
        return value.tolist()
    return None


def describe(value: Any) -> str:
    """The text of an object: what it says of itself, or its type where that would be a place in memory."""
    name = getattr(value, "__qualname__", None)
    if isinstance(name, str):  # a function, class or generator
        return f"<{type(value).__name__} {name}>"
    says_more = any("__str__" in vars(kind) or "__repr__" in vars(kind) for kind in type(value).__mro__[:-1])
    return str(value) if says_more else f"<{type(value).__qualname__}>"
