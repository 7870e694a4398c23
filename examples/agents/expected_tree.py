"""What the demo's trace must look like, and how a given one differs from it.

`differences` takes what `tracebaton tree SESSION --json` prints. An empty list means that everything is as it must be.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import ndiff
from typing import Any

TURNS = 2
CLIENT, SERVER = "client-app", "agent-server"

# A span and its children in the order in which they start: (label, children).
Outline = tuple[str, list["Outline"]]


def expected_turn(hosted: bool = False) -> Outline:
    """The spans of one turn. Names of the agents' spans are those of the Google ADK instrumentor."""
    ask = ("call_llm", "model", SERVER, [])
    look_up = ("execute_tool look_up_fact", "tool", SERVER, [])
    research = [ask] if hosted else [ask, look_up, ask]
    analysis = [("call_llm", "model", CLIENT, [])]
    return _labelled(
        ("user_call", "chain", CLIENT, [
            ("call_principal", "chain", CLIENT, [
                ("call_remote_agent", "tool", CLIENT, [
                    ("invocation [agents_demo]", "chain", SERVER, [
                        ("agent_run [research_agent]", "chain", SERVER, research),
                    ]),
                ]),
                ("call_local_agent", "chain", CLIENT, [
                    ("invocation [agents_demo]", "chain", CLIENT, [
                        ("agent_run [analysis_agent]", "chain", CLIENT, analysis),
                    ]),
                ]),
            ]),
        ])
    )  # fmt: skip


def differences(
    tree: dict[str, Any], session: str, *, sessions: list[str] | None = None, hosted: bool = False
) -> list[str]:
    """How `tree` differs from two turns in the session `session`, as lines to read; empty if it does not.

    `sessions` are all the sessions that the viewer has (there must be no other than this one). With `hosted`, a model
    that decides for itself how often it calls tools was used: tool spans and repeated model calls are not compared.
    """
    out: list[str] = []
    if tree.get("session_id") != session:
        out.append(f"the tree is of session {tree.get('session_id')}, not of {session}")
    for other in sessions or []:
        if other != session:
            out.append(f"there is another session: {other}")
    traces = tree.get("traces", [])
    if len(traces) != TURNS:
        out.append(f"{len(traces)} traces instead of {TURNS}: each turn is one trace")
    ids = [trace["trace_id"] for trace in traces]
    if len(set(ids)) != len(ids):
        out.append("a trace comes twice")
    wanted = list(_lines(expected_turn(hosted)))
    for trace in traces:
        for root in trace["roots"]:
            if root["parent_span_id"] is not None:
                out.append(f"orphan: {root['name']} names a parent {root['parent_span_id']} that is not there")
            out.extend(_wrong_spans(root, None, trace["trace_id"], session))
        found = [line for root in trace["roots"] for line in _lines(_outline(root, hosted))]
        if found != wanted:
            out.append(f"trace {trace['trace_id']} is not the expected tree (- missing, + too much):")
            out.extend(line.rstrip() for line in ndiff(wanted, found) if not line.startswith("?"))
    return out


def count(tree: dict[str, Any]) -> int:
    """How many spans the tree has."""
    return sum(1 for trace in tree["traces"] for root in trace["roots"] for _ in _lines(_outline(root, False)))


def _wrong_spans(span: dict[str, Any], parent: dict[str, Any] | None, trace: str, session: str) -> Iterator[str]:
    """What is wrong with a span, and below it, that its place in the tree does not show."""
    name = span["name"]
    if span["session_id"] != session:
        yield f"{name} is in session {span['session_id']}, not in {session}"
    if span["trace_id"] != trace:
        yield f"{name} is in trace {span['trace_id']}, not in {trace}"
    if parent is not None and span["parent_span_id"] != parent["span_id"]:
        yield f"{name} names {span['parent_span_id']} as its parent, not {parent['name']} {parent['span_id']}"
    if span["parent_missing"] or span["cycle"]:
        yield f"{name} has no place in the tree: its parent is missing or is itself"
    if span["status"]["code"] == "ERROR":
        yield f"{name} failed: {span['status']['message'] or span.get('error')}"
    if int(span["end_ns"]) < int(span["start_ns"]):
        yield f"{name} ends before it starts"
    for child in span["children"]:
        yield from _wrong_spans(child, span, trace, session)


def _label(name: str, event_type: str | None, source: str | None, service: str | None) -> str:
    return f"{name} ({event_type}) [source {source}, service {service}]"


def _labelled(turn: tuple[str, str, str, list[Any]]) -> Outline:
    name, event_type, service, children = turn
    return _label(name, event_type, service, service), [_labelled(child) for child in children]


def _outline(span: dict[str, Any], hosted: bool) -> Outline:
    children = [_outline(child, hosted) for child in span["children"]]
    if hosted and span["name"].startswith("agent_run"):
        children = _without_choices(children)
    return _label(span["name"], span["event_type"], span["source"], span["service"]), children


def _without_choices(children: list[Outline]) -> list[Outline]:
    out: list[Outline] = []
    for child in children:
        if child not in out and not child[0].startswith("execute_tool "):
            out.append(child)
    return out


def _lines(outline: Outline, depth: int = 0) -> Iterator[str]:
    label, children = outline
    yield "  " * depth + label
    for child in children:
        yield from _lines(child, depth + 1)
