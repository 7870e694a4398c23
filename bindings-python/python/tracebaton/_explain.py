"""`explain`: what is taken from a caller's headers and what is not, for people who look for a lost trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tracebaton import _native
from tracebaton._native import Policy
from tracebaton._propagation import as_policy


class Finding(NamedTuple):
    """One thing to know about a carrier."""

    header: str
    """`traceparent`, `tracestate` or `baggage`."""
    position: int | None
    """Which member of the baggage it is about, counted from 0."""
    verdict: str
    """`kept`, `dropped` or `missing`."""
    rule: str | None
    """The id of the rule by which it was left out, or read in the way that the sentence says."""
    sentence: str
    """What became of it, and why."""
    text: str | None
    """What stood there, if that was asked for: users' data, which does not belong in logs."""


def explain(
    carrier: object, *, policy: Policy | Mapping[str, Any] | None = None, with_text: bool = False
) -> list[Finding]:
    """Says what extraction takes from a carrier under a policy (the default one unless one is given), what it leaves
    out, and by which rule, in the order of the headers. Nothing of what stands there is in it without `with_text`."""
    if not isinstance(with_text, bool):
        raise TypeError(f"with_text must be a bool, not {type(with_text).__name__}")
    return [Finding(**finding) for finding in _native.explain(carrier, as_policy(policy) or Policy(), with_text)]
