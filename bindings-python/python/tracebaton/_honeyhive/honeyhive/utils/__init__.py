"""`honeyhive.utils`: small helpers that have nothing to do with tracing."""

from __future__ import annotations

import logging as _logging
from collections.abc import Mapping as _Mapping
from typing import Any as _Any

from tracebaton._honeyhive.absent import attribute_of as _attribute_of


class DotDict(dict[str, _Any]):
    """A dict whose items are attributes too: `d.a.b`, `d["a.b"]` and `d["a"]["b"]` are the same item."""

    def __init__(self, *args: _Any, **kwargs: _Any) -> None:
        super().__init__()
        self.update(*args, **kwargs)

    def __getitem__(self, key: str) -> _Any:
        if isinstance(key, str) and "." in key and not super().__contains__(key):
            first, _, rest = key.partition(".")
            inner = super().__getitem__(first)
            if not isinstance(inner, DotDict):
                raise KeyError(key)
            return inner[rest]
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: _Any) -> None:
        if isinstance(key, str) and "." in key:
            first, _, rest = key.partition(".")
            inner = super().get(first)
            if not isinstance(inner, DotDict):
                inner = DotDict()
                super().__setitem__(first, inner)
            inner[rest] = value
            return
        if isinstance(value, _Mapping) and not isinstance(value, DotDict):
            value = DotDict(value)
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        if isinstance(key, str) and "." in key and not super().__contains__(key):
            outer, _, last = key.rpartition(".")
            del self[outer][last]
            return
        super().__delitem__(key)

    def __contains__(self, key: object) -> bool:
        try:
            self[key]  # type: ignore[index]
        except KeyError:
            return False
        return True

    def __getattr__(self, name: str) -> _Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"this DotDict has no item {name!r}") from None

    def __setattr__(self, name: str, value: _Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(f"this DotDict has no item {name!r}") from None

    def get(self, key: str, default: _Any = None) -> _Any:
        """The item, or the default."""
        try:
            return self[key]
        except KeyError:
            return default

    def setdefault(self, key: str, default: _Any = None) -> _Any:
        """The item; the default becomes it where there is none."""
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *args: _Any, **kwargs: _Any) -> None:
        """Takes over the items of mappings and pairs."""
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def copy(self) -> DotDict:
        """A copy, of the dicts inside too."""
        return DotDict(self.to_dict())

    def to_dict(self) -> dict[str, _Any]:
        """Plain dicts with the same items."""
        return {key: value.to_dict() if isinstance(value, DotDict) else value for key, value in self.items()}


def get_logger(name: str = "honeyhive", verbose: bool | None = None, **_: _Any) -> _logging.Logger:
    """The standard library's logger of this name; `verbose` sets its level to DEBUG."""
    logger = _logging.getLogger(name)
    if verbose:
        logger.setLevel(_logging.DEBUG)
    return logger


__getattr__ = _attribute_of(__name__)

__all__ = ["DotDict", "get_logger"]
