"""The argument `span_name_filters`: which spans are exported, by the beginnings of their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def prefixes_of(filters: object) -> tuple[list[str], list[str]]:
    """The prefixes that `{"include": […], "exclude": […]}` names, each entry a `{"type": "prefix", "value": …}`."""
    if not isinstance(filters, Mapping):
        raise TypeError(f"span_name_filters must be a mapping, not {type(filters).__name__}")
    for key in filters:
        if key not in ("include", "exclude"):
            raise ValueError(f"span_name_filters: {key!r} is neither 'include' nor 'exclude'")
    return _prefixes(filters, "include"), _prefixes(filters, "exclude")


def _prefixes(filters: Mapping[str, object], key: str) -> list[str]:
    entries = filters.get(key) or ()
    if isinstance(entries, str) or not isinstance(entries, Sequence):
        raise TypeError(f"span_name_filters: {key} must be a list, not {type(entries).__name__}")
    found = []
    for entry in entries:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("value"), str):
            raise TypeError(f"span_name_filters: an entry of {key} must be a mapping with a str 'value'")
        if entry.get("type", "prefix") != "prefix":
            raise ValueError(f"span_name_filters: the type of an entry of {key} must be 'prefix'")
        found.append(entry["value"])
    return found
