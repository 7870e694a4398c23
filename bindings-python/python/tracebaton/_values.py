"""What objects consist of, for values that are captured."""

from __future__ import annotations

import dataclasses
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
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    kind = type(value)
    if hasattr(kind, "model_dump"):
        return value.model_dump()
    if hasattr(kind, "__attrs_attrs__"):
        return {field.name: getattr(value, field.name) for field in kind.__attrs_attrs__}
    if hasattr(kind, "tolist"):  # arrays and numbers of numpy and the like
        return value.tolist()
    if kind.__str__ is object.__str__ and " at 0x" in repr(value):
        # A text that names a place in memory says nothing to anybody else.
        named = value if isinstance(getattr(value, "__qualname__", None), str) else kind
        return f"<{kind.__name__} {named.__qualname__}>" if named is value else f"<{named.__qualname__}>"
    return None
