"""A service that got a request and sends one, with the tracebaton component in `wasmtime`.

It reads the caller's headers, makes a span, writes the headers of the next request, and prints both and the span as
OTLP/JSON: `python service.py tracebaton-context.wasm 'traceparent: 00-…' 'baggage: session_id=…'`
"""

from __future__ import annotations

import sys
from typing import Any

from wasmtime import Engine, Store, WasiConfig
from wasmtime.component import Component, Linker, Record, Variant


class Tracebaton:
    """One instance of the component. It keeps nothing between calls; a thread has its own."""

    def __init__(self, path: str) -> None:
        engine = Engine()
        self._component = Component.from_file(engine, path)
        self._store = Store(engine)
        self._store.set_wasi(WasiConfig())
        linker = Linker(engine)
        linker.add_wasip2()
        self._instance = linker.instantiate(self._store, self._component)

    def call(self, interface: str, name: str, *arguments: Any) -> Any:
        """Calls a function of an interface. A result that is an error comes back as a `Variant`."""
        index = self._component.get_export_index(f"tracebaton:context/{interface}@0.1.0")
        function = self._instance.get_func(self._store, self._component.get_export_index(name, index))
        result = function(self._store, *arguments)
        function.post_return(self._store)
        return result


def record(**fields: Any) -> Record:
    """A record of WIT, whose fields are named with dashes."""
    made = Record()
    for name, value in fields.items():
        setattr(made, name.replace("_", "-"), value)
    return made


def main() -> None:
    """Reads headers from the command line, and prints what the service would send."""
    tracebaton = Tracebaton(sys.argv[1])
    headers = [tuple(line.split(": ", 1)) for line in sys.argv[2:]]

    start = tracebaton.call("spans", "now")
    inbound = tracebaton.call("propagation", "extract", headers, None)
    context = tracebaton.call("propagation", "new-child", inbound.span, None)

    outbound = record(
        span=context,
        session=inbound.session,
        project=None,
        source="component-python",
        application=[],
        is_api_view=False,
        inbound=inbound.baggage,
        policy=None,
        destination="http://agent:8080/",
        origin=None,
    )
    for name, value in tracebaton.call("propagation", "inject", [], outbound).headers:
        print(f"{name}: {value}")

    span = record(
        context=context,
        parent=inbound.span,
        name="answer",
        kind="server",
        start_ns=getattr(start, "unix-ns"),
        end_ns=tracebaton.call("spans", "since", start),
        attributes=[("app.answers", [Variant("integer", 1)])],
        events=[],
        links=[],
        statuses=[],
    )
    session = inbound.session
    routing = record(session=session, otel_session=session, session_name=None, project=None, source="component-python")
    encoded = tracebaton.call("spans", "build", span, routing, None)
    resource = [("service.name", [Variant("text", "component-python")])]
    run = record(scope_name="component-python", scope_version="", scope_attributes=[], schema_url="", spans=[encoded])
    # Both cases of the result are told apart by their class: a text is the good one.
    print(tracebaton.call("spans", "encode-json", resource, [run], "numbers"))


if __name__ == "__main__":
    main()
